//! Reverse mode through a control step: from the gradient of some number with respect to the state after it, to that with
//! respect to state and actuation before it.
//!
//! The forward pass of the control step is done again and its substeps are kept, so that between control steps only states
//! need to be remembered. In names, `bar` is the gradient with respect to what it is the bar of. The bar of a twist and that
//! of a wrench have the same parts, angular and linear, and are both held as twists. Contact, limits and friction have the
//! gradient of the branch that is taken; the factor of the mass matrix is differentiated through the matrix it came from,
//! once for all substeps that used it.

use super::dynamics::{Factor, LinkState, factorise, forces, integrate, kinematics, solve, touch, turned};
use super::model::{Kind, Plan, PlannedContact, PlannedDrive, PlannedLink};
use super::real::{Lanes, Real, Scalar};
use super::spatial::{Inertia, InertiaBar, M3, Quat, Twist, V3, Wrench};
use super::step::Workspace;

/// A substep as it was.
struct Record<R> {
    q: Vec<R>,
    v: Vec<R>,
    links: Vec<LinkState<R>>,
    acceleration: Vec<R>,
}

#[derive(Clone, Copy)]
struct LinkBar<R> {
    turn: Quat<R>,
    place: V3<R>,
    matrix: M3<R>,
    axis: Twist<R>,
    twist: Twist<R>,
    bias: Twist<R>,
    inertia: InertiaBar<R>,
    wrench: Twist<R>,
}

impl<R: Real> LinkBar<R> {
    #[inline(always)]
    fn zero(like: R) -> Self {
        let twist = Twist::zero(like);
        Self {
            turn: Quat(V3::zero(like), like.zero()),
            place: V3::zero(like),
            matrix: M3::zero(like),
            axis: twist,
            twist,
            bias: twist,
            inertia: InertiaBar::zero(like),
            wrench: twist,
        }
    }
}

/// Room for the reverse pass of a control step.
pub(super) struct Reverse<L: Lanes> {
    /// The state before the control step and its actuation; afterwards the state after it.
    pub forward: Workspace<L>,
    /// In: the gradient with respect to the state after the step. Out: before it.
    pub q_bar: Vec<L::Real>,
    pub v_bar: Vec<L::Real>,
    /// Out: the gradient with respect to the actuation of each degree of freedom.
    pub act_bar: Vec<L::Real>,
    records: Vec<Record<L::Real>>,
    factors: Vec<Factor<L::Real>>,
    links: Vec<LinkBar<L::Real>>,
    composite: Vec<InertiaBar<L::Real>>,
    /// Of the mass matrix, lower triangle; an entry off the diagonal stands for both of its places.
    h_bar: Vec<L::Real>,
    tau_bar: Vec<L::Real>,
}

impl<L: Lanes> Reverse<L> {
    pub fn new(lanes: L, plan: &Plan<L::Scalar>) -> Self {
        let zero = lanes.splat(L::Scalar::of(0.0));
        let (nq, n) = (plan.coordinates, plan.freedoms);
        let record = || Record {
            q: vec![zero; nq],
            v: vec![zero; n],
            links: vec![LinkState::zero(zero); plan.links.len()],
            acceleration: vec![zero; n],
        };
        let factor = || Factor { l: vec![zero; n * n], inverse: vec![zero; n] };
        Self {
            forward: Workspace::new(lanes, plan),
            q_bar: vec![zero; nq],
            v_bar: vec![zero; n],
            act_bar: vec![zero; n],
            records: (0..plan.substeps).map(|_| record()).collect(),
            factors: (0..plan.substeps.div_ceil(plan.mass_matrix_every)).map(|_| factor()).collect(),
            links: vec![LinkBar::zero(zero); plan.links.len()],
            composite: vec![InertiaBar::zero(zero); plan.links.len()],
            h_bar: vec![zero; n * n],
            tau_bar: vec![zero; n],
        }
    }

    /// Pulls `q_bar` and `v_bar` back through the control step that starts in `forward.q` and `forward.v`, under `forward.act`.
    #[inline(always)]
    pub fn control_step(&mut self, lanes: L, plan: &Plan<L::Scalar>) {
        self.record(lanes, plan);
        let zero = lanes.splat(L::Scalar::of(0.0));
        self.act_bar.fill(zero);
        self.h_bar.fill(zero);
        if plan.floating {
            // After the step the origin moved to where the body is, which for the gradient is a fixed place.
            let further = V3(self.forward.q[0], zero, self.forward.q[2]);
            let turning = further.cross(vector(&self.v_bar[3..]));
            add_vector(&mut self.v_bar, turning);
        }
        for substep in (0..plan.substeps).rev() {
            self.substep(lanes, plan, substep);
        }
    }

    #[inline(always)]
    fn record(&mut self, lanes: L, plan: &Plan<L::Scalar>) {
        let Workspace { q, v, act, composite, .. } = &mut self.forward;
        for (substep, record) in self.records.iter_mut().enumerate() {
            record.q.copy_from_slice(q);
            record.v.copy_from_slice(v);
            kinematics(lanes, plan, q, v, &mut record.links);
            let factor = &mut self.factors[substep / plan.mass_matrix_every];
            if substep.is_multiple_of(plan.mass_matrix_every) {
                factorise(lanes, plan, &record.links, composite, factor);
            }
            forces(lanes, plan, q, v, act, &mut record.links, &mut record.acceleration);
            solve(&plan.up, factor, &mut record.acceleration);
            integrate(lanes, plan, &record.acceleration, q, v);
        }
    }

    #[inline(always)]
    fn substep(&mut self, lanes: L, plan: &Plan<L::Scalar>, substep: usize) {
        let zero = lanes.splat(L::Scalar::of(0.0));
        let record = &self.records[substep];
        let factor = &self.factors[substep / plan.mass_matrix_every];
        for bar in &mut self.links {
            *bar = LinkBar::zero(zero); // `fill` would copy one from memory
        }
        integrate_bar(lanes, plan, record, &mut self.q_bar, &mut self.v_bar);
        let dt = lanes.splat(plan.dt);
        for (tau, &v) in self.tau_bar.iter_mut().zip(&self.v_bar) {
            *tau = v * dt;
        }
        solve(&plan.up, factor, &mut self.tau_bar);
        solve_bar(plan, &record.acceleration, &self.tau_bar, &mut self.h_bar);
        for (act, &tau) in self.act_bar.iter_mut().zip(&self.tau_bar) {
            *act = *act + tau;
        }
        forces_bar(lanes, plan, record, &self.tau_bar, &mut self.links, &mut self.q_bar, &mut self.v_bar);
        if substep.is_multiple_of(plan.mass_matrix_every) {
            let composite = &mut self.forward.composite;
            mass_matrix_bar(lanes, plan, record, composite, &mut self.composite, &self.h_bar, &mut self.links);
            self.h_bar.fill(zero);
        }
        kinematics_bar(lanes, plan, record, &mut self.links, &mut self.q_bar, &mut self.v_bar);
    }
}

#[inline(always)]
fn vector<R: Real>(x: &[R]) -> V3<R> {
    V3(x[0], x[1], x[2])
}

#[inline(always)]
fn add_vector<R: Real>(x: &mut [R], v: V3<R>) {
    x[0] = x[0] + v.0;
    x[1] = x[1] + v.1;
    x[2] = x[2] + v.2;
}

/// From the bars of the state after the step to those of the coordinates before it and of the velocity after it.
#[inline(always)]
fn integrate_bar<L: Lanes>(
    lanes: L,
    plan: &Plan<L::Scalar>,
    record: &Record<L::Real>,
    q_bar: &mut [L::Real],
    v_bar: &mut [L::Real],
) {
    let dt = lanes.splat(plan.dt);
    for link in &plan.links {
        match link.kind {
            Kind::Free => {
                let after = |i: usize| record.acceleration[i].mul_add(dt, record.v[i]);
                let w = V3(after(0), after(1), after(2));
                let place = vector(&record.q);
                let place_bar = vector(q_bar) * dt;
                add_vector(&mut v_bar[3..], place_bar);
                add_vector(v_bar, place.cross(place_bar));
                add_vector(q_bar, place_bar.cross(w));

                let old = Quat(vector(&record.q[3..]), record.q[6]);
                let long = turned(lanes, plan, w, old);
                let shorten = lanes.splat(L::Scalar::of(1.0)).div(long.dot(long).sqrt());
                let new = long.scale(shorten);
                let new_bar = Quat(vector(&q_bar[3..]), q_bar[6]);
                let long_bar = new_bar.add(new.scale(-new.dot(new_bar))).scale(shorten);
                let half = dt.scale(0.5);
                let zero = dt.zero();
                let old_bar = long_bar.add(Quat(-w, zero).times(long_bar).scale(half));
                let w_bar = long_bar.times(old.conjugate()).scale(half);
                add_vector(v_bar, w_bar.0);
                q_bar[3..7].copy_from_slice(&[old_bar.0.0, old_bar.0.1, old_bar.0.2, old_bar.1]);
            }
            Kind::Revolute(_) | Kind::Prismatic(_) => v_bar[link.v] = q_bar[link.q].mul_add(dt, v_bar[link.v]),
            Kind::Fixed => {}
        }
    }
}

/// With `a = H⁻¹ τ` and `y = H⁻¹ a_bar`: adds `-y aᵀ`, both halves of it in the lower one.
#[inline(always)]
fn solve_bar<T, R: Real>(plan: &Plan<T>, a: &[R], y: &[R], h_bar: &mut [R]) {
    let n = plan.freedoms;
    for i in 0..n {
        h_bar[i * n + i] = y[i].neg_mul_add(a[i], h_bar[i * n + i]);
        let mut above = plan.up[i];
        while let Some(j) = above {
            h_bar[i * n + j] = y[i].neg_mul_add(a[j], y[j].neg_mul_add(a[i], h_bar[i * n + j]));
            above = plan.up[j];
        }
    }
}

#[inline(always)]
fn forces_bar<L: Lanes>(
    lanes: L,
    plan: &Plan<L::Scalar>,
    record: &Record<L::Real>,
    tau_bar: &[L::Real],
    bars: &mut [LinkBar<L::Real>],
    q_bar: &mut [L::Real],
    v_bar: &mut [L::Real],
) {
    let like = lanes.splat(L::Scalar::of(0.0));
    for (index, link) in plan.links.iter().enumerate() {
        let state = &record.links[index];
        let mut wrench = link.parent.map_or(Twist::zero(like), |parent| bars[parent].wrench);
        match &link.kind {
            Kind::Revolute(drive) | Kind::Prismatic(drive) => {
                let tau = tau_bar[link.v];
                passive_bar(like, drive, record.q[link.q], tau, &mut q_bar[link.q], &mut v_bar[link.v]);
                let total = state.wrench.scale(-tau);
                bars[index].axis = bars[index].axis.add(Twist { w: total.t, v: total.f });
                wrench = wrench.add(state.axis.scale(-tau));
            }
            Kind::Free => wrench = Twist { w: -vector(tau_bar), v: -vector(&tau_bar[3..]) },
            Kind::Fixed => {}
        }
        bars[index].wrench = wrench;
        if link.massive {
            body_bar(like.splat(plan.gravity), state, &mut bars[index]);
        }
    }
    for contact in &plan.contacts {
        touch_bar(like, &plan.ground, contact, &record.links[contact.link], &mut bars[contact.link]);
    }
}

#[inline(always)]
fn passive_bar<R: Real>(like: R, drive: &PlannedDrive<R::Scalar>, q: R, tau: R, q_bar: &mut R, v_bar: &mut R) {
    let (lower, upper) = (like.splat(drive.lower), like.splat(drive.upper));
    let stop = like.splat(drive.limit_stiffness);
    let stop = q.if_less(lower, stop, upper.if_less(q, stop, like.zero()));
    *q_bar = (stop + like.splat(drive.stiffness)).neg_mul_add(tau, *q_bar);
    *v_bar = like.splat(drive.damping).neg_mul_add(tau, *v_bar);
}

/// Of `I bias + twist ×* (I twist)` and gravity.
#[inline(always)]
fn body_bar<R: Real>(g: R, state: &LinkState<R>, bar: &mut LinkBar<R>) {
    let (t, f) = (bar.wrench.w, bar.wrench.v);
    let (w, v) = (state.twist.w, state.twist.v);
    let bias = bar.inertia.of_apply(&state.inertia, state.bias, Wrench { t, f });
    bar.bias = bar.bias.add(bias);
    let momentum = state.inertia.apply(state.twist);
    let momentum_bar = Wrench { t: t.cross(w), f: t.cross(v) + f.cross(w) };
    let through = bar.inertia.of_apply(&state.inertia, state.twist, momentum_bar);
    let direct = Twist { w: momentum.t.cross(t) + momentum.f.cross(f), v: momentum.f.cross(t) };
    bar.twist = bar.twist.add(through).add(direct);
    let h = &mut bar.inertia.h;
    (h.0, h.2) = (g.mul_add(t.2, h.0), g.neg_mul_add(t.0, h.2));
}

#[inline(always)]
fn touch_bar<R: Real>(
    like: R,
    ground: &[R::Scalar; 4],
    contact: &PlannedContact<R::Scalar>,
    state: &LinkState<R>,
    bar: &mut LinkBar<R>,
) {
    let zero = like.zero();
    let [ke, kd, kf, mu] = like.splat_all(ground);
    let touch = touch(like, ground, contact, state);
    let (point, velocity, depth) = (touch.point, touch.velocity, touch.point.1);
    let (t, f) = (bar.wrench.w, bar.wrench.v);
    let count = like.splat(contact.count);
    let force_bar = (f + t.cross(point)) * count;
    let pressed = |x: R| depth.if_less(zero, x, zero);
    let (x_bar, y_bar, z_bar) = (pressed(force_bar.0), pressed(force_bar.1), pressed(force_bar.2));
    // normal = ke depth - depth kd min(v_n, 0)
    let damper = velocity.1.min(zero) * kd;
    let mut depth_bar = y_bar * (ke - damper);
    let normal_speed_bar = velocity.1.if_less(zero, -(y_bar * depth * kd), zero);
    // tangent = v_t kf, or v_t cone / |v_t|
    let one = like.splat(R::Scalar::of(1.0));
    let coulomb = touch.cone.if_less(kf * touch.speed, one, zero);
    let safe = zero.if_less(touch.speed, touch.speed, one);
    let (ux, uz) = (velocity.0.div(safe), velocity.2.div(safe));
    let along = (ux * x_bar + uz * z_bar) * coulomb;
    depth_bar = (mu * ke).neg_mul_add(along, depth_bar);
    let factor = pressed(touch.slip_factor);
    let velocity_bar = V3(factor * (x_bar - ux * along), normal_speed_bar, factor * (z_bar - uz * along));
    bar.twist.v = bar.twist.v + velocity_bar;
    bar.twist.w = bar.twist.w + point.cross(velocity_bar);
    // Of wrench = (point × force, force), of the velocity v + ω × point, and of the depth.
    let mut point_bar = touch.force.cross(t) + velocity_bar.cross(state.twist.w);
    point_bar.1 = point_bar.1 + depth_bar;
    bar.place = bar.place + point_bar;
    bar.matrix.add_outer(point_bar, V3::splat(like, contact.point));
}

#[inline(always)]
fn mass_matrix_bar<L: Lanes>(
    lanes: L,
    plan: &Plan<L::Scalar>,
    record: &Record<L::Real>,
    composite: &mut [Inertia<L::Real>],
    composite_bar: &mut [InertiaBar<L::Real>],
    h_bar: &[L::Real],
    bars: &mut [LinkBar<L::Real>],
) {
    let n = plan.freedoms;
    let like = lanes.splat(L::Scalar::of(0.0));
    for (composite, state) in composite.iter_mut().zip(&record.links) {
        *composite = state.inertia;
    }
    for (index, link) in plan.links.iter().enumerate().rev() {
        if let Some(parent) = link.parent {
            composite[parent] = composite[parent].add(&composite[index]);
        }
    }
    for (index, link) in plan.links.iter().enumerate() {
        composite_bar[index] = InertiaBar::zero(like);
        match link.kind {
            Kind::Fixed => {}
            Kind::Free => root_block_bar(n, h_bar, &mut composite_bar[index]),
            Kind::Revolute(_) | Kind::Prismatic(_) => {
                let axis = record.links[index].axis;
                let force = composite[index].apply(axis);
                let force = Twist { w: force.t, v: force.f };
                let row = &h_bar[link.v * n..(link.v + 1) * n];
                let mut force_bar = axis.scale(row[link.v]);
                bars[index].axis = bars[index].axis.add(force.scale(row[link.v]));
                let mut above = link.parent;
                while let Some(i) = above {
                    match plan.links[i].kind {
                        Kind::Revolute(_) | Kind::Prismatic(_) => {
                            let h = row[plan.links[i].v];
                            force_bar = force_bar.add(record.links[i].axis.scale(h));
                            bars[i].axis = bars[i].axis.add(force.scale(h));
                        }
                        Kind::Free => force_bar = force_bar.add(Twist { w: vector(row), v: vector(&row[3..]) }),
                        Kind::Fixed => {}
                    }
                    above = plan.links[i].parent;
                }
                let force_bar = Wrench { t: force_bar.w, f: force_bar.v };
                let axis_bar = composite_bar[index].of_apply(&composite[index], axis, force_bar);
                bars[index].axis = bars[index].axis.add(axis_bar);
            }
        }
        if let Some(parent) = link.parent {
            composite_bar[index] = composite_bar[index].add(&composite_bar[parent]);
        }
        bars[index].inertia = bars[index].inertia.add(&composite_bar[index]);
    }
}

#[inline(always)]
fn root_block_bar<R: Real>(n: usize, h_bar: &[R], bar: &mut InertiaBar<R>) {
    let at = |i: usize, j: usize| h_bar[i * n + j];
    bar.j.xx = bar.j.xx + at(0, 0);
    bar.j.yy = bar.j.yy + at(1, 1);
    bar.j.zz = bar.j.zz + at(2, 2);
    bar.j.xy = at(1, 0).scale(0.5) + bar.j.xy;
    bar.j.xz = at(2, 0).scale(0.5) + bar.j.xz;
    bar.j.yz = at(2, 1).scale(0.5) + bar.j.yz;
    bar.h = bar.h + V3(at(4, 2) - at(5, 1), at(5, 0) - at(3, 2), at(3, 1) - at(4, 0));
}

#[inline(always)]
fn kinematics_bar<L: Lanes>(
    lanes: L,
    plan: &Plan<L::Scalar>,
    record: &Record<L::Real>,
    bars: &mut [LinkBar<L::Real>],
    q_bar: &mut [L::Real],
    v_bar: &mut [L::Real],
) {
    let like = lanes.splat(L::Scalar::of(0.0));
    for (index, link) in plan.links.iter().enumerate().rev() {
        let state = &record.links[index];
        let (others, bar) = bars.split_at_mut(index);
        let bar = &mut bar[0];
        if link.massive {
            weigh_bar(like, link, state, bar);
        }
        if let Kind::Free = link.kind {
            let turn = bar.turn.add(state.turn.matrix_adjoint(&bar.matrix));
            add_vector(q_bar, bar.place);
            add_vector(&mut q_bar[3..], turn.0);
            q_bar[6] = q_bar[6] + turn.1;
            add_vector(v_bar, bar.twist.w);
            add_vector(&mut v_bar[3..], bar.twist.v);
            continue;
        }
        hang_bar(like, link, state, record, bar, q_bar, v_bar);
        let Some(parent) = link.parent else { continue };
        let above = &mut others[parent];
        above.twist = above.twist.add(bar.twist);
        above.bias = above.bias.add(bar.bias);
        above.place = above.place + bar.place;
        above.matrix.add_outer(bar.place, V3::splat(like, link.offset));
        // By now the bars of turn and matrix are those of the joint's parent side.
        match link.turn {
            None => {
                above.matrix.add(&bar.matrix);
                above.turn = above.turn.add(bar.turn);
            }
            Some(own) => {
                let base = bar.turn.add(state.base.matrix_adjoint(&bar.matrix));
                above.turn = above.turn.add(base.times(Quat::splat(like, own).conjugate()));
            }
        }
    }
}

/// Turns the bars of a link's orientation and place into those of its joint's parent side.
#[inline(always)]
fn hang_bar<R: Real>(
    like: R,
    link: &PlannedLink<R::Scalar>,
    state: &LinkState<R>,
    record: &Record<R>,
    bar: &mut LinkBar<R>,
    q_bar: &mut [R],
    v_bar: &mut [R],
) {
    let drive = match &link.kind {
        Kind::Revolute(drive) | Kind::Prismatic(drive) => drive,
        Kind::Fixed | Kind::Free => return,
    };
    let (joint, twist) = (state.joint_twist, state.twist);
    let (a, b) = (bar.bias.w, bar.bias.v);
    bar.twist.w = bar.twist.w + joint.w.cross(a) + joint.v.cross(b);
    bar.twist.v = bar.twist.v + joint.w.cross(b);
    let joint_bar = Twist { w: bar.twist.w + a.cross(twist.w) + b.cross(twist.v), v: bar.twist.v + b.cross(twist.w) };
    let axis_bar = bar.axis.add(joint_bar.scale(record.v[link.v]));
    let power = state.axis.w.dot(joint_bar.w) + state.axis.v.dot(joint_bar.v);
    v_bar[link.v] = v_bar[link.v] + power;
    let own = V3::splat(like, drive.axis);
    match &link.kind {
        Kind::Revolute(_) => {
            let turn_bar = bar.turn.add(state.turn.matrix_adjoint(&bar.matrix));
            let (sin, cos) = state.half;
            let by_joint = Quat(own * sin, cos);
            let joint_turn_bar = state.base.conjugate().times(turn_bar);
            let angle_bar = cos * own.dot(joint_turn_bar.0) - sin * joint_turn_bar.1;
            q_bar[link.q] = angle_bar.scale(0.5) + q_bar[link.q];
            bar.turn = turn_bar.times(by_joint.conjugate());
            let world_bar = axis_bar.w + axis_bar.v.cross(state.place);
            bar.place = bar.place + state.axis.w.cross(axis_bar.v);
            bar.matrix = M3::zero(like);
            bar.matrix.add_outer(world_bar, own);
        }
        Kind::Prismatic(_) => {
            q_bar[link.q] = q_bar[link.q] + state.axis.v.dot(bar.place);
            let world_bar = bar.place.mul_add(record.q[link.q], axis_bar.v);
            bar.matrix.add_outer(world_bar, own);
        }
        Kind::Fixed | Kind::Free => {}
    }
}

#[inline(always)]
fn weigh_bar<R: Real>(like: R, link: &PlannedLink<R::Scalar>, state: &LinkState<R>, bar: &mut LinkBar<R>) {
    let own = super::spatial::Symmetric::splat(like, &link.inertia);
    let M3(a, b, c) = state.matrix;
    let (ia, ib, ic) = (own.apply(a), own.apply(b), own.apply(c));
    let j = &bar.inertia.j;
    let two = like.splat(R::Scalar::of(2.0));
    let rows = M3(
        (ia * j.xx + ib * j.xy + ic * j.xz) * two,
        (ia * j.xy + ib * j.yy + ic * j.yz) * two,
        (ia * j.xz + ib * j.yz + ic * j.zz) * two,
    );
    bar.matrix.add(&rows);
    let centre = state.place + state.arm;
    let m = like.splat(link.mass);
    let trace = j.trace();
    let spread = (centre * trace - j.apply(centre)) * two;
    let centre_bar = (bar.inertia.h + spread) * m;
    bar.place = bar.place + centre_bar;
    bar.matrix.add_outer(centre_bar, V3::splat(like, link.com));
}
