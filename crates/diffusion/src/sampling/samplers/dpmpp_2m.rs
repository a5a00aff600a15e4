//! DPM-Solver++ that remembers the previous estimate instead of evaluating twice.

use candle_core::Tensor;

use super::super::denoiser::{Denoiser, SampleCtx};
use super::super::error::Result;
use super::common::{combine, lambda, steps};

/// Extrapolates the estimate of x0 from the last two.
///
/// # Source
/// Lu et al. 2022 (DPM-Solver++), algorithm 2 (2M); same values as ComfyUI `dpmpp_2m`.
pub(super) fn dpmpp_2m(
    model: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    let mut previous: Option<Tensor> = None;
    for step in steps(sigmas) {
        let denoised = model.denoise(&x, step.sigma)?;
        step.report(ctx, &x, &denoised)?;
        let ratio = step.next / step.sigma;
        let estimate = match &previous {
            Some(previous) if step.next > 0.0 => {
                let weight = 0.5 * length_ratio(sigmas, step.index);
                combine(&[(1.0 + weight, &denoised), (-weight, previous)])?
            }
            _ => denoised.clone(),
        };
        x = combine(&[(ratio, &x), (1.0 - ratio, &estimate)])?;
        previous = Some(denoised);
    }
    Ok(x)
}

/// Returns this step's length in lambda over the previous step's.
fn length_ratio(sigmas: &[f64], index: usize) -> f64 {
    let (before, now, next) = (lambda(sigmas[index - 1]), lambda(sigmas[index]), lambda(sigmas[index + 1]));
    (next - now) / (now - before)
}

/// Renoises the guided estimate along the unconditional one, extrapolated from the last two steps.
///
/// # Source
/// Chung et al. 2024 (CFG++) on DPM-Solver++ 2M; same values as ComfyUI `dpmpp_2m_cfg_pp`.
pub(super) fn dpmpp_2m_cfg_pp(
    model: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    let mut previous: Option<Tensor> = None;
    for step in steps(sigmas) {
        let guided = model.denoise_both(&x, step.sigma)?;
        step.report(ctx, &x, &guided.denoised)?;
        let ratio = step.next / step.sigma;
        x = combine(&[(1.0, &guided.denoised), (ratio, &x), (-ratio, &guided.uncond)])?;
        if let Some(previous) = previous.filter(|_| step.next > 0.0) {
            let weight = (1.0 - ratio) * 0.5 * length_ratio(sigmas, step.index);
            x = combine(&[(1.0, &x), (weight, &guided.denoised), (-weight, &previous)])?;
        }
        previous = Some(guided.uncond);
    }
    Ok(x)
}
