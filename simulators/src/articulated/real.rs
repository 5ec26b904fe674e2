//! Numbers in SIMD lanes: one environment a lane, the same bits in every lane and with every instruction set.
//!
//! Multiplication and addition are fused where the code says so, on every machine; nothing is reordered. So the width of
//! the lanes decides how fast a result comes, and never what it is.

use std::ops::{Add, Mul, Neg, Sub};
use std::slice::from_mut;

use pulp::Simd;
use pulp::bytemuck::cast_slice_mut;

/// The number in one lane.
pub trait Scalar: Copy + Send + Sync + Default + PartialEq + std::fmt::Debug + 'static {
    /// Its lanes with an instruction set.
    type Lanes<S: Simd>: Lanes<Scalar = Self>;
    /// Numbers in 64 bytes: the most lanes that any instruction set has.
    const WIDTH: usize;

    /// Its lanes with this instruction set.
    fn lanes<S: Simd>(simd: S) -> Self::Lanes<S>;
    /// The nearest number of this kind.
    fn of(x: f64) -> Self;
    /// As `f64`, exactly.
    fn to_f64(self) -> f64;
}

impl Scalar for f32 {
    type Lanes<S: Simd> = F32Lanes<S>;
    const WIDTH: usize = 16;

    #[inline(always)]
    fn lanes<S: Simd>(simd: S) -> F32Lanes<S> {
        F32Lanes(simd)
    }
    #[inline(always)]
    fn of(x: f64) -> Self {
        x as f32
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self.into()
    }
}

impl Scalar for f64 {
    type Lanes<S: Simd> = F64Lanes<S>;
    const WIDTH: usize = 8;

    #[inline(always)]
    fn lanes<S: Simd>(simd: S) -> F64Lanes<S> {
        F64Lanes(simd)
    }
    #[inline(always)]
    fn of(x: f64) -> Self {
        x
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }
}

/// A number in each lane.
pub trait Real:
    Copy + Send + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Neg<Output = Self>
{
    /// What is in a lane.
    type Scalar: Scalar;
    /// The instruction set, and how numbers enter and leave its registers.
    type Lanes: Lanes<Scalar = Self::Scalar, Real = Self>;

    /// The same number in every lane.
    #[must_use]
    fn splat(self, x: Self::Scalar) -> Self;
    /// `self * b + c`, rounded once.
    #[must_use]
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// `c - self * b`, rounded once.
    #[must_use]
    fn neg_mul_add(self, b: Self, c: Self) -> Self;
    /// `self / b`.
    #[must_use]
    fn div(self, b: Self) -> Self;
    /// Square root.
    #[must_use]
    fn sqrt(self) -> Self;
    /// The smaller one.
    #[must_use]
    fn min(self, b: Self) -> Self;
    /// In each lane `yes` where `self < b`, else `no`.
    #[must_use]
    fn if_less(self, b: Self, yes: Self, no: Self) -> Self;
    /// Sine and cosine.
    #[must_use]
    fn sin_cos(self) -> (Self, Self);
    /// Two functions of every lane, one after the other.
    #[must_use]
    fn map_lanes(self, f: impl Fn(Self::Scalar) -> (Self::Scalar, Self::Scalar)) -> (Self, Self);

    /// `self * x`.
    #[inline(always)]
    #[must_use]
    fn scale(self, x: f64) -> Self {
        self * self.splat(Self::Scalar::of(x))
    }
    /// Each number in every lane of a register of its own. Not by [`array::map`], which is not compiled for the instruction
    /// set and calls a function for each operation.
    #[inline(always)]
    #[must_use]
    fn splat_all<const N: usize>(self, xs: &[Self::Scalar; N]) -> [Self; N] {
        let mut all = [self; N];
        for (all, &x) in all.iter_mut().zip(xs) {
            *all = self.splat(x);
        }
        all
    }
    /// Zero in every lane.
    #[inline(always)]
    #[must_use]
    fn zero(self) -> Self {
        self.splat(Self::Scalar::of(0.0))
    }
}

/// How numbers enter and leave the registers.
pub trait Lanes: Copy + Send + Sync {
    /// What is in a lane.
    type Scalar: Scalar;
    /// A register.
    type Real: Real<Scalar = Self::Scalar, Lanes = Self>;

    /// Number of lanes.
    fn count(self) -> usize;
    /// The same number in every lane.
    fn splat(self, x: Self::Scalar) -> Self::Real;
    /// The first numbers of a slice.
    ///
    /// # Panics
    /// If the slice is shorter than the lanes.
    fn load(self, from: &[Self::Scalar]) -> Self::Real;
    /// Writes the first numbers of a slice.
    ///
    /// # Panics
    /// If the slice is shorter than the lanes.
    fn store(self, x: Self::Real, into: &mut [Self::Scalar]);
}

macro_rules! lanes {
    ($lanes:ident, $real:ident, $scalar:ty, $reg:ident, $count:ident, $splat:ident, $as:ident, $as_mut:ident, $add:ident,
     $sub:ident, $mul:ident, $div:ident, $neg:ident, $fma:ident, $nfma:ident, $sqrt:ident, $min:ident, $less:ident,
     $select:ident, $what:literal) => {
        #[doc = concat!("Lanes of ", $what, ".")]
        #[derive(Clone, Copy, Debug)]
        pub struct $lanes<S>(pub S);

        #[doc = concat!("A register of ", $what, ".")]
        #[derive(Clone, Copy)]
        pub struct $real<S: Simd>(S, S::$reg);

        impl<S: Simd> Lanes for $lanes<S> {
            type Scalar = $scalar;
            type Real = $real<S>;
            #[inline(always)]
            fn count(self) -> usize {
                S::$count
            }
            #[inline(always)]
            fn splat(self, x: $scalar) -> $real<S> {
                $real(self.0, self.0.$splat(x))
            }
            #[inline(always)]
            fn load(self, from: &[$scalar]) -> $real<S> {
                $real(self.0, S::$as(from).0[0])
            }
            #[inline(always)]
            fn store(self, x: $real<S>, into: &mut [$scalar]) {
                S::$as_mut(into).0[0] = x.1;
            }
        }

        impl<S: Simd> Add for $real<S> {
            type Output = Self;
            #[inline(always)]
            fn add(self, b: Self) -> Self {
                Self(self.0, self.0.$add(self.1, b.1))
            }
        }
        impl<S: Simd> Sub for $real<S> {
            type Output = Self;
            #[inline(always)]
            fn sub(self, b: Self) -> Self {
                Self(self.0, self.0.$sub(self.1, b.1))
            }
        }
        impl<S: Simd> Mul for $real<S> {
            type Output = Self;
            #[inline(always)]
            fn mul(self, b: Self) -> Self {
                Self(self.0, self.0.$mul(self.1, b.1))
            }
        }
        impl<S: Simd> Neg for $real<S> {
            type Output = Self;
            #[inline(always)]
            fn neg(self) -> Self {
                Self(self.0, self.0.$neg(self.1))
            }
        }
        impl<S: Simd> Real for $real<S> {
            type Scalar = $scalar;
            type Lanes = $lanes<S>;
            #[inline(always)]
            fn splat(self, x: $scalar) -> Self {
                Self(self.0, self.0.$splat(x))
            }
            #[inline(always)]
            fn mul_add(self, b: Self, c: Self) -> Self {
                Self(self.0, self.0.$fma(self.1, b.1, c.1))
            }
            #[inline(always)]
            fn neg_mul_add(self, b: Self, c: Self) -> Self {
                Self(self.0, self.0.$nfma(self.1, b.1, c.1))
            }
            #[inline(always)]
            fn div(self, b: Self) -> Self {
                Self(self.0, self.0.$div(self.1, b.1))
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                Self(self.0, self.0.$sqrt(self.1))
            }
            #[inline(always)]
            fn min(self, b: Self) -> Self {
                Self(self.0, self.0.$min(self.1, b.1))
            }
            #[inline(always)]
            fn if_less(self, b: Self, yes: Self, no: Self) -> Self {
                Self(self.0, self.0.$select(self.0.$less(self.1, b.1), yes.1, no.1))
            }
            #[inline(always)]
            fn sin_cos(self) -> (Self, Self) {
                <$scalar as SinCos>::sin_cos(self)
            }
            #[inline(always)]
            fn map_lanes(self, f: impl Fn($scalar) -> ($scalar, $scalar)) -> (Self, Self) {
                let (mut first, mut second) = (self.1, self.1);
                let ones: &mut [$scalar] = cast_slice_mut(from_mut(&mut first));
                let others: &mut [$scalar] = cast_slice_mut(from_mut(&mut second));
                for (one, other) in ones.iter_mut().zip(others) {
                    (*one, *other) = f(*one);
                }
                (Self(self.0, first), Self(self.0, second))
            }
        }
    };
}

lanes!(
    F32Lanes,
    F32,
    f32,
    f32s,
    F32_LANES,
    splat_f32s,
    as_simd_f32s,
    as_mut_simd_f32s,
    add_f32s,
    sub_f32s,
    mul_f32s,
    div_f32s,
    neg_f32s,
    mul_add_f32s,
    negate_mul_add_f32s,
    sqrt_f32s,
    min_f32s,
    less_than_f32s,
    select_f32s,
    "single precision"
);
lanes!(
    F64Lanes,
    F64,
    f64,
    f64s,
    F64_LANES,
    splat_f64s,
    as_simd_f64s,
    as_mut_simd_f64s,
    add_f64s,
    sub_f64s,
    mul_f64s,
    div_f64s,
    neg_f64s,
    mul_add_f64s,
    negate_mul_add_f64s,
    sqrt_f64s,
    min_f64s,
    less_than_f64s,
    select_f64s,
    "double precision"
);

/// Sine and cosine of a register, by the precision of its lanes.
pub(super) trait SinCos: Scalar {
    fn sin_cos<R: Real<Scalar = Self>>(x: R) -> (R, R);
}

impl SinCos for f32 {
    /// To one unit in the last place or two, for angles up to some thousand turns.
    #[inline(always)]
    fn sin_cos<R: Real<Scalar = f32>>(x: R) -> (R, R) {
        // x = n pi/2 + r with |r| <= pi/4. Adding 1.5 * 2^23 and taking it away leaves the nearest whole number.
        let magic = x.splat(12_582_912.0);
        let shifted = x.mul_add(x.splat(std::f32::consts::FRAC_2_PI), magic);
        let n = shifted - magic;
        // pi/2 in three parts, of which the first two have so few digits that n times them is exact.
        let r = n.neg_mul_add(x.splat(1.570_312_5), x);
        let r = n.neg_mul_add(x.splat(4.835_129e-4), r);
        let r = n.neg_mul_add(x.splat(3.138_554_3e-7), r);
        let t = r * r;
        // Minimax polynomials of (sin r / r - 1) / t and (cos r - 1 + t / 2) / t^2, fitted to 4e-9 and 1e-10.
        let p = t.mul_add(x.splat(-1.951_408_5e-4), x.splat(8.332_155e-3)).mul_add(t, x.splat(-0.166_666_55));
        let sin = (r * t).mul_add(p, r);
        let p = t.mul_add(x.splat(2.443_484_6e-5), x.splat(-1.388_733_7e-3)).mul_add(t, x.splat(0.041_666_646));
        let cos = (t * t).mul_add(p, t.neg_mul_add(x.splat(0.5), x.splat(1.0)));
        // n mod 4 says which of the two is which, and with what sign.
        let whole = (n * x.splat(0.25) + magic) - magic;
        let m = whole.neg_mul_add(x.splat(4.0), n); // -2, -1, 0, 1 or 2
        let m2 = m * m;
        let one = x.splat(1.0);
        let odd = (m2 - one) * (m2 - one); // 0 for -1 and 1, else 1 or 9
        let half = x.splat(0.5);
        let (s, c) = (odd.if_less(half, cos, sin), odd.if_less(half, sin, cos));
        let s = m.if_less(x.splat(-0.5), -s, x.splat(1.5).if_less(m, -s, s));
        let c_positive = m2.if_less(half, c, -c);
        // m = -1 gives cos(r - pi/2) = sin r, m = 1 gives -sin r, m = 0 cos r, m = 2 or -2 minus cos r.
        let c = odd.if_less(half, m.if_less(x.zero(), c, -c), c_positive);
        (s, c)
    }
}

impl SinCos for f64 {
    /// The C library's, lane by lane: this precision is for exactness.
    #[inline(always)]
    fn sin_cos<R: Real<Scalar = f64>>(x: R) -> (R, R) {
        x.map_lanes(libm::sincos)
    }
}
