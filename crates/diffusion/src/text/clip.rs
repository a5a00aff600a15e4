//! The CLIP text transformer.

use candle_core::{DType, Device, Tensor};

use crate::blocks::{LayerNorm, Linear, Mask, attention};
use crate::checkpoint::{ClipConfig, Weights};
use crate::error::Result;

/// Embeddings, causal transformer layers and the norm after the last one.
#[derive(Debug)]
pub(super) struct ClipTransformer {
    tokens: Tensor,
    positions: Tensor,
    layers: Vec<Layer>,
    norm: LayerNorm,
}

#[derive(Debug)]
struct Layer {
    norm1: LayerNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    norm2: LayerNorm,
    up: Linear,
    down: Linear,
    heads: usize,
}

/// What the transformer gives for a batch of chunks.
pub(super) struct Hidden {
    /// After the requested number of layers, normalised: `[B, T, D]`.
    pub output: Tensor,
    /// After all layers, normalised: `[B, T, D]`.
    pub last: Tensor,
}

impl ClipTransformer {
    pub(super) fn load(weights: &Weights<'_>, config: &ClipConfig) -> Result<Self> {
        let embeddings = weights.part("embeddings");
        let layer = |i| Layer::load(&weights.part(format_args!("encoder.layers.{i}")), config);
        Ok(Self {
            tokens: embeddings.get("token_embedding.weight", &[config.vocabulary, config.width])?,
            positions: embeddings.get("position_embedding.weight", &[config.positions, config.width])?,
            layers: (0..config.layers).map(layer).collect::<Result<_>>()?,
            norm: LayerNorm::load(&weights.part("final_layer_norm"), config.width)?,
        })
    }

    /// Runs `ids` (chunks of equal length) and also returns the state after `layers` layers.
    pub(super) fn forward(&self, ids: &[Vec<u32>], layers: usize, device: &Device) -> Result<Hidden> {
        let (batch, length) = (ids.len(), ids[0].len());
        let ids = Tensor::from_vec(ids.concat(), batch * length, device)?;
        let embedded = self.tokens.index_select(&ids, 0)?.reshape((batch, length, ()))?;
        let mut x = embedded.broadcast_add(&self.positions.narrow(0, 0, length)?)?;
        let mut output = None;
        for (done, layer) in (1..).zip(&self.layers) {
            x = layer.forward(&x)?;
            if done == layers {
                output = Some(self.norm.forward(&x)?);
            }
        }
        let last = self.norm.forward(&x)?;
        Ok(Hidden {
            output: output.unwrap_or_else(|| last.clone()).to_dtype(DType::F32)?,
            last: last.to_dtype(DType::F32)?,
        })
    }
}

impl Layer {
    fn load(weights: &Weights<'_>, config: &ClipConfig) -> Result<Self> {
        let (width, mlp) = (config.width, config.mlp_width);
        let projection = |name| Linear::load(&weights.part(format_args!("self_attn.{name}")), width, width);
        Ok(Self {
            norm1: LayerNorm::load(&weights.part("layer_norm1"), width)?,
            q: projection("q_proj")?,
            k: projection("k_proj")?,
            v: projection("v_proj")?,
            out: projection("out_proj")?,
            norm2: LayerNorm::load(&weights.part("layer_norm2"), width)?,
            up: Linear::load(&weights.part("mlp.fc1"), width, mlp)?,
            down: Linear::load(&weights.part("mlp.fc2"), mlp, width)?,
            heads: config.heads,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let normed = self.norm1.forward(x)?;
        let (q, k, v) = (self.q.forward(&normed)?, self.k.forward(&normed)?, self.v.forward(&normed)?);
        let x = (self.out.forward(&attention(&q, &k, &v, self.heads, Mask::Causal)?)? + x)?;
        let hidden = quick_gelu(&self.up.forward(&self.norm2.forward(&x)?)?)?;
        Ok((self.down.forward(&hidden)? + x)?)
    }
}

/// The sigmoid approximation of GELU that OpenAI's CLIP was trained with.
fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    Ok((x * candle_nn::ops::sigmoid(&(x * 1.702)?)?)?)
}
