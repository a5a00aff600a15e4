//! Sampling of a part of a latent.

use candle_core::{DType, Tensor};

use super::denoiser::{Denoiser, Guided};
use super::error::{Result, SamplingError};
use super::latent::{ResizeMethod, resize_planes};
use super::noise::TorchGenerator;
use super::sample::{CustomRequest, SamplingModel};
use super::samplers::InpaintNoise;
use super::schedule::NoiseSchedule;

/// Keeps the unmasked part of a latent while the rest is sampled.
///
/// Before every call the kept part is put at the call's noise level; after it, it is put back clean.
pub(super) struct InpaintDenoiser<'a> {
    inner: &'a dyn Denoiser,
    /// 1 where the latent is sampled.
    mask: Tensor,
    noise: Tensor,
    latent: Tensor,
    edge: Option<MovingEdge<'a>>,
}

impl<'a> InpaintDenoiser<'a> {
    pub fn new(
        model: &SamplingModel<'a>,
        inner: &'a dyn Denoiser,
        request: &CustomRequest<'_>,
        mask: &Tensor,
        latent: Tensor,
    ) -> Result<Self> {
        let noise = match request.sampler.inpaint_noise {
            InpaintNoise::Initial => request.noise.clone(),
            InpaintNoise::NextSeed => TorchGenerator::new(request.seed.wrapping_add(1))
                .randn_tensor(latent.dims(), latent.device())?,
        };
        let mask = fit_mask(mask, latent.dims())?;
        let edge = model.differential.map(|share| MovingEdge::new(model.schedule, request.sigmas, share));
        Ok(Self { inner, mask, noise, latent, edge })
    }

    fn mask_at(&self, sigma: f64) -> Result<Tensor> {
        match &self.edge {
            None => Ok(self.mask.clone()),
            Some(edge) => edge.apply(&self.mask, sigma),
        }
    }

    fn blend(&self, mask: &Tensor, sampled: &Tensor, kept: &Tensor) -> Result<Tensor> {
        let inverse = mask.affine(-1.0, 1.0)?;
        Ok(((sampled * mask)? + (kept * inverse)?)?)
    }

    fn at_level(&self, mask: &Tensor, x: &Tensor, sigma: f64) -> Result<Tensor> {
        self.blend(mask, x, &(self.noise.affine(sigma, 0.0)? + &self.latent)?)
    }
}

/// Turns a soft mask into one whose edge moves: the darker a place, the later it is let go.
///
/// # Source
/// Levin and Fried 2023 (Differential Diffusion), algorithm 1; same values as ComfyUI `DifferentialDiffusion`.
struct MovingEdge<'a> {
    schedule: &'a NoiseSchedule,
    from: f32,
    to: f32,
    share: f64,
}

impl<'a> MovingEdge<'a> {
    fn new(schedule: &'a NoiseSchedule, sigmas: &[f64], share: f64) -> Self {
        let lowest = f64::from(schedule.sigma_min());
        let last = sigmas.last().map_or(lowest, |last| last.max(lowest));
        let from = schedule.timestep(sigmas.first().copied().unwrap_or(lowest));
        Self { schedule, from, to: schedule.timestep(last), share }
    }

    fn apply(&self, mask: &Tensor, sigma: f64) -> Result<Tensor> {
        let threshold = (self.schedule.timestep(sigma) - self.to) / (self.from - self.to);
        let hard = mask.ge(threshold)?.to_dtype(mask.dtype())?;
        if self.share > 0.0 && self.share < 1.0 {
            return Ok((hard.affine(self.share, 0.0)? + mask.affine(1.0 - self.share, 0.0)?)?);
        }
        Ok(hard)
    }
}

impl Denoiser for InpaintDenoiser<'_> {
    fn denoise(&self, x: &Tensor, sigma: f64) -> Result<Tensor> {
        let mask = self.mask_at(sigma)?;
        let denoised = self.inner.denoise(&self.at_level(&mask, x, sigma)?, sigma)?;
        self.blend(&mask, &denoised, &self.latent)
    }

    fn denoise_both(&self, x: &Tensor, sigma: f64) -> Result<Guided> {
        let mask = self.mask_at(sigma)?;
        let guided = self.inner.denoise_both(&self.at_level(&mask, x, sigma)?, sigma)?;
        // The unconditional estimate stays whole: it only gives a direction.
        Ok(Guided { denoised: self.blend(&mask, &guided.denoised, &self.latent)?, uncond: guided.uncond })
    }
}

/// Brings a mask to the size, channels and batch of a latent; values between 0 and 1 stay what they are.
fn fit_mask(mask: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let (batch, height, width) = match *mask.dims() {
        [height, width] => (1, height, width),
        [batch, height, width] | [batch, 1, height, width] => (batch, height, width),
        ref other => {
            let reason = format!("expected `[batch, height, width]`, got {other:?}");
            return Err(SamplingError::invalid("noise_mask", reason));
        }
    };
    let mask = mask.to_dtype(DType::F32)?.reshape((batch, 1, height, width))?;
    let mask = resize_planes(&mask, ResizeMethod::Bilinear, shape[2], shape[3])?;
    let repeats = shape[0].div_ceil(batch);
    let mask = mask.repeat((repeats, shape[1], 1, 1))?;
    Ok(mask.narrow(0, 0, shape[0])?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::fixtures::values;
    use super::*;

    #[test]
    fn a_moving_edge_lets_dark_places_go_late() {
        let schedule = NoiseSchedule::sd15();
        let sigma = |index: f32| f64::from(schedule.sigma(index));
        let mask = Tensor::new(&[0f32, 0.3, 0.7, 1.0], &Device::Cpu).unwrap();
        let at = |share, index: f32| {
            let edge = MovingEdge::new(&schedule, &[sigma(999.0), 1.0, 0.0], share);
            values(&edge.apply(&mask, sigma(index)).unwrap())
        };
        assert_eq!(at(1.0, 999.0), [0.0, 0.0, 0.0, 1.0]);
        assert_eq!(at(1.0, 500.0), [0.0, 0.0, 1.0, 1.0]);
        assert_eq!(at(1.0, 100.0), [0.0, 1.0, 1.0, 1.0]);
        assert_eq!(at(1.0, 0.0), [1.0; 4]);
        let half = at(0.5, 500.0);
        for (got, want) in half.iter().zip([0.0, 0.15, 0.85, 1.0]) {
            assert!((got - want).abs() < 1e-6, "{half:?}");
        }
    }
}
