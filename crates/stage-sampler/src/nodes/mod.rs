//! The nodes of the sampler stage.

mod conditioning;
mod conditioning_changes;
mod custom_sampling;
#[cfg(test)]
mod family_specs;
mod image_noise;
mod inpaint;
mod latent;
mod latent_batch;
mod latent_composite;
mod latent_math;
mod latent_operations;
mod latent_planes;
mod latent_transform;
mod loaders;
mod loras;
mod model_sampling;
mod part_loaders;
mod pix2pix;
mod regions;
mod sampling;
mod sdxl_text;
#[cfg(test)]
mod specs;
mod upscaling;
mod vae;

pub(crate) use sampling::Predictor;

use crate::state::SamplerState;
use comfy_stage::Node;
use std::sync::LazyLock;

/// Every node of this stage.
pub fn nodes() -> &'static [&'static dyn Node<SamplerState>] {
    static NODES: LazyLock<Vec<&'static dyn Node<SamplerState>>> = LazyLock::new(|| {
        [
            BASIC,
            latent_batch::NODES,
            latent_composite::NODES,
            latent_math::NODES,
            latent_operations::NODES,
            latent_transform::NODES,
            image_noise::NODES,
            custom_sampling::NODES,
        ]
        .concat()
    });
    &NODES
}

/// The nodes outside of custom sampling.
static BASIC: &[&dyn Node<SamplerState>] = &[
    &loaders::CheckpointLoaderSimple,
    &loaders::VaeLoader,
    &loras::LoraLoader,
    &loras::LoraLoaderModelOnly,
    &part_loaders::UnetLoader,
    &part_loaders::ClipLoader,
    &conditioning::ClipTextEncode,
    &conditioning::ClipSetLastLayer,
    &conditioning_changes::ConditioningCombine,
    &conditioning_changes::ConditioningConcat,
    &conditioning_changes::ConditioningAverage,
    &conditioning_changes::ConditioningSetArea,
    &conditioning_changes::ConditioningSetAreaPercentage,
    &conditioning_changes::ConditioningSetAreaStrength,
    &conditioning_changes::ConditioningSetMask,
    &conditioning_changes::ConditioningSetTimestepRange,
    &conditioning_changes::ConditioningZeroOut,
    &latent::EmptyLatentImage,
    &latent::LatentUpscale,
    &latent::LatentUpscaleBy,
    &latent::SetLatentNoiseMask,
    &sampling::KSampler,
    &sampling::KSamplerAdvanced,
    &model_sampling::ModelSamplingDiscrete,
    &model_sampling::ModelSamplingContinuousEdm,
    &model_sampling::ModelSamplingContinuousV,
    &model_sampling::RescaleCfg,
    &model_sampling::DifferentialDiffusion,
    &model_sampling::FREE_U,
    &model_sampling::FREE_U_V2,
    &upscaling::UpscaleModelLoader,
    &upscaling::ImageUpscaleWithModel,
    &vae::VaeDecode,
    &vae::VaeEncode,
    &sdxl_text::ClipTextEncodeSdxl,
    &sdxl_text::ClipTextEncodeSdxlRefiner,
    &inpaint::VaeEncodeForInpaint,
    &inpaint::InpaintModelConditioning,
    &pix2pix::InstructPixToPixConditioning,
];
