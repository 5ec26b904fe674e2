//! Plain slices of CPU tensors, for the kernels of this crate.

#![expect(
    clippy::inline_always,
    reason = "kernels are compiled per processor feature, and these must be inlined there"
)]

use tch::{Device, Kind, Tensor};

/// Numbers that a thread takes at a time.
pub const CHUNK: usize = 16_384;

/// A number as the map stores it. Arithmetic is in `f32`; `bf16` is only a way to store.
pub trait Element: Copy + Send + Sync + 'static {
    /// The tensor kind whose memory holds this type.
    const KIND: Kind;
    /// Widens to `f32`, exactly.
    fn widen(self) -> f32;
    /// Rounds to the nearest, ties to even.
    fn round(x: f32) -> Self;
}

impl Element for f32 {
    const KIND: Kind = Kind::Float;
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
    #[inline(always)]
    fn round(x: f32) -> Self {
        x
    }
}

impl Element for u8 {
    const KIND: Kind = Kind::Uint8;
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from(self)
    }
    #[inline(always)]
    fn round(x: f32) -> Self {
        x as Self
    }
}

/// The upper half of an `f32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(u16);

impl Bf16 {
    /// Its 16 bits.
    #[inline(always)]
    pub fn bits(self) -> u16 {
        self.0
    }
}

impl Element for Bf16 {
    const KIND: Kind = Kind::BFloat16;
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
    #[inline(always)]
    fn round(x: f32) -> Self {
        let bits = x.to_bits();
        // The NaN that arithmetic makes stays one. Others, which nothing here makes, need not:
        // telling them apart costs several percent of a training step.
        Self((bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16)
    }
}

fn check<T: Element>(tensor: &Tensor, len: usize) {
    assert_eq!(tensor.device(), Device::Cpu, "kernels work on CPU memory");
    assert_eq!(tensor.kind(), T::KIND, "a kernel was given another kind of tensor");
    assert!(tensor.is_contiguous(), "kernels work on contiguous tensors, this has strides {:?}", tensor.stride());
    assert_eq!(tensor.numel(), len, "a kernel expects {len} elements, the tensor has shape {:?}", tensor.size());
}

/// The elements of a contiguous CPU tensor.
///
/// # Panics
/// If the tensor is on another device, of another kind, not contiguous, or has not `len` elements.
pub fn slice<T: Element>(tensor: &Tensor, len: usize) -> &[T] {
    check::<T>(tensor, len);
    // SAFETY: the tensor owns `len` contiguous elements of `T` on the CPU (checked), and outlives the borrow. Torch lets
    // other handles write to the same storage; in this crate no kernel runs while one does.
    #[expect(unsafe_code, reason = "tch gives no other view of a tensor's memory")]
    unsafe {
        std::slice::from_raw_parts(tensor.data_ptr().cast::<T>(), len)
    }
}

/// The elements of a contiguous CPU tensor, to write to.
///
/// # Panics
/// As [`slice`].
pub fn slice_mut<T: Element>(tensor: &mut Tensor, len: usize) -> &mut [T] {
    check::<T>(tensor, len);
    // SAFETY: as in `slice`; the exclusive borrow of the handle stands for the exclusive use of its storage, which the
    // callers made themselves.
    #[expect(unsafe_code, reason = "tch gives no other view of a tensor's memory")]
    unsafe {
        std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<T>(), len)
    }
}

/// Compiles `$name` three times (AVX-512, AVX2, portable) and picks one at run time. All three do the same operations in
/// the same order on each element, so they give the same bits.
macro_rules! for_every_cpu {
    ($name:ident, $inner:ident, ($($arg:ident: $ty:ty),* $(,)?)) => {
        fn $name<T: Element>($($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
                fn avx512<T: Element>($($arg: $ty),*) { $inner::<T>($($arg),*) }
                #[target_feature(enable = "avx2")]
                fn avx2<T: Element>($($arg: $ty),*) { $inner::<T>($($arg),*) }
                if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512dq") {
                    // SAFETY: the features were just detected.
                    #[expect(unsafe_code, reason = "calling code compiled for a detected CPU feature")]
                    return unsafe { avx512::<T>($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the feature was just detected.
                    #[expect(unsafe_code, reason = "calling code compiled for a detected CPU feature")]
                    return unsafe { avx2::<T>($($arg),*) };
                }
            }
            $inner::<T>($($arg),*);
        }
    };
}
pub(crate) use for_every_cpu;
