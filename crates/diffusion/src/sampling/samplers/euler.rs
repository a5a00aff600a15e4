//! Euler steps, plain and ancestral.

use candle_core::Tensor;

use super::super::denoiser::{Denoiser, SampleCtx};
use super::super::error::Result;
use super::super::options::CfgPlusPlusForm;
use super::common::{Guidance, ancestral, combine, derivative, draw, steps};

/// Follows the probability flow with Euler steps.
///
/// # Source
/// Karras et al. 2022, algorithm 2 without the second-order correction; same values as ComfyUI `euler`. DDIM (Song et
/// al. 2020) with eta 0 is the same step, so `ddim` runs it too.
pub(super) fn euler(
    model: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    for step in steps(sigmas) {
        let denoised = model.denoise(&x, step.sigma)?;
        step.report(ctx, &x, &denoised)?;
        let slope = derivative(&x, step.sigma, &denoised)?;
        x = combine(&[(1.0, &x), (step.next - step.sigma, &slope)])?;
    }
    Ok(x)
}

/// Goes below the next level with an Euler step and adds fresh noise up to it.
///
/// # Source
/// Song et al. 2020 (DDIM), eq. 12 and 16 with eta 1; same values as ComfyUI `euler_ancestral`.
pub(super) fn euler_ancestral(
    model: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    let mut noise = ctx.noise();
    let (eta, s_noise) = (ctx.options().eta(), ctx.options().s_noise());
    for step in steps(sigmas) {
        let denoised = model.denoise(&x, step.sigma)?;
        step.report(ctx, &x, &denoised)?;
        let (down, up) = ancestral(step.sigma, step.next, eta);
        if down == 0.0 {
            x = denoised;
            continue;
        }
        let slope = derivative(&x, step.sigma, &denoised)?;
        x = combine(&[(1.0, &x), (down - step.sigma, &slope), (up * s_noise, &draw(&mut noise, &x)?)])?;
    }
    Ok(x)
}

/// Renoises the guided estimate along the unconditional direction.
///
/// # Source
/// Chung et al. 2024 (CFG++), algorithm 2; same values as ComfyUI `euler_cfg_pp`.
pub(super) fn euler_cfg_pp(
    model: &dyn Denoiser,
    x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    match ctx.options().euler_cfg_pp {
        CfgPlusPlusForm::Regular => cfg_pp(model, x, sigmas, ctx, 0.0),
        CfgPlusPlusForm::Alternative => guided_steps(model, x, sigmas, ctx),
    }
}

/// Renoises the guided estimate along the unconditional direction, with fresh noise.
///
/// # Source
/// Chung et al. 2024 (CFG++) with the ancestral split; same values as ComfyUI `euler_ancestral_cfg_pp`.
pub(super) fn euler_ancestral_cfg_pp(
    model: &dyn Denoiser,
    x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    let eta = ctx.options().eta();
    cfg_pp(model, x, sigmas, ctx, eta)
}

fn cfg_pp(
    model: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
    eta: f64,
) -> Result<Tensor> {
    let mut noise = ctx.noise();
    let s_noise = ctx.options().s_noise();
    for step in steps(sigmas) {
        let guided = Guidance::PlusPlus.evaluate(model, &x, step.sigma)?;
        step.report(ctx, &x, &guided.denoised)?;
        if step.next == 0.0 {
            x = guided.denoised;
            continue;
        }
        let (down, up) = ancestral(step.sigma, step.next, eta);
        let slope = derivative(&x, step.sigma, &guided.uncond)?;
        x = combine(&[(1.0, &guided.denoised), (down, &slope)])?;
        if eta > 0.0 {
            x = combine(&[(1.0, &x), (up * s_noise, &draw(&mut noise, &x)?)])?;
        }
    }
    Ok(x)
}

/// Takes Euler steps from x moved by the guidance, towards the guided estimate.
///
/// # Source
/// Chung et al. 2024 (CFG++) with x shifted by the unconditional minus the guided estimate; the alternative form of
/// ComfyUI's `SamplerEulerCFGpp`.
fn guided_steps(
    model: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    for step in steps(sigmas) {
        let guided = Guidance::PlusPlus.evaluate(model, &x, step.sigma)?;
        step.report(ctx, &x, &guided.denoised)?;
        let moved = ((&x - &guided.denoised)? + &guided.uncond)?;
        let slope = derivative(&moved, step.sigma, &guided.denoised)?;
        x = combine(&[(1.0, &x), (step.next - step.sigma, &slope)])?;
    }
    Ok(x)
}
