//! Vectors, quaternions, twists and wrenches in SIMD lanes.
//!
//! Quaternions are `(x, y, z, w)`. Twists `(ω, v)` and wrenches `(τ, f)` are angular first and, as everything here, in the
//! world's axes about one fixed point, the origin: `v` is the velocity of the body's point that is at the origin now.
//! Formulas are polynomial and are differentiated as they stand; nothing is normalised on the way.

use std::ops::{Add, Mul, Neg, Sub};

use super::real::Real;

/// A vector.
#[derive(Clone, Copy)]
pub(super) struct V3<R>(pub R, pub R, pub R);

impl<R: Real> Add for V3<R> {
    type Output = Self;
    #[inline(always)]
    fn add(self, b: Self) -> Self {
        Self(self.0 + b.0, self.1 + b.1, self.2 + b.2)
    }
}

impl<R: Real> Sub for V3<R> {
    type Output = Self;
    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        Self(self.0 - b.0, self.1 - b.1, self.2 - b.2)
    }
}

impl<R: Real> Neg for V3<R> {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Self(-self.0, -self.1, -self.2)
    }
}

impl<R: Real> Mul<R> for V3<R> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, s: R) -> Self {
        Self(self.0 * s, self.1 * s, self.2 * s)
    }
}

impl<R: Real> V3<R> {
    #[inline(always)]
    pub fn zero(like: R) -> Self {
        Self(like.zero(), like.zero(), like.zero())
    }

    /// The same vector in every lane.
    #[inline(always)]
    pub fn splat(like: R, v: [R::Scalar; 3]) -> Self {
        Self(like.splat(v[0]), like.splat(v[1]), like.splat(v[2]))
    }

    #[inline(always)]
    pub fn dot(self, b: Self) -> R {
        self.2.mul_add(b.2, self.1.mul_add(b.1, self.0 * b.0))
    }

    #[inline(always)]
    pub fn cross(self, b: Self) -> Self {
        Self(
            self.2.neg_mul_add(b.1, self.1 * b.2),
            self.0.neg_mul_add(b.2, self.2 * b.0),
            self.1.neg_mul_add(b.0, self.0 * b.1),
        )
    }

    /// `self * s + b`.
    #[inline(always)]
    pub fn mul_add(self, s: R, b: Self) -> Self {
        Self(self.0.mul_add(s, b.0), self.1.mul_add(s, b.1), self.2.mul_add(s, b.2))
    }
}

/// A matrix, by rows.
#[derive(Clone, Copy)]
pub(super) struct M3<R>(pub V3<R>, pub V3<R>, pub V3<R>);

impl<R: Real> M3<R> {
    #[inline(always)]
    pub fn zero(like: R) -> Self {
        Self(V3::zero(like), V3::zero(like), V3::zero(like))
    }

    #[inline(always)]
    pub fn apply(&self, v: V3<R>) -> V3<R> {
        V3(self.0.dot(v), self.1.dot(v), self.2.dot(v))
    }

    /// The transpose times `v`.
    #[inline(always)]
    pub fn transposed(&self, v: V3<R>) -> V3<R> {
        self.2.mul_add(v.2, self.1.mul_add(v.1, self.0 * v.0))
    }

    #[inline(always)]
    pub fn add(&mut self, b: &Self) {
        *self = Self(self.0 + b.0, self.1 + b.1, self.2 + b.2);
    }

    /// Adds `a bᵀ`.
    #[inline(always)]
    pub fn add_outer(&mut self, a: V3<R>, b: V3<R>) {
        self.0 = b.mul_add(a.0, self.0);
        self.1 = b.mul_add(a.1, self.1);
        self.2 = b.mul_add(a.2, self.2);
    }
}

/// A symmetric matrix.
#[derive(Clone, Copy)]
pub(super) struct Symmetric<R> {
    pub xx: R,
    pub yy: R,
    pub zz: R,
    pub xy: R,
    pub xz: R,
    pub yz: R,
}

impl<R: Real> Symmetric<R> {
    #[inline(always)]
    pub fn splat(like: R, m: &[R::Scalar; 6]) -> Self {
        let [xx, yy, zz, xy, xz, yz] = like.splat_all(m);
        Self { xx, yy, zz, xy, xz, yz }
    }

    #[inline(always)]
    pub fn apply(&self, v: V3<R>) -> V3<R> {
        V3(
            V3(self.xx, self.xy, self.xz).dot(v),
            V3(self.xy, self.yy, self.yz).dot(v),
            V3(self.xz, self.yz, self.zz).dot(v),
        )
    }

    #[inline(always)]
    pub fn trace(&self) -> R {
        self.xx + self.yy + self.zz
    }

    #[inline(always)]
    pub fn add(&self, b: &Self) -> Self {
        Self {
            xx: self.xx + b.xx,
            yy: self.yy + b.yy,
            zz: self.zz + b.zz,
            xy: self.xy + b.xy,
            xz: self.xz + b.xz,
            yz: self.yz + b.yz,
        }
    }

    /// Adds the symmetric part of `a bᵀ`.
    #[inline(always)]
    pub fn add_outer(&mut self, a: V3<R>, b: V3<R>) {
        let half = |x: R, y: R, z: R, w: R| x.mul_add(y, z * w).scale(0.5);
        self.xx = a.0.mul_add(b.0, self.xx);
        self.yy = a.1.mul_add(b.1, self.yy);
        self.zz = a.2.mul_add(b.2, self.zz);
        self.xy = self.xy + half(a.0, b.1, a.1, b.0);
        self.xz = self.xz + half(a.0, b.2, a.2, b.0);
        self.yz = self.yz + half(a.1, b.2, a.2, b.1);
    }
}

/// A quaternion `(u, w)`.
#[derive(Clone, Copy)]
pub(super) struct Quat<R>(pub V3<R>, pub R);

impl<R: Real> Quat<R> {
    #[inline(always)]
    pub fn splat(like: R, q: [R::Scalar; 4]) -> Self {
        Self(V3::splat(like, [q[0], q[1], q[2]]), like.splat(q[3]))
    }

    /// Hamilton's product.
    #[inline(always)]
    pub fn times(self, b: Self) -> Self {
        let (u, w) = (self.0, self.1);
        Self(b.0.mul_add(w, u.mul_add(b.1, u.cross(b.0))), w * b.1 - u.dot(b.0))
    }

    #[inline(always)]
    pub fn conjugate(self) -> Self {
        Self(-self.0, self.1)
    }

    #[inline(always)]
    pub fn add(self, b: Self) -> Self {
        Self(self.0 + b.0, self.1 + b.1)
    }

    /// The matrix of `v -> v (2 w² - 1) + 2 w u×v + 2 u (u·v)`.
    #[inline(always)]
    pub fn matrix(self) -> M3<R> {
        let (V3(x, y, z), w) = (self.0, self.1);
        let one = w.splat(<R::Scalar as super::real::Scalar>::of(1.0));
        let (x2, y2, z2, w2) = (x + x, y + y, z + z, w + w);
        let d = w2.mul_add(w, -one);
        let (wx, wy, wz) = (w2 * x, w2 * y, w2 * z);
        let (xy, xz, yz) = (x2 * y, x2 * z, y2 * z);
        M3(
            V3(x2.mul_add(x, d), xy - wz, xz + wy),
            V3(xy + wz, y2.mul_add(y, d), yz - wx),
            V3(xz - wy, yz + wx, z2.mul_add(z, d)),
        )
    }

    /// The gradient of [`Quat::matrix`], given that of the matrix.
    #[inline(always)]
    pub fn matrix_adjoint(self, m: &M3<R>) -> Self {
        let (u, w) = (self.0, self.1);
        let skew = V3(m.2.1 - m.1.2, m.0.2 - m.2.0, m.1.0 - m.0.1);
        let (trace, two) = (m.0.0 + m.1.1 + m.2.2, w + w);
        let both = m.apply(u) + m.transposed(u);
        let u_bar = skew.mul_add(two, both + both);
        let skew_u = skew.dot(u);
        Self(u_bar, (two + two).mul_add(trace, skew_u + skew_u))
    }

    #[inline(always)]
    pub fn dot(self, b: Self) -> R {
        self.1.mul_add(b.1, self.0.dot(b.0))
    }

    #[inline(always)]
    pub fn scale(self, s: R) -> Self {
        Self(self.0 * s, self.1 * s)
    }
}

/// A twist `(ω, v)`.
#[derive(Clone, Copy)]
pub(super) struct Twist<R> {
    pub w: V3<R>,
    pub v: V3<R>,
}

/// A wrench `(τ, f)`.
#[derive(Clone, Copy)]
pub(super) struct Wrench<R> {
    pub t: V3<R>,
    pub f: V3<R>,
}

impl<R: Real> Twist<R> {
    #[inline(always)]
    pub fn zero(like: R) -> Self {
        Self { w: V3::zero(like), v: V3::zero(like) }
    }

    #[inline(always)]
    pub fn add(self, b: Self) -> Self {
        Self { w: self.w + b.w, v: self.v + b.v }
    }

    #[inline(always)]
    pub fn scale(self, s: R) -> Self {
        Self { w: self.w * s, v: self.v * s }
    }

    /// Power: twist times wrench.
    #[inline(always)]
    pub fn dot(self, f: Wrench<R>) -> R {
        self.w.dot(f.t) + self.v.dot(f.f)
    }

    /// `self × b`, the rate at which a twist fixed to a body that moves by `self` changes.
    #[inline(always)]
    pub fn cross(self, b: Self) -> Self {
        Self { w: self.w.cross(b.w), v: self.v.cross(b.w) + self.w.cross(b.v) }
    }

    /// `self ×* f`, the same for a wrench.
    #[inline(always)]
    pub fn cross_wrench(self, f: Wrench<R>) -> Wrench<R> {
        Wrench { t: self.w.cross(f.t) + self.v.cross(f.f), f: self.w.cross(f.f) }
    }
}

impl<R: Real> Wrench<R> {
    #[inline(always)]
    pub fn zero(like: R) -> Self {
        Self { t: V3::zero(like), f: V3::zero(like) }
    }

    #[inline(always)]
    pub fn add(self, b: Self) -> Self {
        Self { t: self.t + b.t, f: self.f + b.f }
    }

    #[inline(always)]
    pub fn scale(self, s: R) -> Self {
        Self { t: self.t * s, f: self.f * s }
    }
}

/// The inertia of a body, or of several together, about the origin: `m`, `h = m c` and the rotational part `j`.
#[derive(Clone, Copy)]
pub(super) struct Inertia<R> {
    pub m: R,
    pub h: V3<R>,
    pub j: Symmetric<R>,
}

impl<R: Real> Inertia<R> {
    /// Momentum of a body that moves by `twist`: `(j ω + h × v, m v - h × ω)`.
    #[inline(always)]
    pub fn apply(&self, twist: Twist<R>) -> Wrench<R> {
        Wrench { t: self.j.apply(twist.w) + self.h.cross(twist.v), f: twist.v.mul_add(self.m, twist.w.cross(self.h)) }
    }

    #[inline(always)]
    pub fn add(&self, b: &Self) -> Self {
        Self { m: self.m + b.m, h: self.h + b.h, j: self.j.add(&b.j) }
    }
}

/// The gradient with respect to an [`Inertia`], whose mass is a constant.
#[derive(Clone, Copy)]
pub(super) struct InertiaBar<R> {
    pub h: V3<R>,
    pub j: Symmetric<R>,
}

impl<R: Real> InertiaBar<R> {
    #[inline(always)]
    pub fn zero(like: R) -> Self {
        let zero = like.zero();
        Self { h: V3::zero(like), j: Symmetric { xx: zero, yy: zero, zz: zero, xy: zero, xz: zero, yz: zero } }
    }

    #[inline(always)]
    pub fn add(&self, b: &Self) -> Self {
        Self { h: self.h + b.h, j: self.j.add(&b.j) }
    }

    /// Takes in the gradient `bar` of `inertia.apply(twist)` and returns that of the twist, by the inertia's symmetry
    /// `inertia.apply(bar)`.
    #[inline(always)]
    pub fn of_apply(&mut self, inertia: &Inertia<R>, twist: Twist<R>, bar: Wrench<R>) -> Twist<R> {
        self.j.add_outer(bar.t, twist.w);
        self.h = self.h + twist.v.cross(bar.t) + bar.f.cross(twist.w);
        let back = inertia.apply(Twist { w: bar.t, v: bar.f });
        Twist { w: back.t, v: back.f }
    }
}
