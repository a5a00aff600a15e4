//! DPM-Solver++ for the stochastic equation with two remembered estimates.

use candle_core::Tensor;

use super::super::brownian::BrownianNoise;
use super::super::denoiser::{Denoiser, SampleCtx};
use super::super::error::Result;
use super::common::{add_noise, combine, lambda, steps};

/// Corrects with the first and second divided differences of the last three estimates.
///
/// # Source
/// Lu et al. 2022 (DPM-Solver++), the third-order multistep form of SDE-DPM-Solver++ in which eta is 1 unless told otherwise; same values as
/// ComfyUI `dpmpp_3m_sde`.
pub(super) fn dpmpp_3m_sde(
    model: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    let noise = BrownianNoise::new(ctx.seed(), &x, sigmas)?;
    let (eta, s_noise) = (ctx.options().eta(), ctx.options().s_noise());
    // Estimates and the lengths of the steps they began, newest first.
    let mut history: Vec<(Tensor, f64)> = Vec::new();
    for step in steps(sigmas) {
        let denoised = model.denoise(&x, step.sigma)?;
        step.report(ctx, &x, &denoised)?;
        if step.next == 0.0 {
            x = denoised;
            continue;
        }
        let length = lambda(step.next) - lambda(step.sigma);
        let effective = (1.0 + eta) * length;
        let linear = (-effective).exp_m1() / effective + 1.0;
        x = combine(&[((-effective).exp(), &x), (-(-effective).exp_m1(), &denoised)])?;
        if let Some((first, first_length)) = history.first() {
            let near = first_length / length;
            let slope = (&denoised - first)?.affine(1.0 / near, 0.0)?;
            x = match history.get(1) {
                None => combine(&[(1.0, &x), (linear, &slope)])?,
                Some((second, second_length)) => {
                    let far = second_length / length;
                    let earlier = (first - second)?.affine(1.0 / far, 0.0)?;
                    let bend = (&slope - &earlier)?;
                    let at_end = combine(&[(1.0, &slope), (near / (near + far), &bend)])?;
                    let quadratic = linear / effective - 0.5;
                    combine(&[(1.0, &x), (linear, &at_end), (-quadratic / (near + far), &bend)])?
                }
            };
        }
        let level = step.next * (-(-2.0 * eta * length).exp_m1()).sqrt() * s_noise;
        x = add_noise(x, level, || noise.noise(step.sigma, step.next))?;
        history.insert(0, (denoised, length));
        history.truncate(2);
    }
    Ok(x)
}
