//! Extended reverse-time stochastic solver.

use candle_core::Tensor;

use super::super::denoiser::{Denoiser, SampleCtx};
use super::super::error::Result;
use super::super::options::NoiseScale;
use super::common::{add_noise, combine, draw, steps};

/// Highest order of the expansion.
const MAX_STAGES: usize = 3;

/// Points of the sums that stand for the solver's integrals; part of the figures to be matched.
const INTEGRAL_POINTS: usize = 200;

/// Takes stochastic steps with a Taylor expansion of the estimate up to order 3.
///
/// # Source
/// Cui et al. 2023 (Elucidating the solution space of extended reverse-time SDE), eq. 27 and the ER-SDE 5 noise
/// scale; same values as ComfyUI `er_sde`.
pub(super) fn er_sde(
    model: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    let mut noise = ctx.noise();
    let s_noise = ctx.options().s_noise();
    let stages = ctx.options().order.unwrap_or(MAX_STAGES);
    let scale = ctx.options().noise_scale;
    let mut previous: Option<Tensor> = None;
    let mut previous_slope: Option<Tensor> = None;
    for step in steps(sigmas) {
        let denoised = model.denoise(&x, step.sigma)?;
        step.report(ctx, &x, &denoised)?;
        if step.next == 0.0 {
            x = denoised;
            continue;
        }
        let ratio = scale.at(step.next) / scale.at(step.sigma);
        x = combine(&[(ratio, &x), (1.0 - ratio, &denoised)])?;
        if let Some(previous) = previous.as_ref().filter(|_| stages >= 2) {
            let integrals = Integrals::new(step.sigma, step.next, scale);
            let change = step.next - step.sigma;
            let slope = (&denoised - previous)?.affine(1.0 / (step.sigma - sigmas[step.index - 1]), 0.0)?;
            let weight = change + integrals.constant * scale.at(step.next);
            x = combine(&[(1.0, &x), (weight, &slope)])?;
            if let Some(previous_slope) = previous_slope.as_ref().filter(|_| stages >= 3) {
                let span = 0.5 * (step.sigma - sigmas[step.index - 2]);
                let weight = 0.5 * change * change + integrals.linear * scale.at(step.next);
                x = combine(&[(1.0, &x), (weight / span, &slope), (-weight / span, previous_slope)])?;
            }
            previous_slope = Some(slope);
        }
        let variance = step.next * step.next - (step.sigma * ratio).powi(2);
        let fresh = draw(&mut noise, &x)?;
        x = add_noise(x, variance.max(0.0).sqrt() * s_noise, || Ok(fresh))?;
        previous = Some(denoised);
    }
    Ok(x)
}

impl NoiseScale {
    fn at(self, sigma: f64) -> f64 {
        match self {
            Self::Extended => sigma * (sigma.powf(0.3).exp() + 10.0),
            Self::ReverseTime { eta } => sigma.powf(eta + 1.0),
        }
    }
}

/// Integrals from the next level up to the current one, over the noise scale.
struct Integrals {
    constant: f64,
    /// Of the distance to the current level, which is negative.
    linear: f64,
}

impl Integrals {
    fn new(sigma: f64, next: f64, scale: NoiseScale) -> Self {
        let width = (sigma - next) / INTEGRAL_POINTS as f64;
        let points = (0..INTEGRAL_POINTS).map(|i| next + i as f64 * width);
        let constant = points.clone().map(|at| width / scale.at(at)).sum();
        let linear = points.map(|at| width * (at - sigma) / scale.at(at)).sum();
        Self { constant, linear }
    }
}
