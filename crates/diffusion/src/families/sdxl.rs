//! Stable Diffusion XL, base and refiner: facts of its training that the weights do not tell.

use candle_core::Tensor;

use super::TextPart;
use crate::blocks::timestep_embedding;
use crate::checkpoint::{CheckpointHeader, ClipLayout};
use crate::error::Result;
use crate::sampling::{NoiseSchedule, Prediction};

/// Latents are multiplied by this after encoding, so that their spread is about one.
pub const LATENT_SCALE: f64 = 0.13025;

/// Width of the sinusoidal embedding of one number of the vector conditioning.
pub(crate) const NUMBER_WIDTH: usize = 256;
/// Numbers that the base is conditioned on: the sides, the crop's place and the sides aimed at.
pub(crate) const BASE_NUMBERS: usize = 6;
/// Numbers that the refiner is conditioned on: the sides, the crop's place and the aesthetic score.
pub(crate) const REFINER_NUMBERS: usize = 5;

/// CLIP-G as OpenCLIP names it, the layer before the last, not normalised.
const fn clip_g(prefixes: &'static [&'static str]) -> TextPart {
    TextPart { name: "clip_g", prefixes, layout: ClipLayout::OpenClip, padding: 0, layer: -2, norm: false }
}

/// CLIP-L and CLIP-G side by side; the pooled text is CLIP-G's.
pub(super) const TEXT: [TextPart; 2] = [
    TextPart {
        name: "clip_l",
        prefixes: &["conditioner.embedders.0.transformer.text_model."],
        layout: ClipLayout::HuggingFace,
        padding: crate::text::END,
        layer: -2,
        norm: false,
    },
    clip_g(&["conditioner.embedders.1.model."]),
];

pub(super) const REFINER_TEXT: [TextPart; 1] = [clip_g(&["conditioner.embedders.0.model."])];

/// Says why a file of this shape was trained in a way that cannot be run, if it was.
pub(crate) fn refusal(header: &CheckpointHeader) -> Option<&'static str> {
    if header.contains("edm_mean") && header.contains("edm_std") {
        return Some("it was trained in the EDM way (Playground 2.5), which is not supported");
    }
    let edm = header.contains("edm_vpred.sigma_max");
    edm.then_some("it was trained on velocities in the EDM way (CosXL), which is not supported")
}

/// Reads the marker keys of models trained on velocities.
pub(crate) fn prediction(header: &CheckpointHeader) -> (Prediction, NoiseSchedule) {
    match (header.contains("v_pred"), header.contains("ztsnr")) {
        (false, _) => (Prediction::Epsilon, NoiseSchedule::sd15()),
        (true, false) => (Prediction::Velocity, NoiseSchedule::sd15()),
        (true, true) => (Prediction::Velocity, NoiseSchedule::sd15().zero_terminal_snr()),
    }
}

/// Joins the pooled text and the embeddings of numbers to the network's vector conditioning.
///
/// # Shapes
/// `pooled` is `[B, P]`; the result is `[B, P + 256 n]`.
///
/// # Source
/// Podell et al. 2023, section 2.2.
pub(crate) fn vector(pooled: &Tensor, numbers: &[f64]) -> Result<Tensor> {
    let device = pooled.device();
    let values: Vec<f32> = numbers.iter().map(|number| *number as f32).collect();
    let embedded = timestep_embedding(&Tensor::new(values, device)?, NUMBER_WIDTH, device)?;
    let row = embedded.reshape((1, numbers.len() * NUMBER_WIDTH))?.repeat((pooled.dim(0)?, 1))?;
    Ok(Tensor::cat(&[pooled, &row], 1)?)
}
