//! Category `image/upscaling`: resizing.

use comfy_graph::{InputSpec, NodeSpec};
use comfy_imaging::{Crop, ResizeMethod, scaled_size};
use comfy_stage::{Ctx, FnNode, Inputs, NodeError, Outputs};

use crate::pictures::{Pictures, Size, imaging_error};
use crate::state::ImageState;

use super::MAX_SIDE_PX;

pub(super) const NODES: &[super::ImageNode] = &[
    &FnNode { spec: scale_spec, run: scale },
    &FnNode { spec: scale_by_spec, run: scale_by },
    &FnNode { spec: to_max_dimension_spec, run: to_max_dimension },
    &FnNode { spec: to_total_pixels_spec, run: to_total_pixels },
];

const CATEGORY: &str = "image/upscaling";

fn methods() -> InputSpec {
    InputSpec::combo("upscale_method", &ResizeMethod::ALL.map(ResizeMethod::name))
}

fn method(inputs: &Inputs) -> Result<ResizeMethod, NodeError> {
    inputs.text("upscale_method")?.parse().map_err(imaging_error)
}

fn scale_spec() -> NodeSpec {
    let inputs = vec![
        InputSpec::socket("image", "IMAGE"),
        methods(),
        InputSpec::int("width", 512, (0, MAX_SIDE_PX), 1),
        InputSpec::int("height", 512, (0, MAX_SIDE_PX), 1),
        InputSpec::combo("crop", &Crop::ALL.map(Crop::name)),
    ];
    NodeSpec::new("ImageScale", CATEGORY, inputs, &["IMAGE"])
        .titled("Upscale Image")
        .about("Resizes pictures. A side of 0 keeps the proportions.")
}

fn scale(inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let image = Pictures::image(inputs, "image")?;
    let crop: Crop = inputs.text("crop")?.parse().map_err(imaging_error)?;
    let method = method(inputs)?;
    let asked = (inputs.int_as("width")?, inputs.int_as("height")?);
    match scaled_size((image.width, image.height), asked.0, asked.1) {
        None => image.one_image(),
        Some((width, height)) => image.resized(ctx, Size { width, height }, method, crop)?.one_image(),
    }
}

fn scale_by_spec() -> NodeSpec {
    let factor = InputSpec::float("scale_by", 1.0, (0.01, 8.0), 0.01, None);
    let inputs = vec![InputSpec::socket("image", "IMAGE"), methods(), factor];
    NodeSpec::new("ImageScaleBy", CATEGORY, inputs, &["IMAGE"])
        .titled("Upscale Image By")
        .about("Resizes pictures by a factor.")
}

fn scale_by(inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let image = Pictures::image(inputs, "image")?;
    let size = scaled(image.size(), inputs.float("scale_by")?);
    image.resized(ctx, size, method(inputs)?, Crop::Disabled)?.one_image()
}

fn scaled(size: Size, factor: f64) -> Size {
    let side = |side: usize| (side as f64 * factor).round_ties_even() as usize;
    Size { width: side(size.width), height: side(size.height) }
}

fn to_max_dimension_spec() -> NodeSpec {
    // Bilinear is listed twice, as in ComfyUI, so that lists compare equal.
    let methods = ["area", "lanczos", "bilinear", "nearest-exact", "bilinear", "bicubic"];
    let inputs = vec![
        InputSpec::socket("image", "IMAGE"),
        InputSpec::combo("upscale_method", &methods),
        InputSpec::int("largest_size", 512, (0, MAX_SIDE_PX), 1),
    ];
    NodeSpec::new("ImageScaleToMaxDimension", CATEGORY, inputs, &["IMAGE"])
        .about("Resizes pictures so that the longer side has a given length.")
}

fn to_max_dimension(inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let image = Pictures::image(inputs, "image")?;
    let largest: usize = inputs.int_as("largest_size")?;
    let follow =
        |own: usize, longer: usize| (own as f64 / longer as f64 * largest as f64).round_ties_even() as usize;
    let size = if image.height > image.width {
        Size { width: follow(image.width, image.height), height: largest }
    } else if image.width > image.height {
        Size { width: largest, height: follow(image.height, image.width) }
    } else {
        Size { width: largest, height: largest }
    };
    image.resized(ctx, size, method(inputs)?, Crop::Disabled)?.one_image()
}

fn to_total_pixels_spec() -> NodeSpec {
    let amount = InputSpec::float("megapixels", 1.0, (0.01, 16.0), 0.01, None)
        .tooltip("How many pixels the result has, in units of 1024 x 1024.");
    let inputs = vec![InputSpec::socket("image", "IMAGE"), methods(), amount];
    NodeSpec::new("ImageScaleToTotalPixels", CATEGORY, inputs, &["IMAGE"])
        .about("Resizes pictures to about a number of pixels, keeping the proportions.")
}

fn to_total_pixels(inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let image = Pictures::image(inputs, "image")?;
    let total = (inputs.float("megapixels")? * 1024.0 * 1024.0).trunc();
    let size = scaled(image.size(), (total / (image.width * image.height) as f64).sqrt());
    image.resized(ctx, size, method(inputs)?, Crop::Disabled)?.one_image()
}
