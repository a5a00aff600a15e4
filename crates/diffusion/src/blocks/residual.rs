//! The residual block that the UNet and the autoencoder share.

use candle_core::Tensor;

use super::layers::{Conv2d, ConvShape, GroupNorm, Linear};
use crate::checkpoint::Weights;
use crate::error::Result;

/// Key names of one variant of the block, and its normalisation constant.
pub(crate) struct ResidualNames {
    norm1: &'static str,
    conv1: &'static str,
    embedding: &'static str,
    norm2: &'static str,
    conv2: &'static str,
    skip: &'static str,
    eps: f64,
}

impl ResidualNames {
    pub(crate) const UNET: Self = Self {
        norm1: "in_layers.0",
        conv1: "in_layers.2",
        embedding: "emb_layers.1",
        norm2: "out_layers.0",
        conv2: "out_layers.3",
        skip: "skip_connection",
        eps: 1e-5,
    };
    pub(crate) const VAE: Self = Self {
        norm1: "norm1",
        conv1: "conv1",
        embedding: "temb_proj",
        norm2: "norm2",
        conv2: "conv2",
        skip: "nin_shortcut",
        eps: 1e-6,
    };
}

/// Two normalised convolutions around an optional timestep embedding, added to their input.
#[derive(Debug)]
pub(crate) struct Residual {
    norm1: GroupNorm,
    conv1: Conv2d,
    embedding: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv2d,
    skip: Option<Conv2d>,
}

impl Residual {
    /// Loads a block; `embed` is the width of the timestep embedding, if it takes one.
    pub(crate) fn load(
        weights: &Weights<'_>,
        names: &ResidualNames,
        inputs: usize,
        outputs: usize,
        embed: Option<usize>,
    ) -> Result<Self> {
        let embedding = |width| Linear::load(&weights.part(names.embedding), width, outputs);
        let skip = || Conv2d::load(&weights.part(names.skip), ConvShape::point(inputs, outputs));
        Ok(Self {
            norm1: GroupNorm::load(&weights.part(names.norm1), inputs, names.eps)?,
            conv1: Conv2d::load(&weights.part(names.conv1), ConvShape::same(inputs, outputs))?,
            embedding: embed.map(embedding).transpose()?,
            norm2: GroupNorm::load(&weights.part(names.norm2), outputs, names.eps)?,
            conv2: Conv2d::load(&weights.part(names.conv2), ConvShape::same(outputs, outputs))?,
            skip: (inputs != outputs).then(skip).transpose()?,
        })
    }

    /// Runs the block on `x` `[B, C, H, W]`; `embedding` `[B, E]` is the timestep embedding after its SiLU.
    pub(crate) fn forward(&self, x: &Tensor, embedding: Option<&Tensor>) -> Result<Tensor> {
        let normed = self.norm1.forward_silu(x)?;
        let h = match (&self.embedding, embedding) {
            (Some(layer), Some(embedding)) => {
                self.conv1.forward_shifted(&normed, &layer.forward(embedding)?)?
            }
            _ => self.conv1.forward(&normed)?,
        };
        drop(normed);
        let normed = self.norm2.forward_silu(&h)?;
        drop(h);
        match &self.skip {
            Some(skip) => self.conv2.forward_add(&normed, &skip.forward(x)?),
            None => self.conv2.forward_add(&normed, x),
        }
    }
}
