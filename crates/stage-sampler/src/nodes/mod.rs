//! The nodes of the sampler stage.

mod conditioning;
mod conditioning_changes;
mod control_nets;
mod custom_sampling;
#[cfg(test)]
mod family_specs;
mod gligen;
mod guidance_patches;
mod image_noise;
mod inpaint;
mod latent;
mod latent_batch;
mod latent_composite;
mod latent_math;
mod latent_operations;
mod latent_planes;
mod latent_rebatch;
mod latent_transform;
mod loaders;
mod loras;
mod merging;
mod model_sampling;
mod model_saving;
mod network_patches;
mod part_loaders;
mod pix2pix;
mod regions;
mod sampling;
mod sdxl_text;
#[cfg(test)]
mod specs;
mod tiled_vae;
mod upscaling;
mod vae;
mod vision;

pub(crate) use sampling::Predictor;

use crate::state::SamplerState;
use comfy_stage::Node;
use std::sync::LazyLock;

/// The largest side of a picture in pixels.
const MAX_SIDE: i128 = 16384;

/// Every node of this stage.
pub fn nodes() -> &'static [&'static dyn Node<SamplerState>] {
    static NODES: LazyLock<Vec<&'static dyn Node<SamplerState>>> = LazyLock::new(|| {
        [
            BASIC,
            latent_batch::NODES,
            latent_composite::NODES,
            latent_math::NODES,
            latent_operations::NODES,
            latent_rebatch::NODES,
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
    &merging::MODEL_SIMPLE,
    &merging::MODEL_BLOCKS,
    &merging::MODEL_ADD,
    &merging::MODEL_SUBTRACT,
    &merging::MODEL_SD1,
    &merging::MODEL_SD2,
    &merging::MODEL_SDXL,
    &merging::CLIP_SIMPLE,
    &merging::CLIP_ADD,
    &merging::CLIP_SUBTRACT,
    &merging::UNET_SELF,
    &merging::UNET_CROSS,
    &merging::CLIP_ATTENTION,
    &model_saving::CHECKPOINT,
    &model_saving::MODEL,
    &model_saving::CLIP,
    &model_saving::VAE,
    &part_loaders::UnetLoader,
    &part_loaders::ClipLoader,
    &part_loaders::DualClipLoader,
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
    &control_nets::ControlNetLoader,
    &control_nets::DiffControlNetLoader,
    &control_nets::ControlNetApply,
    &control_nets::ControlNetApplyAdvanced,
    &control_nets::SetUnionControlNetType,
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
    &guidance_patches::PerturbedAttentionGuidance,
    &guidance_patches::SelfAttentionGuidance,
    &guidance_patches::EpsilonScaling,
    &guidance_patches::AdaptiveProjectedGuidance,
    &guidance_patches::FreSca,
    &guidance_patches::CFG_ZERO_STAR,
    &guidance_patches::TANGENTIAL_DAMPING,
    &guidance_patches::MAHIRO,
    &network_patches::HyperTileNode,
    &network_patches::PatchModelAddDownscale,
    &network_patches::HypernetworkLoader,
    &gligen::GLIGEN_LOADER,
    &gligen::GligenTextBoxApply,
    &upscaling::UPSCALE_MODEL_LOADER,
    &upscaling::ImageUpscaleWithModel,
    &vae::VaeDecode,
    &vae::VaeEncode,
    &tiled_vae::VaeDecodeTiled,
    &tiled_vae::VaeEncodeTiled,
    &loaders::UnclipCheckpointLoader,
    &loaders::ImageOnlyCheckpointLoader,
    &vision::CLIP_VISION_LOADER,
    &vision::ClipVisionEncode,
    &vision::UnclipConditioning,
    &vision::STYLE_MODEL_LOADER,
    &vision::StyleModelApply,
    &sdxl_text::ClipTextEncodeSdxl,
    &sdxl_text::ClipTextEncodeSdxlRefiner,
    &inpaint::VaeEncodeForInpaint,
    &inpaint::InpaintModelConditioning,
    &pix2pix::InstructPixToPixConditioning,
];
