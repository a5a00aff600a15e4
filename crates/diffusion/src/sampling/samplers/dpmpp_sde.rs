//! DPM-Solver++ for the stochastic equation, two evaluations per step.

use candle_core::Tensor;

use super::super::brownian::BrownianNoise;
use super::super::denoiser::{Denoiser, SampleCtx};
use super::super::error::Result;
use super::common::{ancestral, combine, steps};

/// Takes stochastic midpoint steps whose noise comes from one Brownian path.
///
/// # Source
/// Lu et al. 2022 (DPM-Solver++), algorithm 1 with ancestral noise in both halves; same values as ComfyUI
/// `dpmpp_sde`.
pub(super) fn dpmpp_sde(
    model: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    let noise = BrownianNoise::new(ctx.seed(), &x, sigmas)?;
    for step in steps(sigmas) {
        let denoised = model.denoise(&x, step.sigma)?;
        step.report(ctx, &x, &denoised)?;
        if step.next == 0.0 {
            x = denoised;
            continue;
        }
        let stochastic = |to: f64, estimate: &Tensor| -> Result<Tensor> {
            let (down, up) = ancestral(step.sigma, to, 1.0);
            let ratio = down / step.sigma;
            combine(&[(ratio, &x), (1.0 - ratio, estimate), (up, &noise.noise(step.sigma, to)?)])
        };
        let middle = halfway_level(step.sigma, step.next);
        let inner = stochastic(middle, &denoised)?;
        let estimate = model.denoise(&inner, middle)?;
        x = stochastic(step.next, &estimate)?;
    }
    Ok(x)
}

/// Returns the level halfway in lambda, in f32.
///
/// A Brownian path moves by 1e-3 within 1e-6, so the level has to be the reference's to the last bit.
fn halfway_level(from: f64, to: f64) -> f64 {
    let (start, end) = (-(from as f32).ln(), -(to as f32).ln());
    f64::from((-(start + 0.5 * (end - start))).exp())
}
