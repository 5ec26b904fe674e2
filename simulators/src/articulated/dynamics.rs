//! One substep forward: where everything is, what pulls on it, how it accelerates, and the step of semi-implicit Euler.
//!
//! All links are described in the world's axes about one fixed origin, so that velocities and inertias of different links
//! add up without being transformed (Featherstone, *Rigid Body Dynamics Algorithms*, 2008, chapters 5 and 6; the wrench of a
//! link is the one its joint must supply: inertial minus gravity minus contact). Contact, limits and damping follow dflex.

use super::model::{Kind, Plan, PlannedContact, PlannedDrive, PlannedLink};
use super::real::{Lanes, Real, Scalar};
use super::spatial::{Inertia, M3, Quat, Symmetric, Twist, V3, Wrench};

/// A link in a certain state.
#[derive(Clone, Copy)]
pub(super) struct LinkState<R> {
    /// Orientation and place.
    pub turn: Quat<R>,
    pub place: V3<R>,
    /// The matrix of `turn`.
    pub matrix: M3<R>,
    /// Orientation of the joint's parent side, and its matrix, where the joint turns or slides.
    pub base: Quat<R>,
    pub base_matrix: M3<R>,
    /// Sine and cosine of half the joint's angle.
    pub half: (R, R),
    /// The joint's unit twist.
    pub axis: Twist<R>,
    /// Twist of the joint, of the link, and the link's acceleration but for that of the coordinates.
    pub joint_twist: Twist<R>,
    pub twist: Twist<R>,
    pub bias: Twist<R>,
    /// Centre of mass, from the link's place.
    pub arm: V3<R>,
    pub inertia: Inertia<R>,
    /// The wrench that the joint supplies, for this link and all that hang on it.
    pub wrench: Wrench<R>,
}

/// The mass matrix as `Lᵀ D L`, L of ones on its diagonal. Rows have entries where the column is on the way to the root.
pub(super) struct Factor<R> {
    /// `[n, n]`.
    pub l: Vec<R>,
    /// `1 / D`.
    pub inverse: Vec<R>,
}

impl<R: Real> LinkState<R> {
    #[inline(always)]
    pub fn zero(like: R) -> Self {
        let (v, m, t, zero) = (V3::zero(like), M3::zero(like), Twist::zero(like), like.zero());
        Self {
            turn: Quat(v, zero),
            place: v,
            matrix: m,
            base: Quat(v, zero),
            base_matrix: m,
            half: (zero, zero),
            axis: t,
            joint_twist: t,
            twist: t,
            bias: t,
            arm: v,
            inertia: Inertia {
                m: zero,
                h: v,
                j: Symmetric { xx: zero, yy: zero, zz: zero, xy: zero, xz: zero, yz: zero },
            },
            wrench: Wrench::zero(like),
        }
    }
}

#[inline(always)]
fn vector<R: Real>(x: &[R]) -> V3<R> {
    V3(x[0], x[1], x[2])
}

/// Places, twists and inertias of all links.
#[inline(always)]
pub(super) fn kinematics<L: Lanes>(
    lanes: L,
    plan: &Plan<L::Scalar>,
    q: &[L::Real],
    v: &[L::Real],
    links: &mut [LinkState<L::Real>],
) {
    let like = lanes.splat(L::Scalar::of(0.0));
    for (index, link) in plan.links.iter().enumerate() {
        let (before, state) = links.split_at_mut(index);
        let (parent, state) = (link.parent.map(|parent| &before[parent]), &mut state[0]);
        if let Kind::Free = link.kind {
            state.turn = Quat(vector(&q[3..]), q[6]);
            state.place = vector(q);
            state.matrix = state.turn.matrix();
            state.twist = Twist { w: vector(v), v: vector(&v[3..]) };
            state.bias = Twist::zero(like);
        } else {
            hang(like, link, parent, q, v, state);
        }
        if link.massive {
            weigh(like, link, state);
        }
    }
}

/// A link that hangs on another, or on the world.
#[inline(always)]
fn hang<R: Real>(
    like: R,
    link: &PlannedLink<R::Scalar>,
    parent: Option<&LinkState<R>>,
    q: &[R],
    v: &[R],
    state: &mut LinkState<R>,
) {
    let offset = V3::splat(like, link.offset);
    let unit = Quat::splat(like, [0.0, 0.0, 0.0, 1.0].map(R::Scalar::of));
    let (turn, matrix, place) = match parent {
        Some(parent) => (parent.turn, parent.matrix, parent.place + parent.matrix.apply(offset)),
        None => (unit, unit.matrix(), offset),
    };
    (state.base, state.base_matrix) = match link.turn {
        None => (turn, matrix),
        Some(own) => {
            let base = turn.times(Quat::splat(like, own));
            (base, base.matrix())
        }
    };
    let still = Twist::zero(like);
    let (twist, bias) = parent.map_or((still, still), |parent| (parent.twist, parent.bias));
    match &link.kind {
        Kind::Revolute(drive) => {
            state.half = q[link.q].scale(0.5).sin_cos();
            let axis = V3::splat(like, drive.axis);
            state.turn = state.base.times(Quat(axis * state.half.0, state.half.1));
            state.place = place;
            state.matrix = state.turn.matrix();
            let axis = state.base_matrix.apply(axis);
            state.axis = Twist { w: axis, v: place.cross(axis) };
        }
        Kind::Prismatic(drive) => {
            let axis = state.base_matrix.apply(V3::splat(like, drive.axis));
            (state.turn, state.matrix) = (state.base, state.base_matrix);
            state.place = axis.mul_add(q[link.q], place);
            state.axis = Twist { w: V3::zero(like), v: axis };
        }
        Kind::Fixed | Kind::Free => {
            (state.turn, state.matrix, state.place) = (state.base, state.base_matrix, place);
            (state.joint_twist, state.twist, state.bias) = (still, twist, bias);
            return;
        }
    }
    state.joint_twist = state.axis.scale(v[link.v]);
    state.twist = twist.add(state.joint_twist);
    state.bias = bias.add(state.twist.cross(state.joint_twist));
}

/// Inertia about the origin.
#[inline(always)]
fn weigh<R: Real>(like: R, link: &PlannedLink<R::Scalar>, state: &mut LinkState<R>) {
    let own = Symmetric::splat(like, &link.inertia);
    let M3(a, b, c) = state.matrix;
    // R I Rᵀ by the rows of R.
    let (ia, ib, ic) = (own.apply(a), own.apply(b), own.apply(c));
    state.arm = state.matrix.apply(V3::splat(like, link.com));
    let centre = state.place + state.arm;
    let m = like.splat(link.mass);
    let h = centre * m;
    let square = h.dot(centre);
    state.inertia = Inertia {
        m,
        h,
        j: Symmetric {
            xx: a.dot(ia) + h.0.neg_mul_add(centre.0, square),
            yy: b.dot(ib) + h.1.neg_mul_add(centre.1, square),
            zz: c.dot(ic) + h.2.neg_mul_add(centre.2, square),
            xy: h.0.neg_mul_add(centre.1, a.dot(ib)),
            xz: h.0.neg_mul_add(centre.2, a.dot(ic)),
            yz: h.1.neg_mul_add(centre.2, b.dot(ic)),
        },
    };
}

/// The mass matrix at the present places (the composite rigid body algorithm), with armature, factorised.
#[inline(always)]
pub(super) fn factorise<L: Lanes>(
    lanes: L,
    plan: &Plan<L::Scalar>,
    links: &[LinkState<L::Real>],
    composite: &mut [Inertia<L::Real>],
    factor: &mut Factor<L::Real>,
) {
    mass_matrix(lanes, plan, links, composite, &mut factor.l);
    let n = plan.freedoms;
    let one = lanes.splat(L::Scalar::of(1.0));
    for (k, &armature) in plan.armature.iter().enumerate() {
        factor.l[k * n + k] = factor.l[k * n + k] + lanes.splat(armature);
    }
    let h = &mut factor.l;
    for k in (0..n).rev() {
        let inverse = one.div(h[k * n + k]);
        factor.inverse[k] = inverse;
        let mut next = plan.up[k];
        while let Some(i) = next {
            let a = h[k * n + i] * inverse;
            let mut inner = Some(i);
            while let Some(j) = inner {
                h[i * n + j] = a.neg_mul_add(h[k * n + j], h[i * n + j]);
                inner = plan.up[j];
            }
            h[k * n + i] = a;
            next = plan.up[i];
        }
    }
}

/// The lower triangle of the mass matrix without armature, where it is not zero, `[n, n]`.
#[inline(always)]
pub(super) fn mass_matrix<L: Lanes>(
    lanes: L,
    plan: &Plan<L::Scalar>,
    links: &[LinkState<L::Real>],
    composite: &mut [Inertia<L::Real>],
    h: &mut [L::Real],
) {
    let n = plan.freedoms;
    for (composite, state) in composite.iter_mut().zip(links) {
        *composite = state.inertia;
    }
    for (index, link) in plan.links.iter().enumerate().rev() {
        if let Some(parent) = link.parent {
            composite[parent] = composite[parent].add(&composite[index]);
        }
    }
    for (index, link) in plan.links.iter().enumerate() {
        match link.kind {
            Kind::Fixed => {}
            Kind::Free => root_block(lanes, &composite[index], n, h),
            Kind::Revolute(_) | Kind::Prismatic(_) => {
                let force = composite[index].apply(links[index].axis);
                let row = &mut h[link.v * n..(link.v + 1) * n];
                row[link.v] = links[index].axis.dot(force);
                let mut above = link.parent;
                while let Some(i) = above {
                    match plan.links[i].kind {
                        Kind::Revolute(_) | Kind::Prismatic(_) => row[plan.links[i].v] = links[i].axis.dot(force),
                        Kind::Free => {
                            (row[0], row[1], row[2]) = (force.t.0, force.t.1, force.t.2);
                            (row[3], row[4], row[5]) = (force.f.0, force.f.1, force.f.2);
                        }
                        Kind::Fixed => {}
                    }
                    above = plan.links[i].parent;
                }
            }
        }
    }
}

/// The 6 x 6 inertia of everything, lower triangle: `[[j, [h]], [-[h], m]]`.
#[inline(always)]
fn root_block<L: Lanes>(lanes: L, all: &Inertia<L::Real>, n: usize, h: &mut [L::Real]) {
    let zero = lanes.splat(L::Scalar::of(0.0));
    let Inertia { m, h: V3(x, y, z), j } = *all;
    let rows = [
        [j.xx, zero, zero, zero, zero, zero],
        [j.xy, j.yy, zero, zero, zero, zero],
        [j.xz, j.yz, j.zz, zero, zero, zero],
        [zero, z, -y, m, zero, zero],
        [-z, zero, x, zero, m, zero],
        [y, -x, zero, zero, zero, m],
    ];
    for (i, row) in rows.iter().enumerate() {
        h[i * n..=i * n + i].copy_from_slice(&row[..=i]);
    }
}

/// `x = H⁻¹ x`.
#[inline(always)]
pub(super) fn solve<R: Real>(up: &[Option<usize>], factor: &Factor<R>, x: &mut [R]) {
    let n = x.len();
    for i in (0..n).rev() {
        let mut above = up[i];
        while let Some(j) = above {
            x[j] = factor.l[i * n + j].neg_mul_add(x[i], x[j]);
            above = up[j];
        }
    }
    for i in 0..n {
        x[i] = x[i] * factor.inverse[i];
        let mut above = up[i];
        while let Some(j) = above {
            x[i] = factor.l[i * n + j].neg_mul_add(x[j], x[i]);
            above = up[j];
        }
    }
}

/// The joint-space forces `tau`, given what [`kinematics`] found and the actuation of each degree of freedom.
#[inline(always)]
pub(super) fn forces<L: Lanes>(
    lanes: L,
    plan: &Plan<L::Scalar>,
    q: &[L::Real],
    v: &[L::Real],
    act: &[L::Real],
    links: &mut [LinkState<L::Real>],
    tau: &mut [L::Real],
) {
    let like = lanes.splat(L::Scalar::of(0.0));
    let g = like.splat(plan.gravity);
    for (link, state) in plan.links.iter().zip(links.iter_mut()) {
        if link.massive {
            let momentum = state.inertia.apply(state.twist);
            let rate = state.inertia.apply(state.bias).add(state.twist.cross_wrench(momentum));
            let Inertia { m, h, .. } = state.inertia;
            // Minus (h × g, m g) with g downwards along y.
            state.wrench = Wrench {
                t: V3(h.2.neg_mul_add(g, rate.t.0), rate.t.1, h.0.mul_add(g, rate.t.2)),
                f: V3(rate.f.0, m.mul_add(g, rate.f.1), rate.f.2),
            };
        } else {
            state.wrench = Wrench::zero(like);
        }
    }
    for contact in &plan.contacts {
        let push = touch(like, &plan.ground, contact, &links[contact.link]).wrench();
        links[contact.link].wrench = links[contact.link].wrench.add(push);
    }
    for (index, link) in plan.links.iter().enumerate().rev() {
        let state = links[index];
        match &link.kind {
            Kind::Revolute(drive) | Kind::Prismatic(drive) => {
                let passive = passive(like, drive, q[link.q], v[link.v]);
                tau[link.v] = act[link.v] + passive - state.axis.dot(state.wrench);
            }
            Kind::Free => {
                let Wrench { t, f } = state.wrench;
                for (tau, x) in tau[..6].iter_mut().zip([t.0, t.1, t.2, f.0, f.1, f.2]) {
                    *tau = -x;
                }
            }
            Kind::Fixed => {}
        }
        if let Some(parent) = link.parent {
            links[parent].wrench = links[parent].wrench.add(state.wrench);
        }
    }
}

/// Spring, stops and damping of a joint.
#[inline(always)]
fn passive<R: Real>(like: R, drive: &PlannedDrive<R::Scalar>, q: R, v: R) -> R {
    let (lower, upper) = (like.splat(drive.lower), like.splat(drive.upper));
    let beyond = q.if_less(lower, lower - q, upper.if_less(q, upper - q, like.zero()));
    let stop = beyond * like.splat(drive.limit_stiffness);
    let spring = (q - like.splat(drive.target)) * like.splat(drive.stiffness);
    v.neg_mul_add(like.splat(drive.damping), stop - spring)
}

/// What a contact point does.
#[derive(Clone, Copy)]
pub(super) struct Touch<R> {
    /// The point that touches.
    pub point: V3<R>,
    /// Its velocity.
    pub velocity: V3<R>,
    /// Slip speed, and what it is multiplied by to give the friction.
    pub speed: R,
    pub slip_factor: R,
    /// The friction that the cone allows.
    pub cone: R,
    /// The negative of the force on the link; zero above the ground.
    pub force: V3<R>,
}

impl<R: Real> Touch<R> {
    #[inline(always)]
    fn wrench(&self) -> Wrench<R> {
        Wrench { t: self.point.cross(self.force), f: self.force }
    }
}

/// A contact point on the ground.
#[inline(always)]
pub(super) fn touch<R: Real>(
    like: R,
    ground: &[R::Scalar; 4],
    contact: &PlannedContact<R::Scalar>,
    state: &LinkState<R>,
) -> Touch<R> {
    let zero = like.zero();
    let [ke, kd, kf, mu] = like.splat_all(ground);
    let arm = state.matrix.apply(V3::splat(like, contact.point));
    let reach = state.place + arm;
    let point = V3(reach.0, reach.1 - like.splat(contact.thickness), reach.2);
    let velocity = state.twist.v + state.twist.w.cross(point);
    let depth = point.1;
    let spring = ke * depth;
    let damper = velocity.1.min(zero) * kd;
    let normal = depth.neg_mul_add(damper, spring);
    let speed = velocity.2.mul_add(velocity.2, velocity.0 * velocity.0).sqrt();
    let cone = -(mu * spring);
    // Where nothing slips, the factor is kf, and the division by zero is not taken.
    let slip_factor = cone.if_less(kf * speed, cone.div(speed), kf);
    let count = like.splat(contact.count);
    let tangent = slip_factor * count;
    let pressed = |x: R| depth.if_less(zero, x, zero);
    let force = V3(pressed(tangent * velocity.0), pressed(normal * count), pressed(tangent * velocity.2));
    Touch { point, velocity, speed, slip_factor, cone, force }
}

/// The next state, in place: `v += dt a`, then `q` by the new `v`.
#[inline(always)]
pub(super) fn integrate<L: Lanes>(
    lanes: L,
    plan: &Plan<L::Scalar>,
    acceleration: &[L::Real],
    q: &mut [L::Real],
    v: &mut [L::Real],
) {
    let dt = lanes.splat(plan.dt);
    for (v, &a) in v.iter_mut().zip(acceleration) {
        *v = a.mul_add(dt, *v);
    }
    for link in &plan.links {
        match link.kind {
            Kind::Free => {
                let (w, u) = (vector(v), vector(&v[3..]));
                let place = vector(q);
                let place = (u + w.cross(place)).mul_add(dt, place);
                let turn = turned(lanes, plan, w, Quat(vector(&q[3..]), q[6]));
                let length = turn.dot(turn).sqrt();
                let turn = turn.scale(lanes.splat(L::Scalar::of(1.0)).div(length));
                let new = [place.0, place.1, place.2, turn.0.0, turn.0.1, turn.0.2, turn.1];
                q[..7].copy_from_slice(&new);
            }
            Kind::Revolute(_) | Kind::Prismatic(_) => q[link.q] = v[link.v].mul_add(dt, q[link.q]),
            Kind::Fixed => {}
        }
    }
}

/// `r + dt/2 (ω, 0) ⊗ r`, not yet of length one.
#[inline(always)]
pub(super) fn turned<L: Lanes>(lanes: L, plan: &Plan<L::Scalar>, w: V3<L::Real>, r: Quat<L::Real>) -> Quat<L::Real> {
    let zero = lanes.splat(L::Scalar::of(0.0));
    let half = lanes.splat(plan.dt).scale(0.5);
    r.add(Quat(w, zero).times(r).scale(half))
}
