//! The nodes of the sampler stage.

mod conditioning;
#[cfg(test)]
mod family_specs;
mod inpaint;
mod latent;
mod loaders;
mod loras;
mod part_loaders;
mod pix2pix;
mod sampling;
mod sdxl_text;
mod upscaling;
mod vae;

use crate::state::SamplerState;
use comfy_stage::Node;

/// Every node of this stage.
pub static NODES: &[&dyn Node<SamplerState>] = &[
    &loaders::CheckpointLoaderSimple,
    &loaders::VaeLoader,
    &loras::LoraLoader,
    &loras::LoraLoaderModelOnly,
    &part_loaders::UnetLoader,
    &part_loaders::ClipLoader,
    &conditioning::ClipTextEncode,
    &conditioning::ClipSetLastLayer,
    &latent::EmptyLatentImage,
    &latent::LatentUpscale,
    &latent::SetLatentNoiseMask,
    &sampling::KSampler,
    &sampling::KSamplerAdvanced,
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
