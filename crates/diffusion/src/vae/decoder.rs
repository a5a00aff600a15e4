//! Latents to images.

use candle_core::Tensor;

use super::middle::{EPS, Middle};
use crate::blocks::{Conv2d, ConvShape, GroupNorm, Residual, ResidualNames, enlarge};
use crate::checkpoint::{VaeConfig, Weights};
use crate::error::Result;

#[derive(Debug)]
pub(super) struct Decoder {
    input: Conv2d,
    middle: Middle,
    /// In running order: lowest resolution first.
    levels: Vec<(Vec<Residual>, Option<Conv2d>)>,
    norm: GroupNorm,
    output: Conv2d,
}

impl Decoder {
    pub(super) fn load(weights: &Weights<'_>, config: &VaeConfig) -> Result<Self> {
        let widths = &config.decoder_widths;
        let lowest = widths[widths.len() - 1];
        let mut channels = lowest;
        let mut levels = Vec::with_capacity(widths.len());
        for (level, &width) in widths.iter().enumerate().rev() {
            let weights = weights.part(format_args!("up.{level}"));
            let mut blocks = Vec::with_capacity(config.decoder_blocks);
            for i in 0..config.decoder_blocks {
                let weights = weights.part(format_args!("block.{i}"));
                blocks.push(Residual::load(&weights, &ResidualNames::VAE, channels, width, None)?);
                channels = width;
            }
            let upsample = || Conv2d::load(&weights.part("upsample.conv"), ConvShape::same(width, width));
            levels.push((blocks, (level > 0).then(upsample).transpose()?));
        }
        Ok(Self {
            input: Conv2d::load(&weights.part("conv_in"), ConvShape::same(config.latent_channels, lowest))?,
            middle: Middle::load(&weights.part("mid"), lowest)?,
            levels,
            norm: GroupNorm::load(&weights.part("norm_out"), channels, EPS)?,
            output: Conv2d::load(&weights.part("conv_out"), ConvShape::same(channels, 3))?,
        })
    }

    pub(super) fn forward(&self, z: &Tensor) -> Result<Tensor> {
        let mut h = self.middle.forward(&self.input.forward(z)?)?;
        for (blocks, upsample) in &self.levels {
            for block in blocks {
                h = block.forward(&h, None)?;
            }
            if let Some(convolution) = upsample {
                let (_, _, height, width) = h.dims4()?;
                h = convolution.forward(&enlarge(&h, 2 * height, 2 * width)?)?;
            }
        }
        self.output.forward(&self.norm.forward_silu(&h)?)
    }
}
