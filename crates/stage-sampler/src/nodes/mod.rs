//! The nodes of the sampler stage.

mod conditioning;
#[cfg(test)]
mod family_specs;
mod inpaint;
mod latent;
mod loaders;
mod pix2pix;
mod sampling;
mod sdxl_text;
mod vae;

use crate::state::SamplerState;
use comfy_stage::Node;

/// Every node of this stage.
pub static NODES: &[&dyn Node<SamplerState>] = &[
    &loaders::CheckpointLoaderSimple,
    &loaders::VaeLoader,
    &conditioning::ClipTextEncode,
    &conditioning::ClipSetLastLayer,
    &latent::EmptyLatentImage,
    &latent::LatentUpscale,
    &latent::SetLatentNoiseMask,
    &sampling::KSampler,
    &sampling::KSamplerAdvanced,
    &vae::VaeDecode,
    &vae::VaeEncode,
    &sdxl_text::ClipTextEncodeSdxl,
    &sdxl_text::ClipTextEncodeSdxlRefiner,
    &inpaint::VaeEncodeForInpaint,
    &inpaint::InpaintModelConditioning,
    &pix2pix::InstructPixToPixConditioning,
];
