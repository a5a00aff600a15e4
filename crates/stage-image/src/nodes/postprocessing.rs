//! Category `image/postprocessing`: blending, blurring, sharpening, few colours, growing and shrinking what is bright.

use comfy_graph::{InputSpec, NodeSpec};
use comfy_imaging::ops::{self, BlendMode, Dither, Extreme};
use comfy_imaging::{Crop, PixelView, Pixels, ResizeMethod};
use comfy_stage::{Ctx, FnNode, Inputs, NodeError, Outputs};

use crate::pictures::{Pictures, common_batch, imaging_error};
use crate::state::ImageState;

pub(super) const NODES: &[super::ImageNode] = &[
    &FnNode { spec: blend_spec, run: blend },
    &FnNode { spec: blur_spec, run: blur },
    &FnNode { spec: quantize_spec, run: quantize },
    &FnNode { spec: sharpen_spec, run: sharpen },
    &FnNode { spec: morphology_spec, run: morphology },
];

const CATEGORY: &str = "image/postprocessing";

fn blend_spec() -> NodeSpec {
    let inputs = vec![
        InputSpec::socket("image1", "IMAGE"),
        InputSpec::socket("image2", "IMAGE"),
        InputSpec::float("blend_factor", 0.5, (0.0, 1.0), 0.01, None)
            .tooltip("0 leaves the first picture as it is, 1 shows the blend only."),
        InputSpec::combo("blend_mode", &BlendMode::ALL.map(BlendMode::name)),
    ];
    NodeSpec::new("ImageBlend", CATEGORY, inputs, &["IMAGE"])
        .about("Blends a second picture into a first one.")
}

fn blend(inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let lower = Pictures::image(inputs, "image1")?;
    let mut upper = Pictures::image(inputs, "image2")?.with_channels(lower.channels, 1.0);
    let mode: BlendMode = inputs.text("blend_mode")?.parse().map_err(imaging_error)?;
    let factor = inputs.float("blend_factor")?;
    if upper.size() != lower.size() {
        upper = upper.resized(ctx, lower.size(), ResizeMethod::Bicubic, Crop::Center)?;
    }
    let batch = common_batch(&lower, &upper)?;
    let (mut lower, upper) = (lower.with_batch(batch)?, upper.with_batch(batch)?);
    let (kept, added) = ((1.0 - factor) as f32, factor as f32);
    for (below, above) in lower.samples_mut().iter_mut().zip(&*upper.data) {
        *below = (*below * kept + mode.apply(*below, *above) * added).clamp(0.0, 1.0);
    }
    lower.one_image()
}

fn radius(name: &str) -> InputSpec {
    InputSpec::int(name, 1, (1, 31), 1)
}

fn blur_spec() -> NodeSpec {
    let inputs = vec![
        InputSpec::socket("image", "IMAGE"),
        radius("blur_radius"),
        InputSpec::float("sigma", 1.0, (0.1, 10.0), 0.1, None),
    ];
    NodeSpec::new("ImageBlur", CATEGORY, inputs, &["IMAGE"]).about("Blurs pictures.")
}

fn blur(inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let (radius, sigma) = (inputs.int_as("blur_radius")?, inputs.float("sigma")?);
    Pictures::image(inputs, "image")?.each(ctx, |picture| ops::blur(picture, radius, sigma))?.one_image()
}

fn sharpen_spec() -> NodeSpec {
    let inputs = vec![
        InputSpec::socket("image", "IMAGE"),
        radius("sharpen_radius"),
        InputSpec::float("sigma", 1.0, (0.1, 10.0), 0.01, None),
        InputSpec::float("alpha", 1.0, (0.0, 5.0), 0.01, None).tooltip("How strong."),
    ];
    NodeSpec::new("ImageSharpen", CATEGORY, inputs, &["IMAGE"]).about("Sharpens pictures.")
}

fn sharpen(inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let (radius, sigma) = (inputs.int_as("sharpen_radius")?, inputs.float("sigma")?);
    let alpha = inputs.float("alpha")?;
    Pictures::image(inputs, "image")?
        .each(ctx, |picture| ops::sharpen(picture, radius, sigma, alpha))?
        .one_image()
}

fn quantize_spec() -> NodeSpec {
    let inputs = vec![
        InputSpec::socket("image", "IMAGE"),
        InputSpec::int("colors", 256, (1, 256), 1).tooltip("The most colours that are left."),
        InputSpec::combo("dither", &Dither::ALL.map(Dither::name)),
    ];
    NodeSpec::new("ImageQuantize", CATEGORY, inputs, &["IMAGE"])
        .about("Leaves only a few colours in a picture.")
}

fn quantize(inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let dither: Dither = inputs.text("dither")?.parse().map_err(imaging_error)?;
    let colours = inputs.int_as("colors")?;
    Pictures::image(inputs, "image")?
        .each(ctx, |picture| ops::quantize(picture, colours, dither))?
        .one_image()
}

/// The operations of `Morphology`, in ComfyUI's order.
const OPERATIONS: [&str; 7] = ["erode", "dilate", "open", "close", "gradient", "bottom_hat", "top_hat"];

fn morphology_spec() -> NodeSpec {
    let inputs = vec![
        InputSpec::socket("image", "IMAGE"),
        InputSpec::combo("operation", &OPERATIONS),
        InputSpec::int("kernel_size", 3, (3, 999), 1)
            .tooltip("Side of the square that is looked at, in pixels."),
    ];
    NodeSpec::new("Morphology", CATEGORY, inputs, &["IMAGE"])
        .titled("ImageMorphology")
        .about("Grows or shrinks what is bright, or shows what that changes.")
}

fn morphology(inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    type Picture<'a> = PixelView<'a, f32>;
    let (operation, size) = (inputs.text("operation")?, inputs.int_as("kernel_size")?);
    let erode = |picture: Picture<'_>| ops::square(picture, size, Extreme::Smallest);
    let dilate = |picture: Picture<'_>| ops::square(picture, size, Extreme::Largest);
    let open = |picture: Picture<'_>| dilate(erode(picture)?.view());
    let close = |picture: Picture<'_>| erode(dilate(picture)?.view());
    let less = |a: &[f32], b: &[f32], picture: Picture<'_>| {
        let data = a.iter().zip(b).map(|(a, b)| a - b).collect();
        Pixels::new(picture.width(), picture.height(), picture.channels(), data)
    };
    let run = |picture: Picture<'_>| match operation {
        "erode" => erode(picture),
        "dilate" => dilate(picture),
        "open" => open(picture),
        "close" => close(picture),
        "gradient" => less(dilate(picture)?.data(), erode(picture)?.data(), picture),
        "bottom_hat" => less(close(picture)?.data(), picture.data(), picture),
        _ => less(picture.data(), open(picture)?.data(), picture),
    };
    if !OPERATIONS.contains(&operation) {
        let known = OPERATIONS.join("`, `");
        return Err(NodeError::invalid(format!(
            "unknown operation `{operation}`; expected one of `{known}`"
        )));
    }
    Pictures::image(inputs, "image")?.each(ctx, run)?.one_image()
}
