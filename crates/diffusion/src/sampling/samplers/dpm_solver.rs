//! DPM-Solver with a fixed budget of model calls and with an adaptive step.

use candle_core::Tensor;

use super::super::denoiser::{Denoiser, SampleCtx, StepInfo};
use super::super::error::{Result, SamplingError};
use super::super::options::StepControl;
use super::common::{ancestral, combine, derivative, draw, lambda, sigma_of};

/// The state at one lambda and the noise the model sees in it.
struct Point<'a> {
    model: &'a dyn Denoiser,
    x: &'a Tensor,
    at: f64,
    eps: Tensor,
}

impl<'a> Point<'a> {
    fn new(model: &'a dyn Denoiser, x: &'a Tensor, at: f64) -> Result<(Self, Tensor)> {
        let denoised = model.denoise(x, sigma_of(at))?;
        let eps = derivative(x, sigma_of(at), &denoised)?;
        Ok((Self { model, x, at, eps }, denoised))
    }

    /// Returns the noise the model sees in `x` at lambda `at`.
    fn eps_of(&self, x: &Tensor, at: f64) -> Result<Tensor> {
        derivative(x, sigma_of(at), &self.model.denoise(x, sigma_of(at))?)
    }

    fn first_order(&self, to: f64) -> Result<Tensor> {
        combine(&[(1.0, self.x), (-sigma_of(to) * (to - self.at).exp_m1(), &self.eps)])
    }

    /// Evaluates the noise a share of the way to `to`, reached with a first-order step.
    fn eps_towards(&self, to: f64, share: f64) -> Result<Tensor> {
        let inner = self.at + share * (to - self.at);
        self.eps_of(&self.first_order(inner)?, inner)
    }

    /// Returns a step of one order below `order` and one of that order.
    fn pair(&self, to: f64, order: usize) -> Result<(Tensor, Tensor)> {
        if order == 2 {
            return Ok((self.first_order(to)?, self.second_order(to, 0.5, &self.eps_towards(to, 0.5)?)?));
        }
        let inner_eps = self.eps_towards(to, 1.0 / 3.0)?;
        Ok((self.second_order(to, 1.0 / 3.0, &inner_eps)?, self.third_order(to, &inner_eps)?))
    }

    fn second_order(&self, to: f64, share: f64, inner_eps: &Tensor) -> Result<Tensor> {
        let scale = sigma_of(to) * (to - self.at).exp_m1();
        let slope = scale / (2.0 * share);
        combine(&[(1.0, self.x), (slope - scale, &self.eps), (-slope, inner_eps)])
    }

    fn third_order(&self, to: f64, inner_eps: &Tensor) -> Result<Tensor> {
        const SHARES: (f64, f64) = (1.0 / 3.0, 2.0 / 3.0);
        let length = to - self.at;
        let inner = self.at + SHARES.1 * length;
        let inner_length = SHARES.1 * length;
        let scale = sigma_of(inner) * inner_length.exp_m1();
        let slope = sigma_of(inner) * SHARES.1 / SHARES.0 * (inner_length.exp_m1() / inner_length - 1.0);
        let state = combine(&[(1.0, self.x), (slope - scale, &self.eps), (-slope, inner_eps)])?;
        let second_eps = self.eps_of(&state, inner)?;
        let scale = sigma_of(to) * length.exp_m1();
        let slope = sigma_of(to) / SHARES.1 * (length.exp_m1() / length - 1.0);
        combine(&[(1.0, self.x), (slope - scale, &self.eps), (-slope, &second_eps)])
    }
}

/// Chooses step lengths from the errors of the last three steps.
///
/// # Source
/// Soderlind 2003 (digital filters in adaptive time-stepping), the PID controller; figures as in k-diffusion.
struct Controller {
    length: f64,
    exponents: [f64; 3],
    /// Inverse errors, newest first.
    inverse_errors: Option<[f64; 3]>,
    accept_from: f64,
}

impl Controller {
    fn new(control: StepControl, order: f64) -> Self {
        let StepControl { proportional, integral, derivative, .. } = control;
        let exponents = [
            (proportional + integral + derivative) / order,
            -(proportional + 2.0 * derivative) / order,
            derivative / order,
        ];
        Self {
            length: control.first_length,
            exponents,
            inverse_errors: None,
            accept_from: control.accept_from,
        }
    }

    /// Takes the error of a step, changes the length and says whether the step is good enough to keep.
    fn accepts(&mut self, error: f64) -> bool {
        let inverse = 1.0 / (error + 1e-8);
        let mut errors = self.inverse_errors.unwrap_or([inverse; 3]);
        errors[0] = inverse;
        let product: f64 = errors.iter().zip(self.exponents).map(|(e, exponent)| e.powf(exponent)).product();
        // The arc tangent bounds the change of length.
        let factor = 1.0 + (product - 1.0).atan();
        let accepted = factor >= self.accept_from;
        if accepted {
            errors = [errors[0], errors[0], errors[1]];
        }
        self.inverse_errors = Some(errors);
        self.length *= factor;
        accepted
    }
}

/// Returns the first level and the last one above 0.
fn ends(sigmas: &[f64]) -> Result<(f64, f64)> {
    let low = match *sigmas {
        [.., before, 0.0] => before,
        [.., last] => last,
        [] => 0.0,
    };
    if low <= 0.0 {
        return Err(SamplingError::invalid("sigmas", "no positive noise level"));
    }
    Ok((sigmas[0], low))
}

/// Spends as many model calls as there are steps, mostly on third-order steps of even length in lambda.
///
/// # Source
/// Lu et al. 2022 (DPM-Solver), section 3.4 and algorithms 1 and 2; same values as ComfyUI `dpm_fast`.
pub(super) fn dpm_fast(
    model: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    let (high, low) = ends(sigmas)?;
    let calls = sigmas.len() - 1;
    let count = calls / 3 + 1;
    let orders: Vec<usize> = match calls % 3 {
        0 => std::iter::repeat_n(3, count - 2).chain([2, 1]).collect(),
        rest => std::iter::repeat_n(3, count - 1).chain([rest]).collect(),
    };
    let (start, end) = (lambda(high), lambda(low));
    let at = |i: usize| start + (end - start) * i as f64 / count as f64;
    for (i, order) in orders.into_iter().enumerate() {
        let (from, to) = (at(i), at(i + 1));
        let (point, denoised) = Point::new(model, &x, from)?;
        ctx.report(&StepInfo { step: i, total: calls, sigma: sigma_of(from), denoised: &denoised, x: &x })?;
        let next = match order {
            1 => point.first_order(to)?,
            2 => point.second_order(to, 0.5, &point.eps_towards(to, 0.5)?)?,
            _ => point.third_order(to, &point.eps_towards(to, 1.0 / 3.0)?)?,
        };
        x = next;
    }
    Ok(x)
}

/// Bounds a run whose step length collapses, for instance because the model gives no numbers.
const MAX_STEPS: usize = 10_000;

/// Chooses the step length from the difference between steps of neighbouring orders, the second and the third unless
/// told otherwise.
///
/// Steps are reported against the number of levels given, though how many there are is known only at the end.
///
/// # Source
/// Lu et al. 2022 (DPM-Solver), algorithm 3 (DPM-Solver-12 and -23); same values as ComfyUI `dpm_adaptive`.
pub(super) fn dpm_adaptive(
    model: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    let (high, low) = ends(sigmas)?;
    let (mut from, end) = (lambda(high), lambda(low));
    let (eta, s_noise) = (ctx.options().eta.unwrap_or(0.0), ctx.options().s_noise());
    let order = ctx.options().order.unwrap_or(3);
    if !(2..=3).contains(&order) {
        return Err(SamplingError::invalid("order", format!("{order} is not 2 or 3")));
    }
    let control = ctx.options().step_control;
    let mut controller = Controller::new(control, if eta > 0.0 { 1.5 } else { order as f64 });
    let mut noise = ctx.noise();
    let mut previous = x.clone();
    let mut step = 0;
    while from < end - 1e-5 {
        if step == MAX_STEPS || from + controller.length <= from {
            let reason = format!("no end after {step} adaptive steps");
            return Err(SamplingError::invalid("sampler", reason));
        }
        let to = end.min(from + controller.length);
        let (down, up) = match ancestral(sigma_of(from), sigma_of(to), eta) {
            (_, 0.0) => (to, 0.0),
            (down, _) => {
                let down = end.min(lambda(down));
                (down, (sigma_of(to).powi(2) - sigma_of(down).powi(2)).sqrt())
            }
        };
        let (point, denoised) = Point::new(model, &x, from)?;
        let (coarse, fine) = point.pair(down, order)?;
        let total = sigmas.len() - 1;
        ctx.report(&StepInfo {
            step: step.min(total - 1),
            total,
            sigma: sigma_of(from),
            denoised: &denoised,
            x: &x,
        })?;
        if controller.accepts(scaled_error(&coarse, &fine, &previous, control)?) {
            previous = coarse;
            x = if eta > 0.0 {
                combine(&[(1.0, &fine), (up * s_noise, &draw(&mut noise, &x)?)])?
            } else {
                fine
            };
            from = to;
        }
        step += 1;
    }
    Ok(x)
}

/// Returns the root mean square of the difference, in units of the tolerance.
fn scaled_error(coarse: &Tensor, fine: &Tensor, previous: &Tensor, control: StepControl) -> Result<f64> {
    let largest = coarse.abs()?.maximum(&previous.abs()?)?;
    let tolerance = largest.affine(control.relative_tolerance, 0.0)?.maximum(control.absolute_tolerance)?;
    let squares = ((coarse - fine)? / tolerance)?.sqr()?.mean_all()?;
    Ok(f64::from(squares.to_dtype(candle_core::DType::F32)?.to_scalar::<f32>()?).sqrt())
}
