//! The transformer layer of CLIP: of its text encoders, its image encoders and of style adapters.

use candle_core::Tensor;

use super::attention::{Mask, attention};
use super::layers::{LayerNorm, Linear};
use crate::checkpoint::Weights;
use crate::error::Result;

/// Sizes of a layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClipLayerShape {
    pub width: usize,
    pub mlp_width: usize,
    pub heads: usize,
    pub activation: Activation,
    /// Which tokens a token may look at.
    pub mask: Mask,
}

/// What a layer was trained with between its two linear layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// The sigmoid approximation of GELU that OpenAI's CLIP was trained with.
    QuickGelu,
    /// The exact GELU that OpenCLIP's larger models were trained with.
    Gelu,
}

/// Attention among the tokens and two linear layers, each added to what it saw.
#[derive(Debug)]
pub(crate) struct ClipLayer {
    norm1: LayerNorm,
    qkv: [Linear; 3],
    out: Linear,
    norm2: LayerNorm,
    up: Linear,
    down: Linear,
    shape: ClipLayerShape,
}

impl ClipLayer {
    pub(crate) fn load_hugging_face(weights: &Weights<'_>, shape: ClipLayerShape) -> Result<Self> {
        let ClipLayerShape { width, mlp_width, .. } = shape;
        let projection = |name| Linear::load(&weights.part(format_args!("self_attn.{name}")), width, width);
        Ok(Self {
            norm1: LayerNorm::load(&weights.part("layer_norm1"), width)?,
            qkv: [projection("q_proj")?, projection("k_proj")?, projection("v_proj")?],
            out: projection("out_proj")?,
            norm2: LayerNorm::load(&weights.part("layer_norm2"), width)?,
            up: Linear::load(&weights.part("mlp.fc1"), width, mlp_width)?,
            down: Linear::load(&weights.part("mlp.fc2"), mlp_width, width)?,
            shape,
        })
    }

    pub(crate) fn load_open_clip(weights: &Weights<'_>, shape: ClipLayerShape) -> Result<Self> {
        let ClipLayerShape { width, mlp_width, .. } = shape;
        let attention = weights.part("attn");
        // Query, key and value are stored below each other.
        let joint_weight = attention.get("in_proj_weight", &[3 * width, width])?;
        let joint_bias = attention.get("in_proj_bias", &[3 * width])?;
        let third = |i: usize| -> Result<Linear> {
            let weight = joint_weight.narrow(0, i * width, width)?.copy()?;
            Linear::of(weights, weight, Some(joint_bias.narrow(0, i * width, width)?.copy()?))
        };
        Ok(Self {
            norm1: LayerNorm::load(&weights.part("ln_1"), width)?,
            qkv: [third(0)?, third(1)?, third(2)?],
            out: Linear::load(&attention.part("out_proj"), width, width)?,
            norm2: LayerNorm::load(&weights.part("ln_2"), width)?,
            up: Linear::load(&weights.part("mlp.c_fc"), width, mlp_width)?,
            down: Linear::load(&weights.part("mlp.c_proj"), mlp_width, width)?,
            shape,
        })
    }

    /// # Shapes
    /// `[B, T, width]` to the same.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let normed = self.norm1.forward(x)?;
        let [q, k, v] = &self.qkv;
        let (q, k, v) = (q.forward(&normed)?, k.forward(&normed)?, v.forward(&normed)?);
        let x = (self.out.forward(&attention(&q, &k, &v, self.shape.heads, self.shape.mask)?)? + x)?;
        let hidden = self.shape.activation.apply(&self.up.forward(&self.norm2.forward(&x)?)?)?;
        Ok((self.down.forward(&hidden)? + x)?)
    }
}

impl Activation {
    fn apply(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::QuickGelu => (x * candle_nn::ops::sigmoid(&(x * 1.702)?)?)?,
            Self::Gelu => x.gelu_erf()?,
        })
    }
}
