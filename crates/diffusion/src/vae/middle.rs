//! The lowest level of both halves: two residual blocks around an attention over all pixels.

use candle_core::Tensor;

use crate::blocks::{
    Conv2d, ConvShape, GroupNorm, Mask, Residual, ResidualNames, attention, to_map, to_tokens,
};
use crate::checkpoint::Weights;
use crate::error::Result;

/// Normalisation constant of the autoencoder.
pub(super) const EPS: f64 = 1e-6;

#[derive(Debug)]
pub(super) struct Middle {
    first: Residual,
    norm: GroupNorm,
    q: Conv2d,
    k: Conv2d,
    v: Conv2d,
    output: Conv2d,
    second: Residual,
}

impl Middle {
    pub(super) fn load(weights: &Weights<'_>, channels: usize) -> Result<Self> {
        let residual =
            |name| Residual::load(&weights.part(name), &ResidualNames::VAE, channels, channels, None);
        let attention = weights.part("attn_1");
        let point = |name| Conv2d::load(&attention.part(name), ConvShape::point(channels, channels));
        Ok(Self {
            first: residual("block_1")?,
            norm: GroupNorm::load(&attention.part("norm"), channels, EPS)?,
            q: point("q")?,
            k: point("k")?,
            v: point("v")?,
            output: point("proj_out")?,
            second: residual("block_2")?,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.first.forward(x, None)?;
        let (_, _, height, width) = x.dims4()?;
        let normed = self.norm.forward(&x)?;
        let tokens = |layer: &Conv2d| to_tokens(&layer.forward(&normed)?);
        let mixed = attention(&tokens(&self.q)?, &tokens(&self.k)?, &tokens(&self.v)?, 1, Mask::None)?;
        let map = to_map(&mixed, height, width)?;
        self.second.forward(&self.output.forward_add(&map, &x)?, None)
    }
}
