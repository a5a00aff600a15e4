//! Linear multistep integration.

use std::collections::VecDeque;

use candle_core::Tensor;

use super::super::denoiser::{Denoiser, SampleCtx};
use super::super::error::Result;
use super::common::{combine, derivative, steps};

const ORDER: usize = 4;

/// Integrates the polynomial through the last slopes over every step.
///
/// # Source
/// Adams-Bashforth of order 4 on uneven levels; same values as ComfyUI `lms`.
pub(super) fn lms(
    model: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    let mut slopes: VecDeque<Tensor> = VecDeque::new();
    for step in steps(sigmas) {
        let denoised = model.denoise(&x, step.sigma)?;
        step.report(ctx, &x, &denoised)?;
        slopes.push_front(derivative(&x, step.sigma, &denoised)?);
        slopes.truncate(ORDER);
        if step.next == 0.0 {
            x = denoised;
            continue;
        }
        // Newest first, as the slopes are.
        let nodes: Vec<f64> = (0..slopes.len()).map(|k| sigmas[step.index - k]).collect();
        let weights = (0..nodes.len()).map(|k| basis_integral(&nodes, k, step.sigma, step.next));
        let mut terms = vec![(1.0, &x)];
        terms.extend(weights.zip(&slopes));
        x = combine(&terms)?;
    }
    Ok(x)
}

/// Integrates the Lagrange basis polynomial of `nodes[k]` from `from` to `to`.
fn basis_integral(nodes: &[f64], k: usize, from: f64, to: f64) -> f64 {
    // Two Gauss points are exact up to degree 3, the highest there is.
    let offset = 1.0 / 3f64.sqrt();
    let (centre, half) = (0.5 * (from + to), 0.5 * (to - from));
    let basis = |at: f64| -> f64 {
        let others = nodes.iter().enumerate().filter(|(other, _)| *other != k);
        others.map(|(_, node)| (at - node) / (nodes[k] - node)).product()
    };
    half * (basis(centre - half * offset) + basis(centre + half * offset))
}
