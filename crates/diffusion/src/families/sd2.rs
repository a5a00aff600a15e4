//! Stable Diffusion 2.x: facts of its training that the weights do not tell.

use candle_core::{DType, Device};

use super::TextPart;
use crate::changes::Patches;
use crate::checkpoint::{ClipLayout, LoadCounter, Target, UnetConfig, WeightFile, Weights};
use crate::error::Result;
use crate::sampling::Prediction;

/// CLIP-H, the layer before the last, normalised.
pub(super) const TEXT: [TextPart; 1] = [TextPart {
    name: "clip_h",
    prefixes: &["cond_stage_model.model.", "conditioner.embedders.0.model."],
    layout: ClipLayout::OpenClip,
    padding: 0,
    layer: -2,
    norm: true,
}];

/// Nothing in a file says whether it was trained on velocities, but the spread of this tensor differs.
const TELLING_BIAS: &str = "output_blocks.11.1.transformer_blocks.0.norm1.bias";
/// Models trained on velocities are above, those trained on noise are below.
const TELLING_SPREAD: f32 = 0.09;

/// Tells what the network of a file was trained to predict.
///
/// # Errors
/// What reading the file gives.
///
/// # Source
/// The same tensor and threshold as ComfyUI.
pub(crate) fn prediction(file: &WeightFile) -> Result<Prediction> {
    let Some(shape) = file.header().shape(&format!("{}{TELLING_BIAS}", UnetConfig::PREFIX)) else {
        return Ok(Prediction::Epsilon);
    };
    let (target, counter) = (
        Target { device: Device::Cpu, dtype: DType::F32, patches: Patches::default() },
        LoadCounter::default(),
    );
    let weights = Weights::new(file, &target, &counter, UnetConfig::PREFIX);
    let bias = weights.get(TELLING_BIAS, shape)?.flatten_all()?;
    let variance = bias.broadcast_sub(&bias.mean_all()?)?.sqr()?.mean_all()?.to_scalar::<f32>()?;
    Ok(if variance.sqrt() > TELLING_SPREAD { Prediction::Velocity } else { Prediction::Epsilon })
}
