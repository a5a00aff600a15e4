//! Vectors in and out of slices.

use pulp::Simd;

/// The first values of a slice, with zeros where it is shorter than a vector.
#[inline(always)]
pub(crate) fn load<S: Simd>(simd: S, from: &[f32]) -> S::f32s {
    if from.len() >= S::F32_LANES {
        // SAFETY: the slice holds a whole vector.
        unsafe { from.as_ptr().cast::<S::f32s>().read_unaligned() }
    } else {
        simd.partial_load_f32s(from)
    }
}

/// Writes a vector, or as much of it as the slice takes.
#[inline(always)]
pub(crate) fn store<S: Simd>(simd: S, to: &mut [f32], value: S::f32s) {
    if to.len() >= S::F32_LANES {
        // SAFETY: the slice holds a whole vector.
        unsafe { to.as_mut_ptr().cast::<S::f32s>().write_unaligned(value) }
    } else {
        simd.partial_store_f32s(to, value);
    }
}

/// One value in every place.
#[inline(always)]
pub(crate) fn splat<S: Simd>(simd: S, value: f32) -> S::f32s {
    simd.splat_f32s(value)
}

/// `a * b + c`, rounded once where the machine can.
#[inline(always)]
pub(crate) fn fma<S: Simd>(simd: S, a: S::f32s, b: S::f32s, c: S::f32s) -> S::f32s {
    simd.mul_add_e_f32s(a, b, c)
}
