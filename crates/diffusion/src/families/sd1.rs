//! Stable Diffusion 1.x: facts of its training that the weights do not tell.

use super::TextPart;
use crate::checkpoint::ClipLayout;

/// Latents are multiplied by this after encoding, so that their spread is about one.
pub const LATENT_SCALE: f64 = 0.18215;
/// Channels of a latent.
pub const LATENT_CHANNELS: usize = 4;
/// Image pixels per latent cell along one side.
pub const DOWNSCALE: usize = 8;

/// CLIP-L, its last layer; a file that holds only the encoder has it under a shorter name.
pub(super) const TEXT: [TextPart; 1] = [TextPart {
    name: "clip_l",
    prefixes: &[
        "cond_stage_model.transformer.text_model.",
        "cond_stage_model.transformer.",
        "text_model.",
        "",
    ],
    layout: ClipLayout::HuggingFace,
    padding: crate::text::END,
    layer: -1,
    norm: true,
}];
