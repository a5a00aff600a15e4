//! Heun's second-order steps and their extension by a third point.

use candle_core::Tensor;

use super::super::denoiser::{Denoiser, SampleCtx};
use super::super::error::Result;
use super::common::{combine, derivative, steps};

/// Averages the slopes at both ends of every step.
///
/// # Source
/// Karras et al. 2022, algorithm 2 without churn; same values as ComfyUI `heun`.
pub(super) fn heun(
    model: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    for step in steps(sigmas) {
        let denoised = model.denoise(&x, step.sigma)?;
        step.report(ctx, &x, &denoised)?;
        let slope = derivative(&x, step.sigma, &denoised)?;
        let length = step.next - step.sigma;
        let euler = combine(&[(1.0, &x), (length, &slope)])?;
        x = if step.next == 0.0 {
            euler
        } else {
            let end = derivative(&euler, step.next, &model.denoise(&euler, step.next)?)?;
            combine(&[(1.0, &x), (0.5 * length, &slope), (0.5 * length, &end)])?
        };
    }
    Ok(x)
}

/// Looks two steps ahead and weighs the three slopes by their levels.
///
/// # Source
/// Weighted Heun steps (heun++); same values as ComfyUI `heunpp2`.
pub(super) fn heunpp2(
    model: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    let last = sigmas.last().copied().unwrap_or(0.0);
    for step in steps(sigmas) {
        let denoised = model.denoise(&x, step.sigma)?;
        step.report(ctx, &x, &denoised)?;
        let slope = derivative(&x, step.sigma, &denoised)?;
        let length = step.next - step.sigma;
        let first = combine(&[(1.0, &x), (length, &slope)])?;
        if step.next == last {
            x = first;
            continue;
        }
        let second_slope = derivative(&first, step.next, &model.denoise(&first, step.next)?)?;
        let after = sigmas[step.index + 2];
        if after == last {
            let weight = step.next / (2.0 * sigmas[0]);
            x = combine(&[(1.0, &x), (length * (1.0 - weight), &slope), (length * weight, &second_slope)])?;
            continue;
        }
        let second = combine(&[(1.0, &first), (after - step.next, &second_slope)])?;
        let third_slope = derivative(&second, after, &model.denoise(&second, after)?)?;
        let (near, far) = (step.next / (3.0 * sigmas[0]), after / (3.0 * sigmas[0]));
        x = combine(&[
            (1.0, &x),
            (length * (1.0 - near - far), &slope),
            (length * near, &second_slope),
            (length * far, &third_slope),
        ])?;
    }
    Ok(x)
}
