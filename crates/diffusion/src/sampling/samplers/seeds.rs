//! Exponential stochastic solvers with two and three stages.

use candle_core::Tensor;

use super::super::denoiser::{Denoiser, SampleCtx};
use super::super::error::Result;
use super::common::{combine, draw, lambda, sigma_of, steps};

/// Returns the standard deviation, per unit of sigma, of noise that a part of a step leaves behind.
///
/// The part runs from `from` to `to`, both as lengths in lambda before the point where the noise is felt.
fn left_behind(from: f64, to: f64) -> f64 {
    ((-2.0 * to).exp() - (-2.0 * from).exp()).sqrt()
}

/// Takes stochastic steps with one inner point halfway.
///
/// # Source
/// Gonzalez et al. 2023 (SEEDS), algorithm 2 (SEEDS-2) for x0 prediction; same values as ComfyUI `seeds_2`.
pub(super) fn seeds_2(
    model: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    let mut noise = ctx.noise();
    for step in steps(sigmas) {
        let denoised = model.denoise(&x, step.sigma)?;
        step.report(ctx, &x, &denoised)?;
        if step.next == 0.0 {
            x = denoised;
            continue;
        }
        let length = lambda(step.next) - lambda(step.sigma);
        let middle = sigma_of(lambda(step.sigma) + 0.5 * length);
        let (first, second) = (draw(&mut noise, &x)?, draw(&mut noise, &x)?);
        let half_noise = left_behind(0.5 * length, 0.0);
        let halfway = combine(&[
            ((-length).exp(), &x),
            (-(-length).exp_m1(), &denoised),
            (middle * half_noise, &first),
        ])?;
        let estimate = model.denoise(&halfway, middle)?;
        x = combine(&[
            ((-2.0 * length).exp(), &x),
            (-(-2.0 * length).exp_m1(), &estimate),
            (step.next * left_behind(length, 0.5 * length), &first),
            (step.next * half_noise, &second),
        ])?;
    }
    Ok(x)
}

/// Takes stochastic steps with inner points at one and two thirds.
///
/// # Source
/// Gonzalez et al. 2023 (SEEDS), algorithm 3 (SEEDS-3) for x0 prediction; same values as ComfyUI `seeds_3`.
pub(super) fn seeds_3(
    model: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    let mut noise = ctx.noise();
    for step in steps(sigmas) {
        let denoised = model.denoise(&x, step.sigma)?;
        step.report(ctx, &x, &denoised)?;
        if step.next == 0.0 {
            x = denoised;
            continue;
        }
        let length = lambda(step.next) - lambda(step.sigma);
        let third = length / 3.0;
        let level = |thirds: f64| sigma_of(lambda(step.sigma) + thirds * third);
        let draws = [draw(&mut noise, &x)?, draw(&mut noise, &x)?, draw(&mut noise, &x)?];
        // Noise of the newest third, and what is left of it one and two thirds later.
        let fresh = left_behind(third, 0.0);
        let aged = left_behind(2.0 * third, third);
        let old = left_behind(length, 2.0 * third);

        let one = combine(&[
            ((-2.0 * third).exp(), &x),
            (-(-2.0 * third).exp_m1(), &denoised),
            (level(1.0) * fresh, &draws[0]),
        ])?;
        let first = model.denoise(&one, level(1.0))?;

        let (decay, bend) = decay_and_bend(4.0 * third);
        let two = combine(&[
            (1.0 + decay, &x),
            (-decay - 2.0 * bend, &denoised),
            (2.0 * bend, &first),
            (level(2.0) * aged, &draws[0]),
            (level(2.0) * fresh, &draws[1]),
        ])?;
        let second = model.denoise(&two, level(2.0))?;

        let (decay, bend) = decay_and_bend(2.0 * length);
        x = combine(&[
            (1.0 + decay, &x),
            (-decay - 1.5 * bend, &denoised),
            (1.5 * bend, &second),
            (step.next * old, &draws[0]),
            (step.next * aged, &draws[1]),
            (step.next * fresh, &draws[2]),
        ])?;
    }
    Ok(x)
}

/// Returns exp(-length) - 1 and the weight of a linear change of the estimate over that length.
fn decay_and_bend(length: f64) -> (f64, f64) {
    let decay = (-length).exp_m1();
    (decay, decay / length + 1.0)
}
