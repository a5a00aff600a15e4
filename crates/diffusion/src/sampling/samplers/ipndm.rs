//! Pseudo linear multistep methods of order 4.

use std::collections::VecDeque;

use candle_core::Tensor;

use super::super::denoiser::{Denoiser, SampleCtx};
use super::super::error::Result;
use super::common::{combine, derivative, steps};

const ORDER: usize = 4;

/// Combines the last four slopes with the weights of even steps.
///
/// # Source
/// Liu et al. 2022 (PNDM), the linear multistep part, in the form of Zhang and Chen 2023 (iPNDM); same values as
/// ComfyUI `ipndm`.
pub(super) fn ipndm(
    model: &dyn Denoiser,
    x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    multistep(model, x, sigmas, ctx, |_, _, order| even_weights(order))
}

/// Combines the last four slopes with weights that follow the lengths of the steps.
///
/// # Source
/// As `ipndm` with variable step lengths; same values as ComfyUI `ipndm_v`.
pub(super) fn ipndm_v(
    model: &dyn Denoiser,
    x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    multistep(model, x, sigmas, ctx, uneven_weights)
}

/// Returns the weights of the slopes, newest first.
type Weights = fn(&[f64], usize, usize) -> Vec<f64>;

fn multistep(
    model: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
    weights: Weights,
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
        let length = step.next - step.sigma;
        let weights = weights(sigmas, step.index, slopes.len());
        let mut terms = vec![(1.0, &x)];
        terms.extend(weights.iter().map(|w| w * length).zip(&slopes));
        x = combine(&terms)?;
    }
    Ok(x)
}

/// Adams-Bashforth weights of even steps.
fn even_weights(order: usize) -> Vec<f64> {
    let (divisor, weights): (f64, &[f64]) = match order {
        1 => (1.0, &[1.0]),
        2 => (2.0, &[3.0, -1.0]),
        3 => (12.0, &[23.0, -16.0, 5.0]),
        _ => (24.0, &[55.0, -59.0, 37.0, -9.0]),
    };
    weights.iter().map(|w| w / divisor).collect()
}

/// Weights on uneven levels, built up from the divided differences of the slopes.
///
/// Each order adds a multiple of the next difference, expressed by the ratios of neighbouring step lengths.
fn uneven_weights(sigmas: &[f64], index: usize, order: usize) -> Vec<f64> {
    if order == 1 {
        return vec![1.0];
    }
    // Length of the step that ends k steps before this one's end.
    let length = |k: usize| sigmas[index + 1 - k] - sigmas[index - k];
    let (h0, h1) = (length(0), length(1));
    let mut weights = vec![1.0 + 0.5 * h0 / h1, -0.5 * h0 / h1];
    if order == 2 {
        return weights;
    }
    let h2 = length(2);
    let third = 0.5 * (1.0 - h0 / (3.0 * (h0 + h1)) * (h0 * (h0 + h1)) / (h1 * (h1 + h2)));
    weights[0] += third;
    weights[1] -= (1.0 + h1 / h2) * third;
    weights.push(third * h1 / h2);
    if order == 3 {
        return weights;
    }
    let h3 = length(3);
    let inner =
        0.5 * (1.0 - h0 / (3.0 * (h0 + h1))) + (1.0 - h0 / (2.0 * (h0 + h1))) * h0 / (6.0 * (h0 + h1 + h2));
    let fourth = inner * (h0 * (h0 + h1) * (h0 + h1 + h2)) / (h1 * (h1 + h2) * (h1 + h2 + h3));
    let reach = h1 * (h1 + h2) / (h2 * (h2 + h3));
    weights[0] += fourth;
    weights[1] -= (1.0 + h1 / h2 + reach) * fourth;
    weights[2] += (h1 / h2 + reach * (1.0 + h2 / h3)) * fourth;
    weights.push(-fourth * reach * h1 / h2);
    weights
}
