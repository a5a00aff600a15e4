//! Vectorised elementary functions and the operators made of them.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape};
use pulp::{Arch, Simd};
use rayon::prelude::*;

use crate::storage::contiguous;
use crate::vectors::splat;

const ROUND: f32 = 12_582_912.0;
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// `e^x` to about two units in the last place, in a form that compilers turn into vector code.
///
/// Results are clamped to the range of normal f32; NaN stays NaN.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    let p = 1.987_569_2e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_6e-1;
    let p = p * r + 0.5;
    let p = p * r * r + r + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    p * f32::from_bits(exponent)
}

/// As [`exp`] for a whole vector of values that are not above zero.
#[inline(always)]
pub(crate) fn exp_negative<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // In this order a NaN in `x` stays one.
    let x = simd.select_f32s(simd.less_than_f32s(x, splat(simd, -87.0)), splat(simd, -87.0), x);
    let shifted = simd.mul_add_e_f32s(x, splat(simd, std::f32::consts::LOG2_E), splat(simd, ROUND));
    let n = simd.sub_f32s(shifted, splat(simd, ROUND));
    let r = simd.mul_add_e_f32s(n, splat(simd, -LN2_HIGH), x);
    let r = simd.mul_add_e_f32s(n, splat(simd, -LN2_LOW), r);
    let p = simd.mul_add_e_f32s(splat(simd, 1.987_569_2e-4), r, splat(simd, 1.398_199_9e-3));
    let p = simd.mul_add_e_f32s(p, r, splat(simd, 8.333_452e-3));
    let p = simd.mul_add_e_f32s(p, r, splat(simd, 4.166_579_6e-2));
    let p = simd.mul_add_e_f32s(p, r, splat(simd, 1.666_666_6e-1));
    let p = simd.mul_add_e_f32s(p, r, splat(simd, 0.5));
    let p = simd.add_f32s(simd.mul_add_e_f32s(p, simd.mul_f32s(r, r), r), splat(simd, 1.0));
    // 127 moves the exponent of one there; the bits of ROUND below it are zero, so adding both at once is exact.
    let bias = simd.splat_u32s(127u32.wrapping_sub(ROUND.to_bits()));
    let exponent = simd.add_u32s(simd.transmute_u32s_f32s(shifted), bias);
    simd.mul_f32s(p, simd.transmute_f32s_u32s(simd.wrapping_dyn_shl_u32s(exponent, simd.splat_u32s(23))))
}

/// `x * sigmoid(x)`.
#[inline(always)]
pub(crate) fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// The exact GELU, with the error function to 1.5e-7 (Abramowitz and Stegun 7.1.26).
#[inline(always)]
pub(crate) fn gelu(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let p = 1.061_405_4;
    let p = p * t - 1.453_152;
    let p = p * t + 1.421_413_7;
    let p = p * t - 0.284_496_74;
    let p = p * t + 0.254_829_6;
    // 1 - erf(z); one half of it is the weight of the side that the function fades out on.
    let tail = 0.5 * p * t * exp(-z * z);
    x * if x < 0.0 { tail } else { 1.0 - tail }
}

/// Rows of `[.., 2 n]` to `[.., n]`: the first half times the GELU of the second.
pub struct Geglu;

impl CustomOp1 for Geglu {
    fn name(&self) -> &'static str {
        "geglu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = contiguous(x, layout)?;
        let mut dims = layout.dims().to_vec();
        let Some(last) = dims.last_mut().filter(|last| last.is_multiple_of(2) && **last > 0) else {
            candle_core::bail!("geglu takes an even last dimension, got {:?}", layout.dims());
        };
        *last /= 2;
        let width = *last;
        let mut y = vec![0f32; x.len() / 2];
        let arch = Arch::new();
        y.par_chunks_mut(width).zip(x.par_chunks(2 * width)).for_each(|(y, x)| {
            let (value, gate) = x.split_at(width);
            arch.dispatch(
                #[inline(always)]
                || gate_row(y, value, gate),
            );
        });
        Ok((CpuStorage::F32(y), dims.into()))
    }
}

/// One row of [`Geglu`].
#[inline(always)]
pub(crate) fn gate_row(y: &mut [f32], value: &[f32], gate: &[f32]) {
    for ((y, value), gate) in y.iter_mut().zip(value).zip(gate) {
        *y = value * gelu(*gate);
    }
}
#[cfg(test)]
mod tests {
    use super::{exp, gelu, silu};

    #[test]
    fn close_to_the_library_functions() {
        for i in -8000..=8000 {
            let x = i as f32 * 0.01;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 3e-7, "exp {x}");
            let exact = f64::from(x) / (1.0 + (-f64::from(x)).exp());
            assert!((f64::from(silu(x)) - exact).abs() < 1e-6 * exact.abs().max(1.0), "silu {x}");
        }
        for (x, exact) in [
            (-3.0, -0.004_049_694),
            (-1.0, -0.158_655_25),
            (0.0, 0.0),
            (0.5, 0.345_731_23),
            (4.0, 3.999_873_3),
        ] {
            assert!((gelu(x) - exact).abs() < 5e-7, "gelu {x} {}", gelu(x));
        }
        assert!(exp(f32::NAN).is_nan() && silu(f32::NAN).is_nan() && gelu(f32::NAN).is_nan());
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
    }
}
