//! DPM-Solver++ 2M for the stochastic equation.

use candle_core::Tensor;

use super::super::brownian::BrownianNoise;
use super::super::denoiser::{Denoiser, SampleCtx};
use super::super::error::Result;
use super::common::{add_noise, combine, lambda, steps};

/// Corrects with the difference of the last two estimates by the midpoint rule.
///
/// # Source
/// Lu et al. 2022 (DPM-Solver++), SDE-DPM-Solver++(2M), eq. 18, in which eta is 1 unless told otherwise; same values as ComfyUI `dpmpp_2m_sde`.
pub(super) fn midpoint(
    model: &dyn Denoiser,
    x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    multistep(model, x, sigmas, ctx, |length| -0.5 * (-length).exp_m1())
}

/// Corrects with the difference of the last two estimates by its exact integral.
///
/// # Source
/// As `midpoint` with the second-order term integrated; same values as ComfyUI `dpmpp_2m_sde_heun`.
pub(super) fn heun(
    model: &dyn Denoiser,
    x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    multistep(model, x, sigmas, ctx, |length| (-length).exp_m1() / length + 1.0)
}

/// Runs the solver; `correction` weighs the difference of the estimates by the step's effective length.
fn multistep(
    model: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
    correction: fn(f64) -> f64,
) -> Result<Tensor> {
    let noise = BrownianNoise::new(ctx.seed(), &x, sigmas)?;
    let (eta, s_noise) = (ctx.options().eta(), ctx.options().s_noise());
    let mut previous: Option<(Tensor, f64)> = None;
    for step in steps(sigmas) {
        let denoised = model.denoise(&x, step.sigma)?;
        step.report(ctx, &x, &denoised)?;
        if step.next == 0.0 {
            x = denoised;
            continue;
        }
        let length = lambda(step.next) - lambda(step.sigma);
        // The noise carries eta times as much as the flow, so with eta 1 the step counts twice.
        let effective = (1.0 + eta) * length;
        x = combine(&[((-effective).exp(), &x), (-(-effective).exp_m1(), &denoised)])?;
        if let Some((previous, previous_length)) = &previous {
            let weight = correction(effective) * length / previous_length;
            x = combine(&[(1.0, &x), (weight, &denoised), (-weight, previous)])?;
        }
        let level = step.next * (-(-2.0 * eta * length).exp_m1()).sqrt() * s_noise;
        x = add_noise(x, level, || noise.noise(step.sigma, step.next))?;
        previous = Some((denoised, length));
    }
    Ok(x)
}
