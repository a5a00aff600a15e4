//! Sampling: from noise and a network that predicts it to a clean latent.
//!
//! The same numbers as ComfyUI 0.3.64 on the CPU in f32: torch's noise stream, the schedules, the samplers, guidance
//! and what a sampler node does around them. Nothing here knows a model's layers.

mod beta_quantile;
pub mod brownian;
pub mod denoiser;
pub mod error;
pub mod guidance;
pub mod latent;
pub mod model_inputs;
pub mod noise;
pub mod prediction;
pub mod preview;
pub mod sample;
pub mod samplers;
pub mod schedule;
pub mod schedulers;

#[cfg(test)]
mod fixtures;

pub use denoiser::{Denoiser, Guided, SampleCtx, StepInfo};
pub use error::{Result, SamplingError};
pub use guidance::{Area, CfgDenoiser, ConditioningEntry, NoisePredictor};
pub use latent::{Crop, ResizeMethod, resize_latent};
pub use model_inputs::ModelInputs;
pub use noise::{TorchGenerator, prepare_noise};
pub use prediction::Prediction;
pub use preview::{PreviewImage, latent_preview};
pub use sample::{Hooks, SampleRequest, SamplingModel, run_sigmas, sample};
pub use samplers::{SAMPLERS, Sampler, SamplerFn, find_sampler};
pub use schedule::NoiseSchedule;
pub use schedulers::{SCHEDULERS, ScheduleFn, Scheduler, find_scheduler};
