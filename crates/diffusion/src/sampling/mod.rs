//! Sampling: from noise and a network that predicts it to a clean latent.
//!
//! The same numbers as ComfyUI 0.3.64 on the CPU in f32: torch's noise stream, the schedules, the samplers, guidance
//! and what a sampler node does around them. Nothing here knows a model's layers.

mod after_guidance;
mod beta_quantile;
pub mod brownian;
pub mod denoiser;
pub mod error;
mod gits;
mod grounding;
pub mod guidance;
mod guidance_formulas;
mod inpaint;
pub mod latent;
mod latent_operations;
pub mod model_inputs;
mod network_calls;
pub mod noise;
pub mod options;
pub mod prediction;
pub mod preview;
mod python_random;
pub mod regions;
mod rules;
pub mod sample;
pub mod samplers;
pub mod schedule;
pub mod schedulers;
mod sharing;
pub mod sigmas;

#[cfg(test)]
mod fixtures;

pub use after_guidance::AfterGuidance;
pub use denoiser::{Denoiser, Guided, SampleCtx, StepInfo};
pub use error::{Result, SamplingError};
pub use grounding::{BoxPlace, GroundedText};
pub use guidance::{CfgDenoiser, ConditioningEntry};
pub use guidance_formulas::BeforeGuidance;
pub use latent::{Crop, ResizeMethod, resize_latent};
pub use latent_operations::LatentOperation;
pub use model_inputs::ModelInputs;
pub use network_calls::NoisePredictor;
pub use noise::{TorchGenerator, prepare_noise};
pub use options::{CfgPlusPlusForm, NoiseScale, SaSolverOptions, SamplerOptions, StepControl, Upscale};
pub use prediction::Prediction;
pub use preview::{PreviewImage, latent_preview};
pub(crate) use python_random::python_randint;
pub use regions::{Area, Region, RegionMask};
pub use rules::{DualStyle, GuidanceRule};
pub use sample::{
    CustomRequest, Hooks, SampleRequest, SamplingModel, add_noise, run_sigmas, sample, sample_custom,
};
pub use samplers::{SAMPLERS, Sampler, SamplerFn, find_sampler};
pub use schedule::{ContinuousTime, NoiseSchedule};
pub use schedulers::{SCHEDULERS, ScheduleFn, Scheduler, find_scheduler};
