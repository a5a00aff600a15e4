//! The nodes of the sampler stage.

mod conditioning;
mod latent;
mod loaders;
mod part_loaders;
mod sampling;
mod vae;

use crate::state::SamplerState;
use comfy_stage::Node;

/// Every node of this stage.
pub static NODES: &[&dyn Node<SamplerState>] = &[
    &loaders::CheckpointLoaderSimple,
    &loaders::VaeLoader,
    &part_loaders::UnetLoader,
    &part_loaders::ClipLoader,
    &conditioning::ClipTextEncode,
    &conditioning::ClipSetLastLayer,
    &latent::EmptyLatentImage,
    &latent::LatentUpscale,
    &latent::SetLatentNoiseMask,
    &sampling::KSampler,
    &sampling::KSamplerAdvanced,
    &vae::VaeDecode,
    &vae::VaeEncode,
];
