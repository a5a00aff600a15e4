//! The CLIP text transformer.

use candle_core::{DType, Device, Tensor};

use super::chunks::Token;
use crate::blocks::{LayerNorm, Linear, Mask, attention};
use crate::checkpoint::{ClipConfig, ClipLayout, Projection, Weights};
use crate::error::Result;

/// Embeddings, causal transformer layers, the norm after the last one and the projection of the pooled text.
#[derive(Debug)]
pub(super) struct ClipTransformer {
    tokens: Tensor,
    positions: Tensor,
    layers: Vec<Layer>,
    norm: LayerNorm,
    projection: Option<Linear>,
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
    activation: Activation,
}

#[derive(Debug, Clone, Copy)]
enum Activation {
    /// The sigmoid approximation of GELU that OpenAI's CLIP was trained with.
    QuickGelu,
    /// The exact GELU that OpenCLIP's larger models were trained with.
    Gelu,
}

/// Which state of the transformer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stop {
    /// After so many layers.
    pub layers: usize,
    /// Whether the final norm is applied to it.
    pub norm: bool,
}

/// What the transformer gives for a batch of chunks.
pub(super) struct Hidden {
    /// The state asked for: `[B, T, D]`.
    pub output: Tensor,
    /// After all layers, normalised: `[B, T, D]`.
    pub last: Tensor,
}

impl ClipTransformer {
    /// Loads the transformer of a layout; `root` stands above all prefixes.
    pub(super) fn load(root: &Weights<'_>, config: &ClipConfig) -> Result<Self> {
        let weights = &root.below(&config.prefix);
        let (tokens, positions) = ([config.vocabulary, config.width], [config.positions, config.width]);
        let (tokens, positions, norm, layers) = match config.layout {
            ClipLayout::HuggingFace | ClipLayout::HuggingFaceGelu => {
                let embeddings = weights.part("embeddings");
                let tokens = embeddings.get("token_embedding.weight", &tokens)?;
                let positions = embeddings.get("position_embedding.weight", &positions)?;
                (tokens, positions, "final_layer_norm", "encoder.layers")
            }
            ClipLayout::OpenClip => {
                let tokens = weights.get("token_embedding.weight", &tokens)?;
                let positions = weights.get("positional_embedding", &positions)?;
                (tokens, positions, "ln_final", "transformer.resblocks")
            }
        };
        let layer = |i| {
            let weights = weights.part(format_args!("{layers}.{i}"));
            match config.layout {
                ClipLayout::HuggingFace => Layer::load_hugging_face(&weights, config, Activation::QuickGelu),
                ClipLayout::HuggingFaceGelu => Layer::load_hugging_face(&weights, config, Activation::Gelu),
                ClipLayout::OpenClip => Layer::load_open_clip(&weights, config),
            }
        };
        Ok(Self {
            tokens,
            positions,
            layers: (0..config.layers).map(layer).collect::<Result<_>>()?,
            norm: LayerNorm::load(&weights.part(norm), config.width)?,
            projection: load_projection(&root.below(&config.projection_prefix), config)?,
        })
    }

    /// Projects pooled text `[B, D]`.
    pub(super) fn project(&self, pooled: &Tensor) -> Result<Tensor> {
        match &self.projection {
            Some(projection) => Ok(projection.forward(pooled)?.to_dtype(DType::F32)?),
            None => Ok(pooled.clone()),
        }
    }

    /// Runs chunks of equal length and also returns the state at `stop`. `vectors` are what tokens that are none of
    /// the vocabulary stand for, each as wide as the transformer.
    pub(super) fn forward(
        &self,
        chunks: &[Vec<Token>],
        vectors: &[Vec<f32>],
        stop: Stop,
        device: &Device,
    ) -> Result<Hidden> {
        let (batch, length) = (chunks.len(), chunks[0].len());
        let embedded = self.embed(&chunks.concat(), vectors, device)?.reshape((batch, length, ()))?;
        let mut x = embedded.broadcast_add(&self.positions.narrow(0, 0, length)?)?;
        let mut output = None;
        for (done, layer) in (1..).zip(&self.layers) {
            x = layer.forward(&x)?;
            if done == stop.layers {
                output = Some(if stop.norm { self.norm.forward(&x)? } else { x.clone() });
            }
        }
        let last = self.norm.forward(&x)?;
        Ok(Hidden {
            output: output.unwrap_or_else(|| last.clone()).to_dtype(DType::F32)?,
            last: last.to_dtype(DType::F32)?,
        })
    }
}

impl ClipTransformer {
    /// The rows of the vocabulary that tokens stand for, with vectors in the places of theirs: `[T, D]`.
    fn embed(&self, tokens: &[Token], vectors: &[Vec<f32>], device: &Device) -> Result<Tensor> {
        let id = |token: &Token| match token {
            Token::Id(id) => *id,
            // Any row will do, it is replaced.
            Token::Vector(_) => 0,
        };
        let ids: Vec<u32> = tokens.iter().map(id).collect();
        let rows = self.tokens.index_select(&Tensor::new(ids, device)?, 0)?;
        let mut pieces = Vec::new();
        let mut from = 0;
        for (at, token) in tokens.iter().enumerate() {
            let Token::Vector(index) = token else { continue };
            let vector = &vectors[*index];
            let vector = Tensor::from_slice(vector, (1, vector.len()), device)?.to_dtype(rows.dtype())?;
            if at > from {
                pieces.push(rows.narrow(0, from, at - from)?);
            }
            pieces.push(vector);
            from = at + 1;
        }
        if pieces.is_empty() {
            return Ok(rows);
        }
        if from < tokens.len() {
            pieces.push(rows.narrow(0, from, tokens.len() - from)?);
        }
        Ok(Tensor::cat(&pieces, 0)?)
    }
}

fn load_projection(weights: &Weights<'_>, config: &ClipConfig) -> Result<Option<Linear>> {
    let width = config.width;
    Ok(match config.projection {
        None => None,
        Some(Projection::Layer(projected)) => {
            Some(Linear::load_without_bias(&weights.part("text_projection"), width, projected)?)
        }
        Some(Projection::Parameter(projected)) => {
            let weight = weights.get("text_projection", &[width, projected])?;
            Some(Linear::from_tensors(weight.t()?.contiguous()?, None))
        }
    })
}

impl Layer {
    fn load_hugging_face(weights: &Weights<'_>, config: &ClipConfig, activation: Activation) -> Result<Self> {
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
            activation,
        })
    }

    fn load_open_clip(weights: &Weights<'_>, config: &ClipConfig) -> Result<Self> {
        let (width, mlp) = (config.width, config.mlp_width);
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
            q: third(0)?,
            k: third(1)?,
            v: third(2)?,
            out: Linear::load(&attention.part("out_proj"), width, width)?,
            norm2: LayerNorm::load(&weights.part("ln_2"), width)?,
            up: Linear::load(&weights.part("mlp.c_fc"), width, mlp)?,
            down: Linear::load(&weights.part("mlp.c_proj"), mlp, width)?,
            heads: config.heads,
            activation: Activation::Gelu,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let normed = self.norm1.forward(x)?;
        let (q, k, v) = (self.q.forward(&normed)?, self.k.forward(&normed)?, self.v.forward(&normed)?);
        let x = (self.out.forward(&attention(&q, &k, &v, self.heads, Mask::Causal)?)? + x)?;
        let hidden = self.activation.apply(&self.up.forward(&self.norm2.forward(&x)?)?)?;
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
