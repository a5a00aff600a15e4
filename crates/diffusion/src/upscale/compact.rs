//! Compact: a plain chain of convolutions at low resolution, then one pixel shuffle.

use candle_core::Tensor;

use crate::blocks::{Conv2d, ConvShape};
use crate::checkpoint::Weights;
use crate::error::Result;

const IMAGE_CHANNELS: usize = 3;
const MAX_LAYERS: usize = 512;

/// Sizes of a network.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    width: usize,
    /// Convolutions between the first and the last.
    inner: usize,
    factor: usize,
}

impl Layout {
    /// Reads the layout; `None` if this is another architecture.
    pub(super) fn detect<'a>(shape: &impl Fn(&str) -> Option<&'a [usize]>) -> Result<Option<Self>, String> {
        let weight = |i: usize| shape(&format!("body.{i}.weight"));
        let (Some(&[width, IMAGE_CHANNELS, 3, 3]), Some(&[slopes])) = (weight(0), weight(1)) else {
            return Ok(None);
        };
        if slopes != width {
            return Err(format!("a Compact network with {width} channels and {slopes} slopes"));
        }
        // Convolutions are at even places, slopes at odd ones.
        let convs = (0..MAX_LAYERS).take_while(|&i| weight(2 * i).is_some()).count();
        let Some(&[outputs, ..]) = weight(2 * (convs - 1)) else { return Ok(None) };
        let factor = (outputs / IMAGE_CHANNELS).isqrt();
        if convs < 2 || factor == 0 || factor * factor * IMAGE_CHANNELS != outputs {
            return Err(format!("a Compact network of {convs} layers with {outputs} output channels"));
        }
        Ok(Some(Self { width, inner: convs - 2, factor }))
    }
}

/// The network called `SRVGGNetCompact` in Real-ESRGAN.
///
/// # Source
/// Wang et al. 2021 (arXiv 2107.10833), released as realesr-animevideo and realesr-general.
#[derive(Debug)]
pub(super) struct Compact {
    /// Each with the slopes for negative values behind it.
    layers: Vec<(Conv2d, Tensor)>,
    last: Conv2d,
    layout: Layout,
}

impl Compact {
    pub(super) fn load(weights: &Weights<'_>, layout: Layout) -> Result<Self> {
        let Layout { width, inner, factor } = layout;
        let conv = |i: usize, inputs, outputs| {
            Conv2d::load(&weights.part(format!("body.{}", 2 * i)), ConvShape::same(inputs, outputs))
        };
        let layer = |i: usize| -> Result<_> {
            let inputs = if i == 0 { IMAGE_CHANNELS } else { width };
            let slopes = weights.get(&format!("body.{}.weight", 2 * i + 1), &[width])?;
            Ok((conv(i, inputs, width)?, slopes.reshape((1, width, 1, 1))?))
        };
        let layers = (0..=inner).map(layer).collect::<Result<_>>()?;
        let last = conv(inner + 1, width, IMAGE_CHANNELS * factor * factor)?;
        Ok(Self { layers, last, layout })
    }

    pub(super) fn factor(&self) -> usize {
        self.layout.factor
    }

    /// Width at the size of the result: the shuffle turns channels into pixels.
    pub(super) fn width(&self) -> usize {
        (self.layout.width / self.layout.factor.pow(2)).max(IMAGE_CHANNELS)
    }

    pub(super) fn forward(&self, picture: &Tensor) -> Result<Tensor> {
        let mut x = picture.clone();
        for (conv, slopes) in &self.layers {
            let y = conv.forward(&x)?;
            x = (y.relu()? - y.neg()?.relu()?.broadcast_mul(slopes)?)?;
        }
        let (_, _, h, w) = picture.dims4()?;
        let factor = self.layout.factor;
        let change = candle_nn::ops::pixel_shuffle(&self.last.forward(&x)?, factor)?;
        Ok((change + picture.upsample_nearest2d(h * factor, w * factor)?)?)
    }
}
