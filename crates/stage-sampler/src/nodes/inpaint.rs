//! Nodes that prepare a picture with a mask for inpainting.

use super::vae::encode;
use crate::model_inputs::{CONCAT_LATENT, CONCAT_MASK, attach};
use crate::state::SamplerState;
use crate::{error, tensors};
use candle_core::{Device, Tensor};
use comfy_artifacts::HostTensor;
use comfy_diffusion::sampling::{Crop, ResizeMethod, resize_latent};
use comfy_graph::{InputSpec, NodeSpec, OutputSpec};
use comfy_stage::{Ctx, Data, Inputs, Latent, Node, NodeError, Outputs};

pub(super) struct VaeEncodeForInpaint;

impl Node<SamplerState> for VaeEncodeForInpaint {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "VAEEncodeForInpaint".into(),
            display_name: "VAE Encode (for Inpainting)".into(),
            description: "Turns a picture into a latent with its masked part blanked, to be drawn anew at full denoise.".into(),
            category: "latent/inpaint".into(),
            version: 1,
            inputs: vec![
                InputSpec::socket("pixels", "IMAGE"),
                InputSpec::socket("vae", "VAE"),
                InputSpec::socket("mask", "MASK").tooltip("White is drawn anew."),
                InputSpec::int("grow_mask_by", 6, (0, 64), 1)
                    .tooltip("Pixels by which the mask grows, so that no seam is left."),
            ],
            outputs: vec![OutputSpec::of("LATENT")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let vae = ctx.state.vae(inputs.recipe("vae")?)?;
        let pixels = inputs.image("pixels")?;
        let mask = Mask::fitting(inputs.mask("mask")?, pixels)?;
        let samples = encode(&vae, &mask.blank(pixels)?, ctx)?;
        let grown = mask.cropped(vae.downscale()).grown(inputs.int_as("grow_mask_by")?);
        let noise_mask = Some(grown.into_host()?);
        Ok(Outputs::one(Data::Latent(Latent { noise_mask, ..Latent::new(samples) })))
    }
}

pub(super) struct InpaintModelConditioning;

impl Node<SamplerState> for InpaintModelConditioning {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "InpaintModelConditioning".into(),
            display_name: "InpaintModelConditioning".into(),
            description: "Shows a picture and its mask to a model that was trained for inpainting.".into(),
            category: "conditioning/inpaint".into(),
            version: 1,
            inputs: vec![
                InputSpec::socket("positive", "CONDITIONING"),
                InputSpec::socket("negative", "CONDITIONING"),
                InputSpec::socket("vae", "VAE"),
                InputSpec::socket("pixels", "IMAGE"),
                InputSpec::socket("mask", "MASK"),
                InputSpec::boolean("noise_mask", true).tooltip(
                    "Also keeps the sampler from touching what is outside the mask. Helps or hurts, depending on the model.",
                ),
            ],
            outputs: vec![
                OutputSpec::new("positive", "CONDITIONING"),
                OutputSpec::new("negative", "CONDITIONING"),
                OutputSpec::new("latent", "LATENT"),
            ],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let vae = ctx.state.vae(inputs.recipe("vae")?)?;
        let pixels = inputs.image("pixels")?;
        let mask = Mask::fitting(inputs.mask("mask")?, pixels)?;
        let image = encode(&vae, &mask.blank(pixels)?, ctx)?;
        let samples = encode(&vae, pixels, ctx)?;
        let mask = mask.cropped(vae.downscale()).into_host()?;
        let side = |name| attach(inputs, name, &[(CONCAT_LATENT, &image), (CONCAT_MASK, &mask)]);
        let (positive, negative) = (side("positive")?, side("negative")?);
        let noise_mask = inputs.boolean("noise_mask")?.then_some(mask);
        let latent = Data::Latent(Latent { noise_mask, ..Latent::new(samples) });
        Ok(Outputs::many(vec![positive, negative, latent]))
    }
}

/// A mask of the size of a picture: 1 where it changes.
#[derive(Debug, Clone)]
struct Mask {
    batch: usize,
    height: usize,
    width: usize,
    values: Vec<f32>,
}

impl Mask {
    /// Resizes a MASK to an IMAGE.
    fn fitting(mask: &HostTensor, image: &HostTensor) -> Result<Self, NodeError> {
        let &[.., old_height, old_width] = mask.shape() else {
            return Err(NodeError::invalid(format!("a mask has 2 or 3 dimensions, got {:?}", mask.shape())));
        };
        let &[images, height, width, _] = image.shape() else {
            return Err(NodeError::invalid(format!("an image has 4 dimensions, got {:?}", image.shape())));
        };
        if mask.data().is_empty() || image.data().is_empty() {
            return Err(NodeError::invalid("the mask or the image is empty"));
        }
        let batch = mask.data().len() / (old_height * old_width);
        if batch != 1 && batch != images {
            return Err(NodeError::invalid(format!("{batch} masks do not go with {images} images")));
        }
        let plane = Tensor::from_slice(mask.data(), (batch, 1, old_height, old_width), &Device::Cpu)
            .map_err(error::tensor)?;
        let plane = if (old_height, old_width) == (height, width) {
            plane
        } else {
            resize_latent(&plane, ResizeMethod::Bilinear, height, width, Crop::Disabled)
                .map_err(error::sampling)?
        };
        let values = tensors::to_host(&plane)?.data().to_vec();
        Ok(Self { batch, height, width, values })
    }

    fn plane(&self, image: usize) -> &[f32] {
        let area = self.height * self.width;
        let start = if self.batch == 1 { 0 } else { image * area };
        &self.values[start..start + area]
    }

    /// Paints the masked part of pictures of this size grey.
    fn blank(&self, image: &HostTensor) -> Result<HostTensor, NodeError> {
        let channels = image.shape()[3];
        let area = self.height * self.width * channels;
        let mut data = image.data().to_vec();
        for (i, picture) in data.chunks_exact_mut(area).enumerate() {
            for (pixel, mask) in picture.chunks_exact_mut(channels).zip(self.plane(i)) {
                let kept = 1.0 - mask.round_ties_even();
                pixel.iter_mut().take(3).for_each(|value| *value = (*value - 0.5) * kept + 0.5);
            }
        }
        HostTensor::new(image.shape().to_vec(), data).map_err(error::bundle)
    }

    /// Loses the rim that the encoder drops.
    fn cropped(&self, step: usize) -> Self {
        let (top, height) = tensors::kept_by_encoder(self.height, step);
        let (left, width) = tensors::kept_by_encoder(self.width, step);
        let rows = self.values.chunks_exact(self.width).enumerate();
        let inside = |&(y, _): &(usize, &[f32])| (top..top + height).contains(&(y % self.height));
        let values = rows.filter(inside).flat_map(|(_, row)| &row[left..left + width]).copied().collect();
        Self { batch: self.batch, height, width, values }
    }

    /// Rounds, and spreads what is masked over a square of `size` pixels.
    ///
    /// # Source
    /// The square of an even size reaches one pixel further to the top and left, as in ComfyUI.
    fn grown(&self, size: usize) -> Self {
        let mut grown = self.clone();
        grown.values.iter_mut().for_each(|value| *value = value.round_ties_even().clamp(0.0, 1.0));
        if size < 2 {
            return grown;
        }
        let before = size / 2;
        let window = |at: usize, end: usize| (at.saturating_sub(before), (at + size - before).min(end));
        let (height, width) = (self.height, self.width);
        let mut wide = grown.values.clone();
        for (row, old) in wide.chunks_exact_mut(width).zip(grown.values.chunks_exact(width)) {
            for (x, value) in row.iter_mut().enumerate() {
                let (from, to) = window(x, width);
                *value = old[from..to].iter().copied().fold(0.0, f32::max);
            }
        }
        let planes = grown.values.chunks_exact_mut(height * width);
        for (plane, old) in planes.zip(wide.chunks_exact(height * width)) {
            for (i, value) in plane.iter_mut().enumerate() {
                let (from, to) = window(i / width, height);
                *value = (from..to).map(|y| old[y * width + i % width]).fold(0.0, f32::max);
            }
        }
        grown
    }

    /// As it goes on a link: `[B, 1, H, W]`.
    fn into_host(self) -> Result<HostTensor, NodeError> {
        HostTensor::new(vec![self.batch, 1, self.height, self.width], self.values).map_err(error::bundle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(height: usize, width: usize, set: &[(usize, usize)]) -> Mask {
        let mut values = vec![0.0; height * width];
        set.iter().for_each(|(y, x)| values[y * width + x] = 1.0);
        Mask { batch: 1, height, width, values }
    }

    fn set(mask: &Mask) -> Vec<(usize, usize)> {
        let place = |(i, value): (usize, &f32)| (*value != 0.0).then_some((i / mask.width, i % mask.width));
        mask.values.iter().enumerate().filter_map(place).collect()
    }

    #[test]
    fn masks_grow_by_a_square() {
        let point = mask(8, 8, &[(3, 4)]);
        assert_eq!(set(&point.grown(0)), [(3, 4)]);
        let odd = set(&point.grown(3));
        assert_eq!((odd.len(), odd[0], odd[8]), (9, (2, 3), (4, 5)));
        let even = set(&point.grown(4));
        assert_eq!((even.len(), even[0], even[15]), (16, (2, 3), (5, 6)));
        assert_eq!(set(&point.grown(64)).len(), 64);
    }

    #[test]
    fn the_rim_is_lost_as_in_the_encoder() {
        let cropped = mask(19, 8, &[(0, 0), (1, 2), (16, 7), (17, 1)]).cropped(8);
        assert_eq!((cropped.height, cropped.width), (16, 8));
        assert_eq!(set(&cropped), [(0, 2), (15, 7)]);
    }

    #[test]
    fn the_masked_part_turns_grey() {
        let image = HostTensor::full(vec![2, 4, 4, 4], 0.9);
        let half = HostTensor::new(vec![1, 2], vec![0.0, 1.0]).unwrap();
        let mask = Mask::fitting(&half, &image).unwrap();
        let blank = mask.blank(&image).unwrap();
        let pixel = |picture: usize, x: usize| &blank.data()[(picture * 16 + x) * 4..][..4];
        assert_eq!((pixel(1, 0), pixel(1, 3)), (&[0.9; 4][..], &[0.5, 0.5, 0.5, 0.9][..]));
        let three = HostTensor::full(vec![3, 4, 4], 0.0);
        assert!(Mask::fitting(&three, &image).unwrap_err().message.contains("3 masks"));
    }
}
