//! The transformer that looks at a feature map as a sequence of pixels and at the text.

use candle_core::Tensor;

use super::attention::{Attention, AttentionPrecision};
use super::changes::{MiddleAttention, Place};
use super::layers::{Conv2d, ConvShape, GroupNorm, LayerNorm, Linear};
use super::maps::{add, to_map, to_tokens};
use crate::checkpoint::Weights;
use crate::error::Result;

/// Normalises a feature map, runs transformer blocks over its pixels and adds the result to the map.
#[derive(Debug)]
pub(crate) struct SpatialTransformer {
    norm: GroupNorm,
    projections: Projections,
    blocks: Vec<Block>,
}

/// Both kinds do the same arithmetic; files store them with different shapes.
#[derive(Debug)]
enum Projections {
    Convolution { input: Conv2d, output: Conv2d },
    Linear { input: Linear, output: Linear },
}

/// The sizes of a [`SpatialTransformer`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct TransformerShape {
    pub channels: usize,
    pub context: usize,
    pub heads: usize,
    pub depth: usize,
    pub linear: bool,
    pub precision: AttentionPrecision,
}

impl SpatialTransformer {
    pub(crate) fn load(weights: &Weights<'_>, shape: TransformerShape) -> Result<Self> {
        let channels = shape.channels;
        let (input, output) = (weights.part("proj_in"), weights.part("proj_out"));
        let projections = if shape.linear {
            Projections::Linear {
                input: Linear::load(&input, channels, channels)?,
                output: Linear::load(&output, channels, channels)?,
            }
        } else {
            Projections::Convolution {
                input: Conv2d::load(&input, ConvShape::point(channels, channels))?,
                output: Conv2d::load(&output, ConvShape::point(channels, channels))?,
            }
        };
        let block = |i| Block::load(&weights.part(format_args!("transformer_blocks.{i}")), shape);
        Ok(Self {
            norm: GroupNorm::load(&weights.part("norm"), channels, 1e-6)?,
            projections,
            blocks: (0..shape.depth).map(block).collect::<Result<_>>()?,
        })
    }

    /// # Shapes
    /// `x` is `[B, C, H, W]`, `context` is `[B, T, D]`; the result is shaped as `x`.
    pub(super) fn forward(&self, x: &Tensor, context: &Tensor, place: &Place<'_>) -> Result<Tensor> {
        let (_, _, height, width) = x.dims4()?;
        let normed = self.norm.forward(x)?;
        let mut tokens = match &self.projections {
            Projections::Convolution { input, .. } => to_tokens(&input.forward(&normed)?)?.contiguous()?,
            Projections::Linear { input, .. } => input.forward(&to_tokens(&normed)?)?,
        };
        for (depth, block) in self.blocks.iter().enumerate() {
            tokens = block.forward(&tokens, context, place, depth)?;
        }
        match &self.projections {
            Projections::Convolution { output, .. } => {
                output.forward_add(&to_map(&tokens, height, width)?, x)
            }
            Projections::Linear { output, .. } => add(&to_map(&output.forward(&tokens)?, height, width)?, x),
        }
    }
}

/// Self-attention, attention to the text, and a gated feed-forward layer.
#[derive(Debug)]
struct Block {
    norm1: LayerNorm,
    attn1: Attention,
    norm2: LayerNorm,
    attn2: Attention,
    norm3: LayerNorm,
    gate: Linear,
    output: Linear,
}

impl Block {
    fn load(weights: &Weights<'_>, shape: TransformerShape) -> Result<Self> {
        let TransformerShape { channels, context, heads, precision, .. } = shape;
        let attention =
            |name, source| Attention::load(&weights.part(name), [channels, source], heads, precision);
        Ok(Self {
            norm1: LayerNorm::load(&weights.part("norm1"), channels)?,
            attn1: attention("attn1", channels)?,
            norm2: LayerNorm::load(&weights.part("norm2"), channels)?,
            attn2: attention("attn2", context)?,
            norm3: LayerNorm::load(&weights.part("norm3"), channels)?,
            gate: Linear::load(&weights.part("ff.net.0.proj"), channels, 8 * channels)?,
            output: Linear::load(&weights.part("ff.net.2"), 4 * channels, channels)?,
        })
    }

    fn forward(&self, x: &Tensor, context: &Tensor, place: &Place<'_>, depth: usize) -> Result<Tensor> {
        let x = self.look_around(&self.norm1.forward(x)?, place, depth, x)?;
        let x = match place.changes.grounding {
            None => x,
            Some(grounding) => grounding.fuse(place.transformer, x)?,
        };
        let [keys, values] = place.changes.sources(context)?;
        let x = self.attn2.forward_add(&self.norm2.forward(&x)?, &keys, &values, &x)?;
        let gated = self.gate.forward_geglu(&self.norm3.forward(&x)?)?;
        self.output.forward_add(&gated, &x)
    }

    /// Self-attention, as the place wants it, added to `more`.
    fn look_around(&self, x: &Tensor, place: &Place<'_>, depth: usize, more: &Tensor) -> Result<Tensor> {
        let [keys, values] = place.changes.sources(x)?;
        match place.changes.middle {
            MiddleAttention::Identity if place.middle => {
                return Ok((self.attn1.forward_identity(&values)? + more)?);
            }
            MiddleAttention::Watched(map) if place.middle && depth == 0 => {
                map.put(self.attn1.received(x, &keys)?);
            }
            _ => {}
        }
        let (_, places, width) = x.dims3()?;
        match place.changes.hyper_tile.and_then(|run| run.tiles(width, places, place)) {
            None => self.attn1.forward_add(x, &keys, &values, more),
            Some(tiles) => {
                let (keys, values) = (tiles.bands(&keys)?, tiles.bands(&values)?);
                Ok((tiles.join(&self.attn1.forward(&tiles.cut(x)?, &keys, &values)?)? + more)?)
            }
        }
    }
}
