//! Sampling of consistency models.

use candle_core::Tensor;

use super::super::denoiser::{Denoiser, SampleCtx};
use super::super::error::Result;
use super::common::{combine, draw, steps};

/// Renoises every estimate to the next level.
///
/// # Source
/// Song et al. 2023 (consistency models), algorithm 1; Luo et al. 2023 (LCM); same values as ComfyUI `lcm`.
pub(super) fn lcm(
    model: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    let mut noise = ctx.noise();
    for step in steps(sigmas) {
        let denoised = model.denoise(&x, step.sigma)?;
        step.report(ctx, &x, &denoised)?;
        x = denoised;
        if step.next > 0.0 {
            x = combine(&[(1.0, &x), (step.next, &draw(&mut noise, &x)?)])?;
        }
    }
    Ok(x)
}
