//! What union ControlNets have besides: they are told which kind of picture they look at.

use candle_core::{DType, Device, Tensor};

use crate::blocks::{LayerNorm, Linear, timestep_embedding};
use crate::checkpoint::{Shapes, UnetConfig, Weights};
use crate::error::{Error, Result};

/// Sizes of the layers that a kind is told through.
pub(super) struct UnionLayout {
    kinds: usize,
    width: usize,
    /// Width of the sinusoidal embedding of each kind's switch.
    switch: usize,
    blocks: usize,
}

/// The word is misspelt in every published file.
const BLOCKS: &str = "transformer_layes";

impl UnionLayout {
    pub(super) fn read(shapes: &Shapes<'_>) -> Result<Option<Self>, String> {
        if !shapes.has("control_add_embedding.linear_1.bias") {
            return Ok(None);
        }
        let [kinds, width] = shapes.need::<2>("task_embedding")?;
        let [_, switches] = shapes.need::<2>("control_add_embedding.linear_1.weight")?;
        if kinds == 0 || switches == 0 || !switches.is_multiple_of(2 * kinds) {
            return Err(format!("{switches} values do not split into {kinds} kinds of picture"));
        }
        let blocks = shapes.count(|i| format!("{BLOCKS}.{i}.ln_1.weight"));
        Ok(Some(Self { kinds, width, switch: switches / kinds, blocks }))
    }
}

/// The layers that a kind of picture is told through.
#[derive(Debug)]
pub(super) struct Union {
    kinds: usize,
    switch: usize,
    /// `[kinds, width]`.
    tasks: Tensor,
    blocks: Vec<Block>,
    projection: Linear,
    embedding: [Linear; 2],
}

impl Union {
    pub(super) fn load(weights: &Weights<'_>, layout: &UnionLayout, unet: &UnetConfig) -> Result<Self> {
        let UnionLayout { kinds, width, switch, blocks } = *layout;
        let embed = unet.time_embed_dim;
        let load = |i| Block::load(&weights.part(format_args!("{BLOCKS}.{i}")), width);
        let added = weights.part("control_add_embedding");
        Ok(Self {
            kinds,
            switch,
            tasks: weights.get("task_embedding", &[kinds, width])?,
            blocks: (0..blocks).map(load).collect::<Result<_>>()?,
            projection: Linear::load(&weights.part("spatial_ch_projs"), width, unet.model_channels)?,
            embedding: [
                Linear::load(&added.part("linear_1"), kinds * switch, embed)?,
                Linear::load(&added.part("linear_2"), embed, embed)?,
            ],
        })
    }

    pub(super) fn kinds(&self) -> usize {
        self.kinds
    }

    /// Adds to the features of a picture what follows from its kind.
    ///
    /// # Source
    /// Same values as ComfyUI, which shows the transformer one picture at a time and the picture only.
    pub(super) fn told(&self, features: &Tensor, kind: usize) -> Result<Tensor> {
        self.check(kind)?;
        let mut x = features.mean((2, 3))?.broadcast_add(&self.tasks.get(kind)?)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
        }
        let alpha = self.projection.forward(&x)?.unsqueeze(2)?.unsqueeze(3)?;
        Ok(features.broadcast_add(&alpha)?)
    }

    /// What is added to the embedding of the timestep, `[1, E]`.
    pub(super) fn embedding(&self, kind: Option<usize>, dtype: DType, device: &Device) -> Result<Tensor> {
        if let Some(kind) = kind {
            self.check(kind)?;
        }
        let switches: Vec<f32> = (0..self.kinds).map(|i| if kind == Some(i) { 1.0 } else { 0.0 }).collect();
        let x = timestep_embedding(&Tensor::new(switches, device)?, self.switch, device)?;
        let x = x.reshape((1, self.kinds * self.switch))?.to_dtype(dtype)?;
        self.embedding[1].forward(&self.embedding[0].forward(&x)?.silu()?)
    }

    pub(super) fn check(&self, kind: usize) -> Result<()> {
        if kind < self.kinds {
            return Ok(());
        }
        Err(Error::InvalidArgument(format!(
            "this union ControlNet knows {} kinds of picture, number {kind} is not among them; `ProMax` files know more",
            self.kinds
        )))
    }
}

/// Attention and a feed-forward layer for a sequence of one vector.
#[derive(Debug)]
struct Block {
    norm1: LayerNorm,
    value: Linear,
    output: Linear,
    norm2: LayerNorm,
    fc: Linear,
    projection: Linear,
}

impl Block {
    fn load(weights: &Weights<'_>, width: usize) -> Result<Self> {
        let attention = weights.part("attn");
        // Whoever is alone looks at itself, so queries and keys do not matter.
        let third = |tensor: Tensor| tensor.narrow(0, 2 * width, width)?.contiguous();
        let value = Linear::of(
            weights,
            third(attention.get("in_proj_weight", &[3 * width, width])?)?,
            Some(third(attention.get("in_proj_bias", &[3 * width])?)?),
        )?;
        let mlp = weights.part("mlp");
        Ok(Self {
            norm1: LayerNorm::load(&weights.part("ln_1"), width)?,
            value,
            output: Linear::load(&attention.part("out_proj"), width, width)?,
            norm2: LayerNorm::load(&weights.part("ln_2"), width)?,
            fc: Linear::load(&mlp.part("c_fc"), width, 4 * width)?,
            projection: Linear::load(&mlp.part("c_proj"), 4 * width, width)?,
        })
    }

    /// `[B, width]` to the same.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = (x + self.output.forward(&self.value.forward(&self.norm1.forward(x)?)?)?)?;
        let h = self.fc.forward(&self.norm2.forward(&x)?)?;
        let h = (&h * candle_nn::ops::sigmoid(&(&h * 1.702)?)?)?;
        Ok((&x + self.projection.forward(&h)?)?)
    }
}
