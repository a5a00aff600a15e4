//! The nodes of the sampler stage.

mod conditioning;
mod conditioning_changes;
mod custom_sampling;
#[cfg(test)]
mod family_specs;
mod gligen;
mod guidance_patches;
mod inpaint;
mod latent;
mod loaders;
mod loras;
mod model_sampling;
mod network_patches;
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
    static NODES: LazyLock<Vec<&'static dyn Node<SamplerState>>> =
        LazyLock::new(|| [BASIC, custom_sampling::NODES].concat());
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
    &guidance_patches::PerturbedAttentionGuidance,
    &guidance_patches::SelfAttentionGuidance,
    &network_patches::HyperTileNode,
    &network_patches::HypernetworkLoader,
    &gligen::GligenLoader,
    &gligen::GligenTextBoxApply,
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
