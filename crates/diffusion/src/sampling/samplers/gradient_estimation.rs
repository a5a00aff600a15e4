//! Euler steps whose slope is extrapolated from the last two.

use candle_core::Tensor;

use super::super::denoiser::{Denoiser, SampleCtx};
use super::super::error::Result;
use super::common::{Guidance, combine, derivative, steps};

/// How far the slope is carried past the newest one; 1 is plain Euler.
const GAMMA: f64 = 2.0;

/// Extrapolates the slope of every Euler step.
///
/// # Source
/// Permenter and Yuan 2023, algorithm 2 with gamma 2; same values as ComfyUI `gradient_estimation`.
pub(super) fn gradient_estimation(
    model: &dyn Denoiser,
    x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    extrapolate(model, x, sigmas, ctx, Guidance::Plain)
}

/// Extrapolates the unconditional slope and renoises the guided estimate along it.
///
/// # Source
/// Permenter and Yuan 2023 with Chung et al. 2024 (CFG++); same values as ComfyUI `gradient_estimation_cfg_pp`.
pub(super) fn gradient_estimation_cfg_pp(
    model: &dyn Denoiser,
    x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    extrapolate(model, x, sigmas, ctx, Guidance::PlusPlus)
}

fn extrapolate(
    model: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
    guidance: Guidance,
) -> Result<Tensor> {
    let mut previous: Option<Tensor> = None;
    for step in steps(sigmas) {
        let guided = guidance.evaluate(model, &x, step.sigma)?;
        step.report(ctx, &x, &guided.denoised)?;
        let slope = derivative(&x, step.sigma, &guided.uncond)?;
        if step.next == 0.0 {
            x = guided.denoised;
        } else {
            x = combine(&[(1.0, &guided.denoised), (step.next, &slope)])?;
            if let Some(previous) = &previous {
                let weight = (GAMMA - 1.0) * (step.next - step.sigma);
                x = combine(&[(1.0, &x), (weight, &slope), (-weight, previous)])?;
            }
        }
        previous = Some(slope);
    }
    Ok(x)
}
