//! Stochastic Adams solver: predictor and corrector.

use candle_core::Tensor;

use super::super::denoiser::{Denoiser, SampleCtx};
use super::super::error::Result;
use super::common::{combine, draw, lambda, steps};
use super::linear::solve;

/// Part of the run, by share of the steps, in which noise is added unless told otherwise.
const NOISY_PART: (f64, f64) = (0.2, 0.8);

/// When a step evaluates the model.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Evaluations {
    /// On the predicted state only.
    Predicted,
    /// Again on the corrected state.
    PredictedAndCorrected,
}

/// Predicts and corrects every step from up to four estimates, with noise in the middle of the run.
///
/// # Source
/// Xue et al. 2023 (SA-Solver), algorithm 1 in PEC mode; same values as ComfyUI `sa_solver`.
pub(super) fn sa_solver(
    model: &dyn Denoiser,
    x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    run(model, x, sigmas, ctx, Evaluations::Predicted)
}

/// As `sa_solver`, evaluating the model again after the correction.
///
/// # Source
/// Xue et al. 2023 (SA-Solver), algorithm 1 in PECE mode; same values as ComfyUI `sa_solver_pece`.
pub(super) fn sa_solver_pece(
    model: &dyn Denoiser,
    x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    run(model, x, sigmas, ctx, Evaluations::PredictedAndCorrected)
}

/// Which half of a step the weights are for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Predictor,
    Corrector,
}

/// One step between two levels: how noisy it is and the noise it was given.
struct Advance {
    tau: f64,
    simple: bool,
    from: f64,
    to: f64,
    noise: Option<Tensor>,
}

impl Advance {
    /// Applies the step to `x` with the polynomial through `estimates`, which were made at `levels`.
    fn apply(&self, x: &Tensor, levels: &[f64], estimates: &[Tensor], role: Role) -> Result<Tensor> {
        let length = lambda(self.to) - lambda(self.from);
        let ratio = self.to / self.from * (-self.tau * self.tau * length).exp();
        let weights = match (self.simple, levels) {
            (true, &[before, _]) => self.simple_weights(before, role),
            _ => adams_weights(levels, self.from, self.to, self.tau),
        };
        let mut terms = vec![(ratio, x)];
        terms.extend(weights.into_iter().zip(estimates));
        if let Some(noise) = &self.noise {
            terms.push((1.0, noise));
        }
        combine(&terms)
    }

    /// Returns the weights of two estimates, older first, of which one is taken to lowest order in the step length.
    ///
    /// # Source
    /// Xue et al. 2023, appendix D.
    fn simple_weights(&self, before: f64, role: Role) -> Vec<f64> {
        let length = lambda(self.to) - lambda(self.from);
        let rate = 1.0 + self.tau * self.tau;
        let both = -(-rate * length).exp_m1();
        match role {
            Role::Corrector => {
                let newer = 0.5 * rate * length;
                vec![both - newer, newer]
            }
            Role::Predictor => {
                let older = 0.5 * rate * length * length / (lambda(before) - lambda(self.from));
                vec![older, both - older]
            }
        }
    }
}

fn run(
    model: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
    evaluations: Evaluations,
) -> Result<Tensor> {
    let mut noise = ctx.noise();
    let options = ctx.options().sa_solver;
    let (eta, s_noise) = (ctx.options().eta(), ctx.options().s_noise());
    let level = |share| ctx.schedule().percent_to_sigma(share);
    let (noisy_from, noisy_to) = options.noisy.unwrap_or_else(|| (level(NOISY_PART.0), level(NOISY_PART.1)));
    let twice = evaluations == Evaluations::PredictedAndCorrected || options.evaluate_corrected;
    let remembered = options.predictor_order.max(options.corrector_order);
    let ends_clean = sigmas.last() == Some(&0.0);
    let mut predicted = x.clone();
    let mut estimates: Vec<Tensor> = Vec::new();
    let mut last: Option<Advance> = None;
    for step in steps(sigmas) {
        let mut denoised = model.denoise(&predicted, step.sigma)?;
        step.report(ctx, &predicted, &denoised)?;
        estimates.push(denoised.clone());
        if estimates.len() > remembered {
            estimates.remove(0);
        }
        // Fewer estimates are used towards the end, where the levels are far apart in lambda.
        let left = step.total - 1 - step.index;
        let limit = |order: usize, left: usize| {
            let order = order.min(estimates.len());
            if ends_clean { order.min(left) } else { order }
        };
        let predictor_order = limit(options.predictor_order, left);
        let corrector_order = limit(options.corrector_order, left + 1);
        let used = |order: usize| &sigmas[step.index + 1 - order..=step.index];

        match &last {
            Some(advance) if corrector_order > 0 && (step.next > 0.0 || twice) => {
                let newest = &estimates[estimates.len() - corrector_order..];
                x = advance.apply(&x, used(corrector_order), newest, Role::Corrector)?;
                if twice {
                    denoised = model.denoise(&x, step.sigma)?;
                    if let Some(newest) = estimates.last_mut() {
                        *newest = denoised.clone();
                    }
                }
            }
            _ => x = predicted.clone(),
        }

        if step.next == 0.0 {
            x = denoised;
            continue;
        }
        let noisy = (noisy_to..=noisy_from).contains(&step.next);
        let tau = if noisy { eta } else { 0.0 };
        let mut advance =
            Advance { tau, simple: options.simple_order_2, from: step.sigma, to: step.next, noise: None };
        if tau > 0.0 && s_noise > 0.0 {
            let length = lambda(step.next) - lambda(step.sigma);
            let level = step.next * (-(-2.0 * tau * tau * length).exp_m1()).sqrt() * s_noise;
            advance.noise = Some(draw(&mut noise, &x)?.affine(level, 0.0)?);
        }
        let newest = &estimates[estimates.len() - predictor_order..];
        predicted = advance.apply(&x, used(predictor_order), newest, Role::Predictor)?;
        last = Some(advance);
    }
    Ok(x)
}

/// Returns the weight of each estimate: the integral of its Lagrange basis polynomial in lambda against the decay.
///
/// # Source
/// Xue et al. 2023, eq. 14 and 17; the integrals of the powers come from integrating by parts.
fn adams_weights(levels: &[f64], from: f64, to: f64, tau: f64) -> Vec<f64> {
    let (start, end) = (lambda(from), lambda(to));
    let rate = 1.0 + tau * tau;
    let decay = (-rate * (end - start)).exp();
    let mut powers: Vec<f64> = Vec::with_capacity(levels.len());
    for p in 0..levels.len() {
        let ends = end.powi(p as i32) - start.powi(p as i32) * decay;
        let before = powers.last().map_or(0.0, |integral| p as f64 / rate * integral);
        powers.push(ends - before);
    }
    let row = |p: usize| levels.iter().map(|level| lambda(*level).powi(p as i32)).collect();
    solve((0..levels.len()).map(row).collect(), powers)
}
