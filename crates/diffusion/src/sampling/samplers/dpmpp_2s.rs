//! DPM-Solver++ with two evaluations per step, ancestral.

use candle_core::Tensor;

use super::super::denoiser::{Denoiser, SampleCtx};
use super::super::error::Result;
use super::common::{Guidance, add_noise, ancestral, combine, draw, lambda, sigma_of, steps};

/// Takes second-order single steps to a level below the next one and adds fresh noise.
///
/// # Source
/// Lu et al. 2022 (DPM-Solver++), algorithm 1 (2S) with the ancestral split; same values as ComfyUI
/// `dpmpp_2s_ancestral`.
pub(super) fn dpmpp_2s_ancestral(
    model: &dyn Denoiser,
    x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    single_steps(model, x, sigmas, ctx, Guidance::Plain)
}

/// As `dpmpp_2s_ancestral`, moving x by the guidance before it is scaled down.
///
/// # Source
/// Chung et al. 2024 (CFG++) on DPM-Solver++ 2S; same values as ComfyUI `dpmpp_2s_ancestral_cfg_pp`.
pub(super) fn dpmpp_2s_ancestral_cfg_pp(
    model: &dyn Denoiser,
    x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    single_steps(model, x, sigmas, ctx, Guidance::PlusPlus)
}

fn single_steps(
    model: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
    guidance: Guidance,
) -> Result<Tensor> {
    let mut noise = ctx.noise();
    let (eta, s_noise) = (ctx.options().eta(), ctx.options().s_noise());
    for step in steps(sigmas) {
        let guided = guidance.evaluate(model, &x, step.sigma)?;
        step.report(ctx, &x, &guided.denoised)?;
        let (down, up) = ancestral(step.sigma, step.next, eta);
        if down == 0.0 {
            x = add_noise(guided.denoised, up * s_noise, || draw(&mut noise, &x))?;
            continue;
        }
        let length = lambda(down) - lambda(step.sigma);
        let middle = sigma_of(lambda(step.sigma) + 0.5 * length);
        // Each half moves x by how far the first estimate is from that half's unconditional one.
        let shifted = |uncond: &Tensor| -> Result<Tensor> {
            match guidance {
                Guidance::Plain => Ok(x.clone()),
                Guidance::PlusPlus => Ok(((&x + &guided.denoised)? - uncond)?),
            }
        };
        let halfway = combine(&[
            (middle / step.sigma, &shifted(&guided.uncond)?),
            (-(-0.5 * length).exp_m1(), &guided.denoised),
        ])?;
        let inner = guidance.evaluate(model, &halfway, middle)?;
        let moved = shifted(&inner.uncond)?;
        x = combine(&[(down / step.sigma, &moved), (-(-length).exp_m1(), &inner.denoised)])?;
        let fresh = draw(&mut noise, &x)?;
        x = add_noise(x, up * s_noise, || Ok(fresh))?;
    }
    Ok(x)
}
