//! Nodes that make and change latents without a model.

use super::MAX_SIDE;
use super::latent_planes::Planes;
use crate::state::SamplerState;
use crate::{error, memory, tensors};
use candle_core::Device;
use comfy_artifacts::HostTensor;
use comfy_diffusion::families::sd1::{DOWNSCALE, LATENT_CHANNELS};
use comfy_diffusion::sampling::{Crop, ResizeMethod, resize_latent};
use comfy_graph::{InputSpec, NodeSpec, OutputSpec};
use comfy_stage::{Ctx, Data, Inputs, Latent, Node, NodeError, Outputs};

pub(super) struct EmptyLatentImage;

impl Node<SamplerState> for EmptyLatentImage {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "EmptyLatentImage".into(),
            display_name: "Empty Latent Image".into(),
            description: "Sets the size and number of the pictures to draw from nothing.".into(),
            category: "latent".into(),
            version: 1,
            inputs: vec![
                InputSpec::int("width", 512, (16, MAX_SIDE), 8).tooltip("Width in pixels."),
                InputSpec::int("height", 512, (16, MAX_SIDE), 8).tooltip("Height in pixels."),
                InputSpec::int("batch_size", 1, (1, 4096), 1).tooltip("How many pictures to draw at once."),
            ],
            outputs: vec![OutputSpec::of("LATENT")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let (width, height): (usize, usize) = (inputs.int_as("width")?, inputs.int_as("height")?);
        let batch: usize = inputs.int_as("batch_size")?;
        let shape = vec![batch, LATENT_CHANNELS, height / DOWNSCALE, width / DOWNSCALE];
        memory::require(
            "an empty latent of this size",
            memory::activations(shape[2] * shape[3], batch, LATENT_CHANNELS),
        )?;
        Ok(Outputs::one(Data::Latent(Latent::new(HostTensor::full(shape, 0.0)))))
    }
}

pub(super) struct LatentUpscale;

impl Node<SamplerState> for LatentUpscale {
    fn spec(&self) -> NodeSpec {
        let methods = ResizeMethod::ALL.map(ResizeMethod::name);
        NodeSpec {
            class: "LatentUpscale".into(),
            display_name: "Upscale Latent".into(),
            description:
                "Resizes a latent to fit a picture of the given size. A side of 0 keeps the proportions."
                    .into(),
            category: "latent".into(),
            version: 1,
            inputs: vec![
                InputSpec::socket("samples", "LATENT"),
                InputSpec::combo("upscale_method", &methods),
                InputSpec::int("width", 512, (0, MAX_SIDE), 8),
                InputSpec::int("height", 512, (0, MAX_SIDE), 8),
                InputSpec::combo("crop", &["disabled", "center"]),
            ],
            outputs: vec![OutputSpec::of("LATENT")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let latent = inputs.latent("samples")?;
        let method: ResizeMethod = inputs.text("upscale_method")?.parse().map_err(error::sampling)?;
        let crop: Crop = inputs.text("crop")?.parse().map_err(error::sampling)?;
        let asked: (usize, usize) = (inputs.int_as("width")?, inputs.int_as("height")?);
        let &[batch, channels, old_height, old_width] = latent.samples.shape() else {
            return Err(NodeError::invalid(format!(
                "a latent has 4 dimensions, got {:?}",
                latent.samples.shape()
            )));
        };
        let Some((width, height)) = target_pixels(asked, (old_width, old_height)) else {
            return Ok(Outputs::one(Data::Latent(latent.clone())));
        };
        let (width, height) = (width / DOWNSCALE, height / DOWNSCALE);
        memory::require("a latent of this size", memory::activations(width * height, batch * channels, 4))?;
        let samples = tensors::to_device(&latent.samples, &Device::Cpu)?;
        let resized = resize_latent(&samples, method, height, width, crop).map_err(error::sampling)?;
        let samples = tensors::to_host(&resized)?;
        Ok(Outputs::one(Data::Latent(Latent { samples, ..latent.clone() })))
    }
}

pub(super) struct LatentUpscaleBy;

impl Node<SamplerState> for LatentUpscaleBy {
    fn spec(&self) -> NodeSpec {
        let methods = ResizeMethod::ALL.map(ResizeMethod::name);
        let inputs = vec![
            InputSpec::socket("samples", "LATENT"),
            InputSpec::combo("upscale_method", &methods),
            InputSpec::float("scale_by", 1.5, (0.01, 8.0), 0.01, None),
        ];
        NodeSpec::new("LatentUpscaleBy", "latent", inputs, &["LATENT"])
            .titled("Upscale Latent By")
            .about("Resizes a latent by a factor.")
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let latent = inputs.latent("samples")?;
        let method: ResizeMethod = inputs.text("upscale_method")?.parse().map_err(error::sampling)?;
        let factor = inputs.float("scale_by")?;
        let scaled = |side: usize| (side as f64 * factor).round_ties_even() as usize;
        let planes = Planes::of(&latent.samples)?;
        let size = (scaled(planes.height), scaled(planes.width));
        planes.resized(size, method, Crop::Disabled)?.output(latent)
    }
}

/// The size in pixels to resize to, `None` for no change. A side of 0 follows from the other; no side is under 64.
fn target_pixels(
    (width, height): (usize, usize),
    (old_width, old_height): (usize, usize),
) -> Option<(usize, usize)> {
    const SMALLEST: usize = 64;
    let follow = |side: usize, old: usize, old_other: usize| {
        ((old as f64 * side as f64 / old_other as f64).round_ties_even() as usize).max(SMALLEST)
    };
    match (width, height) {
        (0, 0) => None,
        (0, height) => {
            let height = height.max(SMALLEST);
            Some((follow(height, old_width, old_height), height))
        }
        (width, 0) => {
            let width = width.max(SMALLEST);
            Some((width, follow(width, old_height, old_width)))
        }
        (width, height) => Some((width.max(SMALLEST), height.max(SMALLEST))),
    }
}

pub(super) struct SetLatentNoiseMask;

impl Node<SamplerState> for SetLatentNoiseMask {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "SetLatentNoiseMask".into(),
            display_name: "Set Latent Noise Mask".into(),
            description: "Lets the sampler change only the white part of a mask.".into(),
            category: "latent/inpaint".into(),
            version: 1,
            inputs: vec![InputSpec::socket("samples", "LATENT"), InputSpec::socket("mask", "MASK")],
            outputs: vec![OutputSpec::of("LATENT")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let (latent, mask) = (inputs.latent("samples")?, inputs.mask("mask")?);
        let &[.., height, width] = mask.shape() else {
            return Err(NodeError::invalid(format!(
                "a mask has at least 2 dimensions, got {:?}",
                mask.shape()
            )));
        };
        let area = height * width;
        if area == 0 {
            return Err(NodeError::invalid("the mask is empty"));
        }
        let shape = vec![mask.data().len() / area, 1, height, width];
        let mask = HostTensor::new(shape, mask.data().to_vec()).map_err(error::bundle)?;
        Ok(Outputs::one(Data::Latent(Latent { noise_mask: Some(mask), ..latent.clone() })))
    }
}

#[cfg(test)]
mod tests {
    use super::target_pixels;

    #[test]
    fn a_side_of_zero_follows_the_other() {
        for (asked, old, want) in [
            ((0, 0), (64, 64), None),
            ((512, 256), (64, 64), Some((512, 256))),
            ((8, 8), (64, 64), Some((64, 64))),
            ((0, 256), (96, 64), Some((384, 256))),
            ((256, 0), (96, 64), Some((256, 171))),
        ] {
            assert_eq!(target_pixels(asked, old), want, "{asked:?} {old:?}");
        }
    }
}
