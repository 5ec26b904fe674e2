//! Products of matrices in half the bytes whose sums stay in single precision.
//!
//! libtorch multiplies `bf16` on the CPU, and rounds what comes out to `bf16` as well; where small numbers are what large ones differ by,
//! as velocities are, that is the worse half. MKL, which libtorch for x86 carries with it, has the product that does not
//! (`cblas_gemm_bf16bf16f32`), at the same speed.

use std::ffi::{c_int, c_void};
use std::sync::LazyLock;

use libloading::os::unix::Library;
use tch::{Device, Kind, Tensor};

/// `cblas_gemm_bf16bf16f32`: layout, two transpositions, m, n, k, alpha, A, lda, B, ldb, beta, C, ldc.
type Gemm = unsafe extern "C" fn(
    c_int,
    c_int,
    c_int,
    c_int,
    c_int,
    c_int,
    f32,
    *const c_void,
    c_int,
    *const c_void,
    c_int,
    f32,
    *mut c_void,
    c_int,
);

const ROW_MAJOR: c_int = 101;
const AS_IT_IS: c_int = 111;
const TRANSPOSED: c_int = 112;

/// MKL's, where this libtorch has it.
static GEMM: LazyLock<Option<Gemm>> = LazyLock::new(|| {
    let program = Library::this();
    // SAFETY: the symbol is only found where MKL is loaded, and there it has this signature.
    #[expect(unsafe_code, reason = "a symbol has the type that its user says")]
    let found = unsafe { program.get::<Gemm>(b"cblas_gemm_bf16bf16f32\0") };
    found.ok().map(|symbol| *symbol)
});

/// `a` `[K, m, n]` times `b` `[K, n, p]` of one kind, in single precision, on the thread that calls. Those of which `K` are alike may be
/// there once (stride 0), and both may be transposed.
///
/// # Panics
/// If shapes or kinds do not fit, or a tensor is not on the CPU.
pub(super) fn product(a: &Tensor, b: &Tensor) -> Tensor {
    let ([count, m, n], [others, rows, p]) = (sizes(a), sizes(b));
    assert_eq!((count, n, a.kind()), (others, rows, b.kind()), "matrices that can be multiplied");
    let gemm = GEMM.filter(|_| a.kind() == Kind::BFloat16);
    if gemm.is_none() && (count == 1 || a.stride()[0] != 0) {
        return a.bmm(b).to_kind(Kind::Float);
    }
    let all = Tensor::empty([count, m, p], (Kind::Float, Device::Cpu));
    for k in 0..count {
        let (a, b, mut c) = (a.get(k), b.get(k), all.get(k));
        match gemm {
            Some(gemm) => multiply(gemm, &a, &b, &c, 0.0),
            // One after another: of matrices that are there once libtorch would make copies.
            None if a.kind() == Kind::Float => drop(a.mm_out(&c, &b)),
            None => c.copy_(&a.mm(&b)),
        }
    }
    all
}

/// Adds `a` `[m, n]` times `b` `[n, p]`, both of one kind, to `sum` `[m, p]` in single precision, on the thread that calls.
///
/// # Panics
/// As [`product`].
pub(super) fn add_product(sum: &mut Tensor, a: &Tensor, b: &Tensor) {
    assert_eq!((a.size()[1], a.kind()), (b.size()[0], b.kind()), "matrices that can be multiplied");
    assert_eq!(sum.size(), [a.size()[0], b.size()[1]], "a sum of the product's size");
    match GEMM.filter(|_| a.kind() == Kind::BFloat16) {
        Some(gemm) => multiply(gemm, a, b, sum, 1.0),
        None if a.kind() == Kind::Float => drop(sum.addmm_(a, b)),
        None => drop(sum.g_add_(&a.mm(b))),
    }
}

/// `c = a b + keep c`, of bf16 into single precision.
fn multiply(gemm: Gemm, a: &Tensor, b: &Tensor, c: &Tensor, keep: f32) {
    let int = |size: i64| c_int::try_from(size).expect("sizes that MKL can count");
    let [m, n] = [0, 1].map(|dim| int(a.size()[dim]));
    let p = int(b.size()[1]);
    let ((of_a, lda), (of_b, ldb), (_, ldc)) = (layout(a), layout(b), layout(c));
    assert!([a, b, c].iter().all(|tensor| tensor.device() == Device::Cpu), "matrices on the CPU");
    assert!([a, b].iter().all(|tensor| tensor.kind() == Kind::BFloat16), "matrices of bf16");
    assert_eq!((c.kind(), c.stride()[1]), (Kind::Float, 1), "a sum in single precision, in rows");
    assert_eq!((b.size()[0], c.size()), (a.size()[1], vec![a.size()[0], b.size()[1]]), "sizes that fit");
    let [a, b, c] = [a, b, c].map(Tensor::data_ptr);
    // SAFETY: a and b are live matrices of bf16 and c of f32 on the CPU, of sizes that fit and with the leading dimensions that `layout`
    // checked; the caller alone writes to c.
    #[expect(unsafe_code, reason = "a function of a library in C")]
    unsafe {
        gemm(ROW_MAJOR, of_a, of_b, m, p, n, 1.0, a, int(lda), b, int(ldb), keep, c, int(ldc));
    }
}

/// Whether a matrix is transposed in memory, and how far its rows, or its columns then, are apart.
///
/// # Panics
/// If neither rows nor columns are in one piece, or they overlap.
fn layout(x: &Tensor) -> (c_int, i64) {
    let ([rows, columns], [down, along]) = ([x.size()[0], x.size()[1]], [x.stride()[0], x.stride()[1]]);
    // The distance of one row alone means nothing; MKL wants one that could be.
    let (order, least, apart) = if along == 1 {
        (AS_IT_IS, columns, if rows == 1 { columns } else { down })
    } else {
        assert_eq!(down, 1, "a matrix of which neither rows nor columns are in one piece");
        (TRANSPOSED, rows, if columns == 1 { rows } else { along })
    };
    assert!(apart >= least.max(1), "a matrix whose rows or columns overlap");
    (order, apart)
}

fn sizes(tensor: &Tensor) -> [i64; 3] {
    tensor.size3().map_or_else(|_| panic!("three dimensions, not {:?}", tensor.size()), |(k, m, n)| [k, m, n])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_distr::{Distribution as _, StandardNormal};
    use simulators::rng::{Purpose, Seed, stream};

    /// libtorch for x86 carries MKL, and with it the product.
    #[test]
    fn sums_are_in_single_precision_where_libtorch_has_mkl() {
        assert_eq!(GEMM.is_some(), cfg!(target_arch = "x86_64") && tch::utils::has_mkl());
    }

    #[test]
    #[should_panic(expected = "overlap")]
    fn rows_that_overlap_are_refused() {
        let ones = Tensor::ones([1, 1, 4], (Kind::BFloat16, Device::Cpu));
        let _ = product(&ones.expand([1, 3, 4], false), &ones.transpose(1, 2));
        // Without MKL libtorch multiplies them.
        assert!(GEMM.is_some(), "overlap");
    }

    /// As they are, transposed, narrowed, of one row or column, and shared.
    #[test]
    fn products_are_those_of_single_precision() {
        let rng = &mut stream(Seed(3), Purpose::Weights, 0);
        let mut random = |shape: &[i64]| {
            let values: Vec<f32> = (0..shape.iter().product::<i64>()).map(|_| StandardNormal.sample(rng)).collect();
            Tensor::from_slice(&values).view(shape).to_kind(Kind::BFloat16)
        };
        for [m, n, p] in [[7, 33, 5], [64, 128, 48], [1, 9, 4], [6, 1, 3], [5, 8, 1], [1, 1, 1]] {
            let whole = random(&[2, m, n + 3]);
            let pairs = [
                (random(&[2, m, n]), random(&[2, n, p])),
                (random(&[2, n, m]).transpose(1, 2), random(&[2, p, n]).transpose(1, 2)),
                (whole.narrow(2, 1, n), random(&[2, n, p])),
                (random(&[1, m, n]).expand([2, -1, -1], false), random(&[2, n, p])),
            ];
            for (a, b) in pairs {
                let expected = a.to_kind(Kind::Float).matmul(&b.to_kind(Kind::Float));
                let found = product(&a, &b);
                assert_eq!((found.kind(), found.size()), (Kind::Float, expected.size()));
                // Without MKL, what comes out was rounded.
                let tolerance = if GEMM.is_some() { 1e-5 } else { 1e-2 };
                assert!(found.allclose(&expected, tolerance, tolerance * 10.0, false), "{m} {n} {p}");
                let mut sum = found.get(1);
                add_product(&mut sum, &a.get(1), &b.get(1));
                let twice = expected.get(1) * 2.0;
                assert!(sum.allclose(&twice, tolerance, tolerance * 20.0, false), "{m} {n} {p}: twice");
            }
        }
    }
}
