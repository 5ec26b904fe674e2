//! Plain slices of CPU tensors, for the kernels of this crate: the only place that touches raw memory.

#![expect(
    clippy::inline_always,
    reason = "kernels are compiled per processor feature, and these must be inlined there"
)]

use rayon::prelude::*;
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

/// The sum of tensors of one shape, all of them in single precision or all in [`Bf16`], in their order and in one pass over memory. It is
/// in single precision; one alone that is so already is returned as it is.
///
/// # Panics
/// As [`slice`], for each of them; if there is none.
pub fn sum(parts: &[&Tensor]) -> Tensor {
    fn of<T: Element>(parts: &[&Tensor], sum: &mut [f32]) {
        let parts: Vec<&[T]> = parts.iter().map(|part| slice(part, sum.len())).collect();
        sum.par_chunks_mut(CHUNK).enumerate().for_each(|(number, sum)| {
            let begin = number * CHUNK;
            sum.iter_mut().zip(&parts[0][begin..]).for_each(|(sum, x)| *sum = x.widen());
            for part in &parts[1..] {
                sum.iter_mut().zip(&part[begin..]).for_each(|(sum, x)| *sum += x.widen());
            }
        });
    }
    if let [only] = parts
        && only.kind() == Kind::Float
    {
        return only.shallow_clone();
    }
    let mut sum = Tensor::empty(parts[0].size(), (Kind::Float, Device::Cpu));
    let len = sum.numel();
    if parts[0].kind() == Kind::BFloat16 {
        of::<Bf16>(parts, slice_mut(&mut sum, len));
    } else {
        of::<f32>(parts, slice_mut(&mut sum, len));
    }
    sum
}
