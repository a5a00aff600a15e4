//! What a sampler needs: a model that estimates x0, and the run it is part of.

use candle_core::Tensor;

use super::error::{Result, SamplingError};
use super::noise::TorchGenerator;
use super::options::SamplerOptions;
use super::schedule::NoiseSchedule;

/// Estimates the clean latent behind a noisy one.
pub trait Denoiser {
    /// Returns the estimate of x0.
    ///
    /// # Shapes
    /// `x` and the result: `[B,C,H,W]`, the batch sharing one noise level.
    ///
    /// # Errors
    /// Fails if the model does.
    fn denoise(&self, x: &Tensor, sigma: f64) -> Result<Tensor>;

    /// Returns the estimate together with the one made without the prompt, as the CFG++ samplers need it.
    ///
    /// # Errors
    /// A denoiser without an unconditional part says so.
    fn denoise_both(&self, x: &Tensor, sigma: f64) -> Result<Guided> {
        let _ = (x, sigma);
        let reason = "the model has no unconditional estimate".to_owned();
        Err(SamplingError::Unsupported { feature: "cfg++ sampler", reason })
    }
}

/// A guided estimate of x0 and the unconditional one it was guided away from.
#[derive(Debug, Clone)]
pub struct Guided {
    pub denoised: Tensor,
    pub uncond: Tensor,
}

/// One finished model evaluation, for progress and previews.
#[derive(Debug)]
pub struct StepInfo<'a> {
    /// Counts from 0.
    pub step: usize,
    pub total: usize,
    pub sigma: f64,
    /// The estimate of x0 at this step.
    pub denoised: &'a Tensor,
    /// The noisy latent the step started from.
    pub x: &'a Tensor,
}

/// A run as its sampler sees it: the seed, the trained levels, who is told of progress and who may stop it.
pub struct SampleCtx<'a> {
    seed: u64,
    schedule: &'a NoiseSchedule,
    options: SamplerOptions,
    on_step: Option<&'a mut dyn FnMut(&StepInfo<'_>)>,
    cancelled: Option<&'a dyn Fn() -> bool>,
}

impl<'a> SampleCtx<'a> {
    pub fn new(seed: u64, schedule: &'a NoiseSchedule) -> Self {
        Self { seed, schedule, options: SamplerOptions::default(), on_step: None, cancelled: None }
    }

    /// Sets what the sampler is told beyond its name.
    pub fn with_options(mut self, options: SamplerOptions) -> Self {
        self.options = options;
        self
    }

    /// Calls `on_step` after the first model evaluation of every step.
    pub fn on_step(mut self, on_step: &'a mut dyn FnMut(&StepInfo<'_>)) -> Self {
        self.on_step = Some(on_step);
        self
    }

    /// Asks `cancelled` between steps and ends the run with [`SamplingError::Cancelled`] once it says so.
    pub fn cancelled(mut self, cancelled: &'a dyn Fn() -> bool) -> Self {
        self.cancelled = Some(cancelled);
        self
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    pub fn schedule(&self) -> &'a NoiseSchedule {
        self.schedule
    }

    pub fn options(&self) -> &SamplerOptions {
        &self.options
    }

    /// Returns the stream a sampler draws its own noise from.
    ///
    /// It starts anew from the run's seed, so on the CPU a sampler's first noise is the initial noise again.
    pub fn noise(&self) -> TorchGenerator {
        TorchGenerator::new(self.seed)
    }

    /// Fails once the run was cancelled.
    pub fn check(&self) -> Result<()> {
        match self.cancelled {
            Some(cancelled) if cancelled() => Err(SamplingError::Cancelled),
            _ => Ok(()),
        }
    }

    /// Reports a step, then fails if the run was cancelled.
    pub fn report(&mut self, info: &StepInfo<'_>) -> Result<()> {
        if let Some(on_step) = &mut self.on_step {
            on_step(info);
        }
        self.check()
    }
}
