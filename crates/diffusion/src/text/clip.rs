//! The CLIP text transformer.

use candle_core::{DType, Device, Tensor};

use super::chunks::Token;
use crate::blocks::{Activation, ClipLayer, ClipLayerShape, LayerNorm, Linear, Mask};
use crate::checkpoint::{ClipConfig, ClipLayout, Projection, Weights};
use crate::error::Result;

/// Embeddings, causal transformer layers, the norm after the last one and the projection of the pooled text.
#[derive(Debug)]
pub(super) struct ClipTransformer {
    tokens: Tensor,
    positions: Tensor,
    layers: Vec<ClipLayer>,
    norm: LayerNorm,
    projection: Option<Linear>,
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
        let (width, mlp_width, heads) = (config.width, config.mlp_width, config.heads);
        let shape = |activation| ClipLayerShape { width, mlp_width, heads, activation, mask: Mask::Causal };
        let layer = |i| {
            let weights = weights.part(format_args!("{layers}.{i}"));
            match config.layout {
                ClipLayout::HuggingFace => {
                    ClipLayer::load_hugging_face(&weights, shape(Activation::QuickGelu))
                }
                ClipLayout::HuggingFaceGelu => {
                    ClipLayer::load_hugging_face(&weights, shape(Activation::Gelu))
                }
                ClipLayout::OpenClip => ClipLayer::load_open_clip(&weights, shape(Activation::Gelu)),
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
            Some(Linear::of(weights, weight.t()?.contiguous()?, None)?)
        }
    })
}
