//! TAESD: a small autoencoder that trades detail for speed.

use candle_core::Tensor;

use crate::blocks::{Conv2d, ConvShape, each, enlarge};
use crate::checkpoint::{CheckpointHeader, Weights};
use crate::error::Result;

const IMAGE_CHANNELS: usize = 3;
const CHANNELS: usize = 64;
/// Halvings of the picture's sides.
const LEVELS: usize = 3;
const BLOCKS_PER_LEVEL: usize = 3;
/// Latents are squashed into this range before they are decoded.
const LIMIT: f64 = 3.0;

/// Where the halves of a joint file are; files of one half have no prefix.
pub(super) const ENCODER: &str = "taesd_encoder.";
pub(super) const DECODER: &str = "taesd_decoder.";

/// Tells if a file holds both halves.
pub(super) fn is_in(header: &CheckpointHeader) -> bool {
    header.contains("taesd_encoder.0.weight") && header.contains("taesd_decoder.1.weight")
}

/// Tells if a file holds one half.
pub(super) fn is_half(header: &CheckpointHeader) -> bool {
    let encoder = matches!(header.shape("0.weight"), Some(&[CHANNELS, IMAGE_CHANNELS, 3, 3]));
    let decoder = matches!(header.shape("1.weight"), Some(&[CHANNELS, _, 3, 3]));
    (encoder && header.contains("1.conv.0.weight")) || (decoder && header.contains("3.conv.0.weight"))
}

/// Latent channels by the encoder's last layer.
pub(super) fn latent_channels(header: &CheckpointHeader, prefix: &str) -> Option<usize> {
    let last = encoder_layers().len() - 1;
    match header.shape(&format!("{prefix}{last}.weight")) {
        Some(&[channels, CHANNELS, 3, 3]) => Some(channels),
        _ => None,
    }
}

/// How the latents of the small networks relate to those of the large autoencoder.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatentRange {
    pub scale: f64,
    pub shift: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    FromPicture,
    Halve,
    FromLatent,
    Relu,
    Block,
    Double,
    Convolution,
    ToLatent,
    ToPicture,
    Squash,
}

fn encoder_layers() -> Vec<Kind> {
    let level = std::iter::once(Kind::Halve).chain(std::iter::repeat_n(Kind::Block, BLOCKS_PER_LEVEL));
    let levels = std::iter::repeat_n(level, LEVELS).flatten();
    [Kind::FromPicture, Kind::Block].into_iter().chain(levels).chain([Kind::ToLatent]).collect()
}

fn decoder_layers() -> Vec<Kind> {
    let blocks = std::iter::repeat_n(Kind::Block, BLOCKS_PER_LEVEL);
    let level = blocks.chain([Kind::Double, Kind::Convolution]);
    let levels = std::iter::repeat_n(level, LEVELS).flatten();
    [Kind::Squash, Kind::FromLatent, Kind::Relu]
        .into_iter()
        .chain(levels)
        .chain([Kind::Block, Kind::ToPicture])
        .collect()
}

#[derive(Debug)]
enum Layer {
    Convolution(Conv2d),
    Block([Conv2d; 3]),
    Relu,
    Double,
    Squash,
}

impl Layer {
    fn load(kind: Kind, weights: &Weights<'_>, latent_channels: usize) -> Result<Self> {
        let convolution = |shape| Conv2d::load(weights, shape).map(Self::Convolution);
        let same = ConvShape::same(CHANNELS, CHANNELS);
        match kind {
            Kind::FromPicture => convolution(ConvShape::same(IMAGE_CHANNELS, CHANNELS)),
            Kind::FromLatent => convolution(ConvShape::same(latent_channels, CHANNELS)),
            Kind::ToPicture => convolution(ConvShape::same(CHANNELS, IMAGE_CHANNELS)),
            Kind::ToLatent => convolution(ConvShape::same(CHANNELS, latent_channels)),
            Kind::Halve => {
                Ok(Self::Convolution(Conv2d::load_without_bias(weights, ConvShape { stride: 2, ..same })?))
            }
            Kind::Convolution => Ok(Self::Convolution(Conv2d::load_without_bias(weights, same)?)),
            Kind::Block => {
                let at = |i: usize| Conv2d::load(&weights.part(format_args!("conv.{i}")), same);
                Ok(Self::Block([at(0)?, at(2)?, at(4)?]))
            }
            Kind::Relu => Ok(Self::Relu),
            Kind::Double => Ok(Self::Double),
            Kind::Squash => Ok(Self::Squash),
        }
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Convolution(convolution) => convolution.forward(x)?,
            Self::Block([first, second, third]) => {
                let y = each(&first.forward(x)?, Tensor::relu)?;
                let y = each(&second.forward(&y)?, Tensor::relu)?;
                each(&third.forward_add(&y, x)?, Tensor::relu)?
            }
            Self::Relu => x.relu()?,
            Self::Double => {
                let (_, _, height, width) = x.dims4()?;
                enlarge(x, 2 * height, 2 * width)?
            }
            Self::Squash => ((x / LIMIT)?.tanh()? * LIMIT)?,
        })
    }
}

#[derive(Debug)]
struct Chain(Vec<Layer>);

impl Chain {
    fn load(kinds: Vec<Kind>, weights: &Weights<'_>, latent_channels: usize) -> Result<Self> {
        let layer = |(i, kind)| Layer::load(kind, &weights.part(i), latent_channels);
        Ok(Self(kinds.into_iter().enumerate().map(layer).collect::<Result<_>>()?))
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for layer in &self.0 {
            x = layer.forward(&x)?;
        }
        Ok(x)
    }
}

/// Both halves of a TAESD.
///
/// # Source
/// Ollin Boer Bohan 2023, `taesd` and `taesdxl`; pictures are in 0..=1 inside.
#[derive(Debug)]
pub(super) struct TinyAutoencoder {
    encoder: Chain,
    decoder: Chain,
    range: LatentRange,
    pub(super) latent_channels: usize,
}

impl TinyAutoencoder {
    pub(super) const DOWNSCALE: usize = 1 << LEVELS;

    pub(super) fn load(
        encoder: &Weights<'_>,
        decoder: &Weights<'_>,
        latent_channels: usize,
        range: LatentRange,
    ) -> Result<Self> {
        Ok(Self {
            encoder: Chain::load(encoder_layers(), encoder, latent_channels)?,
            decoder: Chain::load(decoder_layers(), decoder, latent_channels)?,
            range,
            latent_channels,
        })
    }

    pub(super) fn encode(&self, image: &Tensor) -> Result<Tensor> {
        let small = self.encoder.forward(&image.affine(0.5, 0.5)?)?;
        Ok(small.affine(1.0 / self.range.scale, self.range.shift)?)
    }

    pub(super) fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        let LatentRange { scale, shift } = self.range;
        let picture = self.decoder.forward(&latent.affine(scale, -shift * scale)?)?;
        Ok(picture.affine(2.0, -1.0)?)
    }
}
