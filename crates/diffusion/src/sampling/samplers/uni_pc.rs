//! Unified predictor-corrector of order 3.

use candle_core::Tensor;

use super::super::denoiser::{Denoiser, SampleCtx};
use super::super::error::Result;
use super::common::{Step, combine, lambda};
use super::linear::solve;

const ORDER: usize = 3;

/// Level that stands for 0, whose logarithm is not finite.
const LAST_SIGMA: f64 = 0.001;

/// Returns B(h) of the paper for the negative step length.
type Scale = fn(f64) -> f64;

/// Corrects every step with the estimate at its end, scaled by the step length.
///
/// # Source
/// Zhao et al. 2023 (UniPC), algorithms 1 and 2 with B1; same values as ComfyUI `uni_pc`.
pub(super) fn uni_pc(
    model: &dyn Denoiser,
    x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    run(model, x, sigmas, ctx, |h| h)
}

/// Corrects every step with the estimate at its end, scaled by the exponential of the step length.
///
/// # Source
/// Zhao et al. 2023 (UniPC), algorithms 1 and 2 with B2; same values as ComfyUI `uni_pc_bh2`.
pub(super) fn uni_pc_bh2(
    model: &dyn Denoiser,
    x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    run(model, x, sigmas, ctx, f64::exp_m1)
}

/// Estimates of x0 and the levels they were made at, oldest first.
type History = Vec<(f64, Tensor)>;

fn run(
    model: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
    scale: Scale,
) -> Result<Tensor> {
    let mut levels = sigmas.to_vec();
    if let Some(last) = levels.last_mut().filter(|last| **last == 0.0) {
        *last = LAST_SIGMA;
    }
    let total = levels.len().saturating_sub(1);
    if total == 0 {
        return Ok(x);
    }
    let report = |ctx: &mut SampleCtx<'_>, index: usize, x: &Tensor, denoised: &Tensor| {
        Step { index, total, sigma: levels[index], next: levels[index + 1] }.report(ctx, x, denoised)
    };
    let evaluate = |x: &Tensor, index: usize| -> Result<(f64, Tensor)> {
        let (sigma, seen) = (levels[index], process_level(levels[index]));
        let share = seen / sigma;
        let estimate = combine(&[(1.0 - share, x), (share, &model.denoise(x, sigma)?)])?;
        Ok((seen, estimate))
    };
    let first = evaluate(&x, 0)?;
    report(ctx, 0, &x, &first.1)?;
    let order = ORDER.min(total - 1);
    if order == 0 {
        // A single step has no order left to take: only the scale of the process changes.
        let ratio = ((1.0 + levels[1] * levels[1]) / (1.0 + levels[0] * levels[0])).sqrt();
        return combine(&[(ratio, &x)]);
    }
    let mut history: History = vec![first];
    for (index, level) in levels.iter().enumerate().take(total).skip(1) {
        let step_order = order.min(index).min(total + 1 - index);
        let step = Update::new(&history, step_order, process_level(*level), scale);
        let base = step.base(&x)?;
        let predicted = step.predict(&base)?;
        let (seen, denoised) = evaluate(&predicted, index)?;
        x = step.correct(&base, &denoised)?;
        report(ctx, index, &x, &denoised)?;
        history.push((seen, denoised));
        if history.len() > ORDER {
            history.remove(0);
        }
    }
    let last = Update::new(&history, 1, process_level(levels[total]), scale);
    last.predict(&last.base(&x)?)
}

/// Returns the level as the variance-preserving process holds it, in f32.
///
/// The process knows the level only as one minus a number near 1, which for small levels is coarse: 0.001 becomes
/// 0.00098. The reference steps by these figures.
fn process_level(sigma: f64) -> f64 {
    let sigma = sigma as f32;
    let log_alpha = 0.5 * (1.0 / (sigma * sigma + 1.0)).ln();
    let deviation = (1.0 - (2.0 * log_alpha).exp()).sqrt();
    f64::from(deviation) / f64::from(log_alpha.exp())
}

/// One step to a level, from the estimates so far.
struct Update<'a> {
    newest: &'a Tensor,
    /// Earlier estimates, newest first, and where they lie in units of the step.
    earlier: Vec<(f64, &'a Tensor)>,
    /// Negative step length in lambda.
    h: f64,
    ratio: f64,
    scale: f64,
}

impl<'a> Update<'a> {
    fn new(history: &'a [(f64, Tensor)], order: usize, to: f64, scale: Scale) -> Self {
        let (from, newest) = &history[history.len() - 1];
        let length = lambda(to) - lambda(*from);
        let place = |sigma: f64| (lambda(sigma) - lambda(*from)) / length;
        let earlier =
            history.iter().rev().skip(1).take(order - 1).map(|(sigma, x)| (place(*sigma), x)).collect();
        Self { newest, earlier, h: -length, ratio: to / from, scale: scale(-length) }
    }

    /// Returns the first-order step.
    fn base(&self, x: &Tensor) -> Result<Tensor> {
        combine(&[(self.ratio, x), (-self.h.exp_m1(), self.newest)])
    }

    fn predict(&self, base: &Tensor) -> Result<Tensor> {
        let weights = match self.earlier.len() {
            0 => return Ok(base.clone()),
            // One unknown has a solution that does not depend on the step: it is taken as one half.
            1 => vec![0.5],
            count => self.weights(count, &[]),
        };
        self.add(base, &weights, None)
    }

    fn correct(&self, base: &Tensor, denoised: &Tensor) -> Result<Tensor> {
        let weights = match self.earlier.len() {
            0 => vec![0.5],
            count => self.weights(count + 1, &[1.0]),
        };
        self.add(base, &weights, Some(denoised))
    }

    /// Solves for the weights that make the step exact for polynomials.
    fn weights(&self, count: usize, end: &[f64]) -> Vec<f64> {
        let places: Vec<f64> =
            self.earlier.iter().map(|(place, _)| *place).chain(end.iter().copied()).collect();
        let mut phi = self.h.exp_m1() / self.h - 1.0;
        let mut factorial = 1.0;
        let mut right = Vec::with_capacity(count);
        for i in 1..=count {
            right.push(phi * factorial / self.scale);
            factorial *= (i + 1) as f64;
            phi = phi / self.h - 1.0 / factorial;
        }
        let rows = (0..count).map(|power| places.iter().map(|p| p.powi(power as i32)).collect()).collect();
        solve(rows, right)
    }

    /// Adds the weighted differences to the newest estimate; `denoised` is the one at the end of the step.
    fn add(&self, base: &Tensor, weights: &[f64], denoised: Option<&Tensor>) -> Result<Tensor> {
        let points = self.earlier.iter().copied().chain(denoised.map(|x| (1.0, x)));
        let mut terms = vec![(1.0, base)];
        for ((place, estimate), weight) in points.zip(weights) {
            let factor = -self.scale * weight / place;
            terms.push((factor, estimate));
            terms.push((-factor, self.newest));
        }
        combine(&terms)
    }
}
