//! DPM-Solver-2 as a midpoint rule on the logarithm of sigma.

use candle_core::Tensor;

use super::super::denoiser::{Denoiser, SampleCtx};
use super::super::error::Result;
use super::common::{ancestral, combine, derivative, draw, steps};

/// Takes the slope halfway down every step.
///
/// # Source
/// Lu et al. 2022 (DPM-Solver), algorithm 1 in the form of Karras et al. 2022; same values as ComfyUI `dpm_2`.
pub(super) fn dpm_2(
    model: &dyn Denoiser,
    x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    midpoint(model, x, sigmas, ctx, 0.0)
}

/// Takes the slope halfway down to a level below the next one and adds fresh noise.
///
/// # Source
/// As `dpm_2` with the ancestral split of Song et al. 2020; same values as ComfyUI `dpm_2_ancestral`.
pub(super) fn dpm_2_ancestral(
    model: &dyn Denoiser,
    x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    midpoint(model, x, sigmas, ctx, 1.0)
}

fn midpoint(
    model: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
    eta: f64,
) -> Result<Tensor> {
    let mut noise = ctx.noise();
    for step in steps(sigmas) {
        let denoised = model.denoise(&x, step.sigma)?;
        step.report(ctx, &x, &denoised)?;
        let (down, up) = ancestral(step.sigma, step.next, eta);
        let mut slope = derivative(&x, step.sigma, &denoised)?;
        if down > 0.0 {
            let middle = (step.sigma * down).sqrt();
            let halfway = combine(&[(1.0, &x), (middle - step.sigma, &slope)])?;
            slope = derivative(&halfway, middle, &model.denoise(&halfway, middle)?)?;
        }
        x = combine(&[(1.0, &x), (down - step.sigma, &slope)])?;
        if up > 0.0 {
            x = combine(&[(1.0, &x), (up, &draw(&mut noise, &x)?)])?;
        }
    }
    Ok(x)
}
