//! Category `image/upscaling`: resizing.

use comfy_graph::{InputSpec, NodeSpec, OutputSpec};
use comfy_imaging::{Crop, Resize, ResizeMethod, resize, scaled_size};
use comfy_stage::{Ctx, Data, Inputs, Node, NodeError, Outputs};

use crate::pictures::{Batch, imaging_error, tensor};
use crate::state::ImageState;

pub(super) const NODES: &[super::ImageNode] = &[&ImageScale];

/// The largest side that a person may ask for.
const MAX_SIDE_PX: i128 = 16_384;

/// The most samples of one result: 4 GiB of f32.
const MAX_SAMPLES: usize = 1 << 30;

struct ImageScale;

impl Node<ImageState> for ImageScale {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "ImageScale".into(),
            display_name: "Upscale Image".into(),
            category: "image/upscaling".into(),
            version: 1,
            inputs: vec![
                InputSpec::socket("image", "IMAGE"),
                InputSpec::combo("upscale_method", &ResizeMethod::ALL.map(ResizeMethod::name)),
                InputSpec::int("width", 512, (0, MAX_SIDE_PX), 1),
                InputSpec::int("height", 512, (0, MAX_SIDE_PX), 1),
                InputSpec::combo("crop", &Crop::ALL.map(Crop::name)),
            ],
            outputs: vec![OutputSpec::of("IMAGE")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
        let image = inputs.image("image")?;
        let batch = Batch::new(image)?;
        let method: ResizeMethod = inputs.text("upscale_method")?.parse().map_err(imaging_error)?;
        let crop: Crop = inputs.text("crop")?.parse().map_err(imaging_error)?;
        let asked = (inputs.int_as("width")?, inputs.int_as("height")?);
        let Some((width, height)) = scaled_size((batch.width, batch.height), asked.0, asked.1) else {
            return Ok(Outputs::one(Data::Image(image.clone())));
        };
        let (count, channels) = (batch.pictures().len(), batch.channels.count());
        let samples = [count, height, width, channels].into_iter().try_fold(1_usize, usize::checked_mul);
        if samples.is_none_or(|samples| samples > MAX_SAMPLES) {
            return Err(NodeError::invalid(format!(
                "{count} pictures of {width}x{height} would be larger than the limit of {MAX_SAMPLES} samples"
            )));
        }
        let mut scaled = Vec::new();
        for (picture, done) in batch.pictures().zip(1..) {
            ctx.check_cancelled()?;
            let order = Resize { method, width, height, crop };
            scaled.extend(resize(batch.view(picture)?, &order).map_err(imaging_error)?.into_data());
            if count > 1 {
                ctx.progress(done, count as u64);
            }
        }
        Ok(Outputs::one(Data::Image(tensor(vec![count, height, width, channels], scaled)?)))
    }
}
