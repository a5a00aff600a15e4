//! Linear multistep integration.

use std::collections::VecDeque;

use candle_core::Tensor;

use super::super::denoiser::{Denoiser, SampleCtx};
use super::super::error::Result;
use super::common::{combine, derivative, steps};

/// Slopes that are remembered unless told otherwise.
const ORDER: usize = 4;

/// Integrates the polynomial through the last slopes over every step.
///
/// # Source
/// Adams-Bashforth on uneven levels, of order 4 unless told otherwise; same values as ComfyUI `lms`.
pub(super) fn lms(
    model: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    let order = ctx.options().order.unwrap_or(ORDER);
    let quadrature = gauss_legendre(order.min(sigmas.len()).div_ceil(2));
    let mut slopes: VecDeque<Tensor> = VecDeque::new();
    for step in steps(sigmas) {
        let denoised = model.denoise(&x, step.sigma)?;
        step.report(ctx, &x, &denoised)?;
        slopes.push_front(derivative(&x, step.sigma, &denoised)?);
        slopes.truncate(order);
        if step.next == 0.0 {
            x = denoised;
            continue;
        }
        // Newest first, as the slopes are.
        let nodes: Vec<f64> = (0..slopes.len()).map(|k| sigmas[step.index - k]).collect();
        let weights =
            (0..nodes.len()).map(|k| basis_integral(&nodes, k, (step.sigma, step.next), &quadrature));
        let mut terms = vec![(1.0, &x)];
        terms.extend(weights.zip(&slopes));
        x = combine(&terms)?;
    }
    Ok(x)
}

/// Integrates the Lagrange basis polynomial of `nodes[k]` over a step.
fn basis_integral(nodes: &[f64], k: usize, (from, to): (f64, f64), quadrature: &[(f64, f64)]) -> f64 {
    let (centre, half) = (0.5 * (from + to), 0.5 * (to - from));
    let basis = |at: f64| -> f64 {
        let others = nodes.iter().enumerate().filter(|(other, _)| *other != k);
        others.map(|(_, node)| (at - node) / (nodes[k] - node)).product()
    };
    quadrature.iter().map(|(place, weight)| half * weight * basis(centre + half * place)).sum()
}

/// Returns the places and weights on -1..=1 that integrate polynomials up to degree `2 * count - 1` exactly.
///
/// # Source
/// DLMF 3.5.30; the places are roots of the Legendre polynomial, found with Newton's method.
fn gauss_legendre(count: usize) -> Vec<(f64, f64)> {
    let size = count as f64;
    let legendre = |x: f64| {
        let (mut before, mut now) = (1.0, x);
        for n in 1..count {
            let n = n as f64;
            (before, now) = (now, ((2.0 * n + 1.0) * x * now - n * before) / (n + 1.0));
        }
        (now, size * (x * now - before) / (x * x - 1.0))
    };
    let root = |i: usize| {
        let mut x = -((i as f64 + 0.75) / (size + 0.5) * std::f64::consts::PI).cos();
        for _ in 0..20 {
            let (value, slope) = legendre(x);
            x -= value / slope;
        }
        let (_, slope) = legendre(x);
        (x, 2.0 / ((1.0 - x * x) * slope * slope))
    };
    (0..count).map(root).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quadrature_is_exact_for_polynomials() {
        for count in [1, 2, 3, 10, 50] {
            let points = gauss_legendre(count);
            for degree in 0..2 * count {
                let sum: f64 = points.iter().map(|(x, w)| w * x.powi(degree as i32)).sum();
                let exact = if degree % 2 == 0 { 2.0 / (degree as f64 + 1.0) } else { 0.0 };
                assert!((sum - exact).abs() < 1e-13, "{count} points, degree {degree}: {sum}");
            }
        }
    }
}
