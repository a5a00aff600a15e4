//! Sampling of consistency models.

use candle_core::Tensor;

use super::super::denoiser::{Denoiser, SampleCtx};
use super::super::error::{Result, SamplingError};
use super::super::latent::resize_planes;
use super::super::options::Upscale;
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
    let sizes = match ctx.options().upscale {
        None => Vec::new(),
        Some(upscale) => {
            // A growing run goes on in the stream that the initial noise came from.
            draw(&mut noise, &x)?;
            growing_sizes(upscale, &x, sigmas.len())?
        }
    };
    for step in steps(sigmas) {
        let denoised = model.denoise(&x, step.sigma)?;
        step.report(ctx, &x, &denoised)?;
        x = denoised;
        if let (Some(upscale), Some((height, width))) = (ctx.options().upscale, sizes.get(step.index)) {
            x = resize_planes(&x, upscale.method, *height, *width)?;
        }
        if step.next > 0.0 {
            x = combine(&[(1.0, &x), (step.next, &draw(&mut noise, &x)?)])?;
        }
    }
    Ok(x)
}

/// Returns the height and width after each of the growing steps, evenly spaced up to the factor.
fn growing_sizes(upscale: Upscale, x: &Tensor, levels: usize) -> Result<Vec<(usize, usize)>> {
    let (_, _, height, width) = x.dims4()?;
    let count = upscale.steps.map_or_else(|| (levels / 2).max(1), |steps| steps.min(levels));
    let size = |side: usize, i: usize| {
        let factor = 1.0 + (upscale.factor - 1.0) * i as f64 / count as f64;
        (side as f64 * factor).round_ties_even() as usize
    };
    let sizes: Vec<_> = (1..=count).map(|i| (size(height, i), size(width, i))).collect();
    if sizes.iter().any(|(height, width)| *height == 0 || *width == 0) {
        let reason = format!("{} leaves nothing of {height} by {width}", upscale.factor);
        return Err(SamplingError::invalid("scale_ratio", reason));
    }
    Ok(sizes)
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::super::super::latent::ResizeMethod;
    use super::*;

    #[test]
    fn latents_grow_to_the_factor_and_stay() {
        let x = Tensor::zeros((1, 4, 8, 6), DType::F32, &Device::Cpu).unwrap();
        let sizes = |factor, steps, levels| {
            let method = ResizeMethod::Bislerp;
            growing_sizes(Upscale { factor, steps, method }, &x, levels).unwrap()
        };
        assert_eq!(sizes(2.0, None, 5), [(12, 9), (16, 12)]);
        assert_eq!(sizes(2.0, None, 2), [(16, 12)]);
        assert_eq!(sizes(2.0, Some(1), 5), [(16, 12)]);
        assert_eq!(sizes(1.5, Some(0), 5), []);
        assert_eq!(sizes(0.5, Some(2), 5), [(6, 4), (4, 3)]);
    }
}
