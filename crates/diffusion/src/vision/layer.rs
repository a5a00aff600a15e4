//! The transformer layer of image encoders and style adapters.

use candle_core::Tensor;

use crate::blocks::{LayerNorm, Linear, Mask, attention};
use crate::checkpoint::Weights;
use crate::error::Result;

/// Sizes of a layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct LayerShape {
    pub width: usize,
    pub mlp_width: usize,
    pub heads: usize,
    /// Whether it was trained with the sigmoid approximation of GELU.
    pub quick_gelu: bool,
}

/// Attention among all tokens and two linear layers, each added to what it saw.
#[derive(Debug)]
pub(super) struct VisionLayer {
    norm1: LayerNorm,
    qkv: [Linear; 3],
    out: Linear,
    norm2: LayerNorm,
    up: Linear,
    down: Linear,
    shape: LayerShape,
}

impl VisionLayer {
    pub(super) fn load_hugging_face(weights: &Weights<'_>, shape: LayerShape) -> Result<Self> {
        let LayerShape { width, mlp_width, .. } = shape;
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

    pub(super) fn load_open_clip(weights: &Weights<'_>, shape: LayerShape) -> Result<Self> {
        let LayerShape { width, mlp_width, .. } = shape;
        let attention = weights.part("attn");
        // Query, key and value are stored below each other.
        let joint_weight = attention.get("in_proj_weight", &[3 * width, width])?;
        let joint_bias = attention.get("in_proj_bias", &[3 * width])?;
        let third = |i: usize| -> Result<Linear> {
            let weight = joint_weight.narrow(0, i * width, width)?.copy()?;
            Ok(Linear::from_tensors(weight, Some(joint_bias.narrow(0, i * width, width)?.copy()?)))
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
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let normed = self.norm1.forward(x)?;
        let [q, k, v] = &self.qkv;
        let (q, k, v) = (q.forward(&normed)?, k.forward(&normed)?, v.forward(&normed)?);
        let x = (self.out.forward(&attention(&q, &k, &v, self.shape.heads, Mask::None)?)? + x)?;
        let hidden = self.up.forward(&self.norm2.forward(&x)?)?;
        let hidden = if self.shape.quick_gelu {
            (&hidden * candle_nn::ops::sigmoid(&(&hidden * 1.702)?)?)?
        } else {
            hidden.gelu_erf()?
        };
        Ok((self.down.forward(&hidden)? + x)?)
    }
}
