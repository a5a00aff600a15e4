//! The picture that a control network looks at: bringing it to size, and the layers that see it first.

use candle_core::{DType, Tensor};

use crate::blocks::{Conv2d, ConvShape};
use crate::checkpoint::{Shapes, Weights};
use crate::error::{Error, Result};
use crate::sampling::{Crop, ResizeMethod, resize_latent};

/// Pixels of a picture per pixel of its latent.
pub(super) const DOWNSCALE: usize = 8;
/// Convolutions from a picture to features of the latent's size, three of which halve it.
const LAYERS: usize = 8;

/// Input and output channels of every convolution.
pub(super) type HintLayout = [[usize; 2]; LAYERS];

pub(super) fn layout(shapes: &Shapes<'_>) -> Result<HintLayout, String> {
    let mut layout = HintLayout::default();
    for (i, channels) in layout.iter_mut().enumerate() {
        let [outputs, inputs, ..] = shapes.need::<4>(&format!("input_hint_block.{}.weight", 2 * i))?;
        *channels = [inputs, outputs];
    }
    match layout.windows(2).all(|pair| pair[0][1] == pair[1][0]) {
        true => Ok(layout),
        false => Err("the layers of `input_hint_block` do not fit on each other".into()),
    }
}

/// Convolutions from a picture to features of the latent's size.
#[derive(Debug)]
pub(super) struct HintEncoder {
    layers: Vec<Conv2d>,
    channels: usize,
}

impl HintEncoder {
    pub(super) fn load(weights: &Weights<'_>, layout: &HintLayout) -> Result<Self> {
        let load = |(i, [inputs, outputs]): (usize, &[usize; 2])| {
            let stride = if [2, 4, 6].contains(&i) { 2 } else { 1 };
            let shape = ConvShape { stride, ..ConvShape::same(*inputs, *outputs) };
            Conv2d::load(&weights.part(format_args!("input_hint_block.{}", 2 * i)), shape)
        };
        let layers = layout.iter().enumerate().map(load).collect::<Result<_>>()?;
        Ok(Self { layers, channels: layout[0][0] })
    }

    /// Channels of the picture.
    pub(super) fn channels(&self) -> usize {
        self.channels
    }

    /// # Shapes
    /// `[B, channels, 8 h, 8 w]` to `[B, C, h, w]`.
    pub(super) fn forward(&self, picture: &Tensor) -> Result<Tensor> {
        let mut h = picture.clone();
        for (i, layer) in self.layers.iter().enumerate() {
            h = layer.forward(&h)?;
            if i + 1 < self.layers.len() {
                h = h.silu()?;
            }
        }
        Ok(h)
    }
}

/// Brings pictures to a size, cutting off what sticks out on two sides, and keeps as many as a batch takes.
///
/// # Shapes
/// `[N, C, H, W]` to `[1, C, height, width]` if there is one picture, else to `[batch, C, height, width]`: there,
/// pictures that are too many are left out, and too few are gone through again.
///
/// # Source
/// Same values as ComfyUI's control networks.
pub(super) fn fit(pictures: &Tensor, batch: usize, [height, width]: [usize; 2]) -> Result<Tensor> {
    let failed = |error: crate::sampling::SamplingError| Error::InvalidArgument(error.to_string());
    let count = pictures.dim(0)?;
    let pictures = if count > 1 {
        let index: Vec<u32> = (0..batch).map(|i| (i % count) as u32).collect();
        pictures.index_select(&Tensor::new(index, pictures.device())?, 0)?
    } else {
        pictures.clone()
    };
    resize_latent(&pictures, ResizeMethod::NearestExact, height, width, Crop::Center).map_err(failed)
}

/// Gives pictures the number of channels that a network takes.
///
/// # Errors
/// [`Error::InvalidArgument`] if they have fewer.
pub(super) fn with_channels(pictures: &Tensor, channels: usize) -> Result<Tensor> {
    match pictures.dim(1)? {
        given if given == channels => Ok(pictures.clone()),
        // What lies behind the colours is transparency.
        given if given > channels => Ok(pictures.narrow(1, 0, channels)?),
        given => Err(Error::InvalidArgument(format!(
            "the control network takes pictures of {channels} channels, got {given}"
        ))),
    }
}

/// Checks that pictures are `[N, C, H, W]` with something in them, and brings them to f32.
pub(super) fn checked(pictures: &Tensor) -> Result<Tensor> {
    if pictures.rank() != 4 || pictures.elem_count() == 0 {
        let dims = pictures.dims();
        return Err(Error::InvalidArgument(format!("a control network looks at [N, C, H, W], got {dims:?}")));
    }
    Ok(pictures.to_dtype(DType::F32)?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn pictures_fill_a_batch() {
        let pictures = Tensor::arange(0f32, 3.0, &Device::Cpu).unwrap().reshape((3, 1, 1, 1)).unwrap();
        let check = |pictures: &Tensor, batch, expected: &[f32]| {
            let fitted = fit(pictures, batch, [2, 4]).unwrap();
            assert_eq!(fitted.dims(), [expected.len(), 1, 2, 4]);
            let first: Vec<f32> = fitted
                .narrow(2, 0, 1)
                .unwrap()
                .narrow(3, 0, 1)
                .unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1()
                .unwrap();
            assert_eq!(first, expected);
        };
        check(&pictures, 2, &[0.0, 1.0]);
        check(&pictures, 5, &[0.0, 1.0, 2.0, 0.0, 1.0]);
        check(&pictures.narrow(0, 1, 1).unwrap(), 5, &[1.0]);
    }

    #[test]
    fn what_sticks_out_is_cut_off() {
        let row = Tensor::arange(0f32, 8.0, &Device::Cpu).unwrap().reshape((1, 1, 1, 8)).unwrap();
        let wide = row.repeat((1, 1, 4, 1)).unwrap();
        let fitted = fit(&wide, 1, [4, 4]).unwrap();
        let first: Vec<f32> = fitted.narrow(2, 0, 1).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(first, [2.0, 3.0, 4.0, 5.0]);
    }

    #[test]
    fn channels_are_cut_but_not_made_up() {
        let picture = Tensor::zeros((1, 4, 2, 2), DType::F32, &Device::Cpu).unwrap();
        assert_eq!(with_channels(&picture, 3).unwrap().dims(), [1, 3, 2, 2]);
        assert!(with_channels(&picture, 5).unwrap_err().to_string().contains("5 channels"));
        assert!(checked(&Tensor::zeros((2, 2), DType::F32, &Device::Cpu).unwrap()).is_err());
    }
}
