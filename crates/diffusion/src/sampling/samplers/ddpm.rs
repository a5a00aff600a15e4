//! Ancestral sampling of the original diffusion process.

use candle_core::Tensor;

use super::super::denoiser::{Denoiser, SampleCtx};
use super::super::error::Result;
use super::common::{combine, derivative, draw, steps};

/// Samples the posterior between two levels of the variance-preserving process.
///
/// # Source
/// Ho et al. 2020 (DDPM), eq. 6, 7 and 11; same values as ComfyUI `ddpm`.
pub(super) fn ddpm(
    model: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    let mut noise = ctx.noise();
    for step in steps(sigmas) {
        let denoised = model.denoise(&x, step.sigma)?;
        step.report(ctx, &x, &denoised)?;
        let alpha_bar = 1.0 / (1.0 + step.sigma * step.sigma);
        let alpha_bar_next = 1.0 / (1.0 + step.next * step.next);
        let alpha = alpha_bar / alpha_bar_next;
        let eps = derivative(&x, step.sigma, &denoised)?;
        // Both ends are held at noise + data, so the variance-preserving scale is put on and taken off.
        let scale = (alpha_bar / (alpha * alpha_bar_next)).sqrt();
        let shrink = (1.0 - alpha) / ((1.0 - alpha_bar) * alpha * alpha_bar_next).sqrt();
        x = combine(&[(scale, &x), (-shrink, &eps)])?;
        if step.next > 0.0 {
            let variance = (1.0 - alpha) * (1.0 - alpha_bar_next) / (1.0 - alpha_bar);
            x = combine(&[(1.0, &x), ((variance / alpha_bar_next).sqrt(), &draw(&mut noise, &x)?)])?;
        }
    }
    Ok(x)
}
