//! CLIP's image encoder.

use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::config::{VisionConfig, VisionLayout};
use crate::blocks::{Activation, ClipLayer, ClipLayerShape, LayerNorm, Linear, Mask};
use crate::changes::Patches;
use crate::checkpoint::{LoadCounter, Target, WeightFile, Weights};
use crate::error::{Error, Result};

/// What the encoder makes of a batch of pictures, in f32.
#[derive(Debug, Clone)]
pub struct VisionOutput {
    /// After all layers: `[B, T, width]`.
    pub last_hidden_state: Tensor,
    /// Before the last layer: `[B, T, width]`.
    pub penultimate_hidden_states: Tensor,
    /// The class token, normalised and projected to where texts are: `[B, projected]`.
    pub image_embeds: Tensor,
}

/// A loaded image encoder.
///
/// # Source
/// Dosovitskiy et al. 2020 and Radford et al. 2021.
#[derive(Debug)]
pub struct ClipVision {
    config: VisionConfig,
    class: Tensor,
    /// One row per output channel.
    patches: Linear,
    positions: Tensor,
    norm_before: LayerNorm,
    layers: Vec<ClipLayer>,
    norm_after: LayerNorm,
    projection: Linear,
    device: Device,
    dtype: DType,
    weight_bytes: u64,
}

/// Key names outside of the layers.
struct Names {
    class: &'static str,
    patches: &'static str,
    positions: &'static str,
    norm_before: &'static str,
    layers: &'static str,
    norm_after: &'static str,
}

const HUGGING_FACE: Names = Names {
    class: "embeddings.class_embedding",
    patches: "embeddings.patch_embedding.weight",
    positions: "embeddings.position_embedding.weight",
    // Misspelled in every file.
    norm_before: "pre_layrnorm",
    layers: "encoder.layers",
    norm_after: "post_layernorm",
};

const OPEN_CLIP: Names = Names {
    class: "class_embedding",
    patches: "conv1.weight",
    positions: "positional_embedding",
    norm_before: "ln_pre",
    layers: "transformer.resblocks",
    norm_after: "ln_post",
};

impl ClipVision {
    /// Loads the image encoder of a file, which may be a checkpoint that is conditioned on pictures.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if there is none; otherwise what reading the file gives.
    pub fn load(path: &Path, device: &Device, dtype: DType) -> Result<Self> {
        let file = WeightFile::open(path)?;
        let refused = |reason| Error::Unsupported { path: path.into(), part: "image encoder", reason };
        let config = VisionConfig::from_header(file.header()).map_err(refused)?;
        let target = Target { device: device.clone(), dtype, patches: Patches::default() };
        let counter = LoadCounter::default();
        let whole = Weights::new(&file, &target, &counter, "");
        let weights = whole.below(config.prefix);
        let VisionConfig { width, patch_px, picture_px, projected, .. } = config;
        let names = match config.layout {
            VisionLayout::HuggingFace => HUGGING_FACE,
            VisionLayout::OpenClip => OPEN_CLIP,
        };
        let patches = weights.get(names.patches, &[width, 3, patch_px, patch_px])?;
        let positions = (picture_px / patch_px).pow(2) + 1;
        let shape = ClipLayerShape {
            width,
            mlp_width: config.mlp_width,
            heads: config.heads,
            activation: if config.quick_gelu { Activation::QuickGelu } else { Activation::Gelu },
            mask: Mask::None,
        };
        let layer = |i: usize| {
            let weights = weights.part(format_args!("{}.{i}", names.layers));
            match config.layout {
                VisionLayout::HuggingFace => ClipLayer::load_hugging_face(&weights, shape),
                VisionLayout::OpenClip => ClipLayer::load_open_clip(&weights, shape),
            }
        };
        let projection = match config.layout {
            VisionLayout::HuggingFace => {
                Linear::load_without_bias(&whole.part("visual_projection"), width, projected)?
            }
            VisionLayout::OpenClip => {
                Linear::of(&weights, weights.get("proj", &[width, projected])?.t()?.contiguous()?, None)?
            }
        };
        Ok(Self {
            class: weights.get(names.class, &[width])?,
            patches: Linear::of(&weights, patches.reshape((width, 3 * patch_px * patch_px))?, None)?,
            positions: weights.get(names.positions, &[positions, width])?,
            norm_before: LayerNorm::load(&weights.part(names.norm_before), width)?,
            layers: (0..config.layers).map(layer).collect::<Result<_>>()?,
            norm_after: LayerNorm::load(&weights.part(names.norm_after), width)?,
            projection,
            device: device.clone(),
            dtype,
            weight_bytes: counter.bytes(),
            config,
        })
    }

    pub fn config(&self) -> &VisionConfig {
        &self.config
    }

    /// Memory that the weights take.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// The device that pictures must be on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Encodes pictures as [`preprocess`](super::preprocess) gives them.
    ///
    /// # Shapes
    /// `[B, 3, S, S]` with S being [`VisionConfig::picture_px`].
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the shape does not fit.
    pub fn encode(&self, pixels: &Tensor) -> Result<VisionOutput> {
        let VisionConfig { picture_px: size, patch_px: patch, width, .. } = self.config;
        let batch = match *pixels.dims() {
            [batch, 3, h, w] if batch > 0 && h == size && w == size => batch,
            ref dims => {
                return Err(Error::InvalidArgument(format!(
                    "the image encoder takes [B, 3, {size}, {size}], got {dims:?}"
                )));
            }
        };
        let side = size / patch;
        // Patches do not overlap, so cutting them out and multiplying is the convolution.
        let cut = pixels
            .to_dtype(self.dtype)?
            .reshape(&[batch, 3, side, patch, side, patch][..])?
            .permute(vec![0, 2, 4, 1, 3, 5])?
            .reshape((batch, side * side, 3 * patch * patch))?;
        let class = self.class.reshape((1, 1, width))?.repeat((batch, 1, 1))?;
        let tokens = Tensor::cat(&[&class, &self.patches.forward(&cut)?], 1)?;
        let mut x = self.norm_before.forward(&tokens.broadcast_add(&self.positions)?)?;
        let mut before_last = x.clone();
        for layer in &self.layers {
            before_last = x;
            x = layer.forward(&before_last)?;
        }
        let class = self.norm_after.forward(&x.narrow(1, 0, 1)?.squeeze(1)?)?;
        let embeds = self.projection.forward(&class)?;
        Ok(VisionOutput {
            last_hidden_state: x.to_dtype(DType::F32)?,
            penultimate_hidden_states: before_last.to_dtype(DType::F32)?,
            image_embeds: embeds.to_dtype(DType::F32)?,
        })
    }
}
