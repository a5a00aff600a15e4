//! Images to the moments of their latents.

use candle_core::Tensor;

use super::middle::{EPS, Middle};
use crate::blocks::{Conv2d, ConvShape, GroupNorm, Residual, ResidualNames};
use crate::checkpoint::{VaeConfig, Weights};
use crate::error::Result;

#[derive(Debug)]
pub(super) struct Encoder {
    input: Conv2d,
    levels: Vec<(Vec<Residual>, Option<Conv2d>)>,
    middle: Middle,
    norm: GroupNorm,
    output: Conv2d,
}

impl Encoder {
    pub(super) fn load(weights: &Weights<'_>, config: &VaeConfig) -> Result<Self> {
        let widths = &config.encoder_widths;
        let mut channels = widths[0];
        let input = Conv2d::load(&weights.part("conv_in"), ConvShape::same(3, channels))?;
        let mut levels = Vec::with_capacity(widths.len());
        for (level, &width) in widths.iter().enumerate() {
            let weights = weights.part(format_args!("down.{level}"));
            let mut blocks = Vec::with_capacity(config.encoder_blocks);
            for i in 0..config.encoder_blocks {
                let weights = weights.part(format_args!("block.{i}"));
                blocks.push(Residual::load(&weights, &ResidualNames::VAE, channels, width, None)?);
                channels = width;
            }
            let shape = ConvShape { stride: 2, padding: 0, ..ConvShape::same(width, width) };
            let downsample = || Conv2d::load(&weights.part("downsample.conv"), shape);
            levels.push((blocks, (level + 1 < widths.len()).then(downsample).transpose()?));
        }
        Ok(Self {
            input,
            levels,
            middle: Middle::load(&weights.part("mid"), channels)?,
            norm: GroupNorm::load(&weights.part("norm_out"), channels, EPS)?,
            output: Conv2d::load(
                &weights.part("conv_out"),
                ConvShape::same(channels, 2 * config.latent_channels),
            )?,
        })
    }

    pub(super) fn forward(&self, image: &Tensor) -> Result<Tensor> {
        let mut h = self.input.forward(image)?;
        for (blocks, downsample) in &self.levels {
            for block in blocks {
                h = block.forward(&h, None)?;
            }
            if let Some(convolution) = downsample {
                // The network was trained with one row and column of zeros at the far edges only.
                let padded = h.pad_with_zeros(2, 0, 1)?.pad_with_zeros(3, 0, 1)?;
                h = convolution.forward(&padded)?;
            }
        }
        let h = self.middle.forward(&h)?;
        self.output.forward(&self.norm.forward_silu(&h)?)
    }
}
