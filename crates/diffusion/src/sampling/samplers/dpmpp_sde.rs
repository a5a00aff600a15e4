//! DPM-Solver++ for the stochastic equation, two evaluations per step.

use candle_core::Tensor;

use super::super::brownian::BrownianNoise;
use super::super::denoiser::{Denoiser, SampleCtx};
use super::super::error::Result;
use super::common::{add_noise, ancestral, combine, steps};

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
    let (eta, s_noise) = (ctx.options().eta(), ctx.options().s_noise());
    let r = ctx.options().r.unwrap_or(0.5);
    let noise = BrownianNoise::new(ctx.seed(), &x, sigmas)?;
    for step in steps(sigmas) {
        let denoised = model.denoise(&x, step.sigma)?;
        step.report(ctx, &x, &denoised)?;
        if step.next == 0.0 {
            x = denoised;
            continue;
        }
        let stochastic = |to: f64, estimate: &Tensor| -> Result<Tensor> {
            let (down, up) = ancestral(step.sigma, to, eta);
            let ratio = down / step.sigma;
            let x = combine(&[(ratio, &x), (1.0 - ratio, estimate)])?;
            add_noise(x, up * s_noise, || noise.noise(step.sigma, to))
        };
        let middle = inner_level(step.sigma, step.next, r);
        let inner = stochastic(middle, &denoised)?;
        let mut estimate = model.denoise(&inner, middle)?;
        if r != 0.5 {
            // Both estimates lie on a line that is followed to the middle of the step.
            let share = 0.5 / r;
            estimate = combine(&[(1.0 - share, &denoised), (share, &estimate)])?;
        }
        x = stochastic(step.next, &estimate)?;
    }
    Ok(x)
}

/// Returns the level a share of the way in lambda, in f32.
///
/// A Brownian path moves by 1e-3 within 1e-6, so the level has to be the reference's to the last bit.
fn inner_level(from: f64, to: f64, share: f64) -> f64 {
    let (start, end) = (-(from as f32).ln(), -(to as f32).ln());
    f64::from((-(start + share as f32 * (end - start))).exp())
}
