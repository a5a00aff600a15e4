//! Category `mask`: making masks and turning pictures into masks and back.

use comfy_graph::{InputSpec, NodeSpec};
use comfy_stage::{Ctx, FnNode, Inputs, NodeError, Outputs};

use crate::pictures::{Pictures, Size, Window, affordable};
use crate::state::ImageState;

use super::MAX_SIDE_PX;
use super::image::colour_input;

pub(super) const NODES: &[super::ImageNode] = &[
    &FnNode { spec: to_image_spec, run: to_image },
    &FnNode { spec: from_image_spec, run: from_image },
    &FnNode { spec: from_colour_spec, run: from_colour },
    &FnNode { spec: solid_spec, run: solid },
    &FnNode { spec: invert_spec, run: invert },
    &FnNode { spec: crop_spec, run: crop },
    &FnNode { spec: threshold_spec, run: threshold },
];

fn to_image_spec() -> NodeSpec {
    NodeSpec::new("MaskToImage", "mask", vec![InputSpec::socket("mask", "MASK")], &["IMAGE"])
        .titled("Convert Mask to Image")
        .about("Makes gray pictures of masks.")
}

fn to_image(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    as_image(&Pictures::mask(inputs, "mask")?)?.one_image()
}

/// Repeats the one channel of a mask for red, green and blue.
pub(super) fn as_image(mask: &Pictures<'_>) -> Result<Pictures<'static>, NodeError> {
    affordable(mask.batch, mask.size(), 3)?;
    let data = mask.data.iter().flat_map(|sample| [*sample; 3]).collect();
    Ok(Pictures::new(mask.batch, mask.size(), 3, data))
}

const CHANNELS: [&str; 4] = ["red", "green", "blue", "alpha"];

fn from_image_spec() -> NodeSpec {
    let inputs = vec![InputSpec::socket("image", "IMAGE"), InputSpec::combo("channel", &CHANNELS)];
    NodeSpec::new("ImageToMask", "mask", inputs, &["MASK"])
        .titled("Convert Image to Mask")
        .about("Takes one channel of pictures as masks.")
}

fn from_image(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let name = inputs.text("channel")?;
    let index = CHANNELS.iter().position(|channel| *channel == name).ok_or_else(|| {
        NodeError::invalid(format!("unknown channel `{name}`; expected one of `{}`", CHANNELS.join("`, `")))
    })?;
    Pictures::image(inputs, "image")?.channel(index)?.one_mask()
}

fn from_colour_spec() -> NodeSpec {
    NodeSpec::new(
        "ImageColorToMask",
        "mask",
        vec![InputSpec::socket("image", "IMAGE"), colour_input()],
        &["MASK"],
    )
    .about("Masks the pixels that have exactly one colour.")
}

fn from_colour(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let image = Pictures::image(inputs, "image")?;
    let colour: u32 = inputs.int_as("color")?;
    if image.channels < 3 {
        return Err(NodeError::invalid("the image has no colours"));
    }
    let level = |sample: f32| (sample.clamp(0.0, 1.0) * 255.0).round_ties_even() as u32;
    let is_wanted =
        |pixel: &[f32]| (level(pixel[0]) << 16) + (level(pixel[1]) << 8) + level(pixel[2]) == colour;
    let data =
        image.data.chunks_exact(image.channels).map(|pixel| f32::from(u8::from(is_wanted(pixel)))).collect();
    Pictures::new(image.batch, image.size(), 1, data).one_mask()
}

fn solid_spec() -> NodeSpec {
    let inputs = vec![
        InputSpec::float("value", 1.0, (0.0, 1.0), 0.01, None),
        InputSpec::int("width", 512, (1, MAX_SIDE_PX), 1),
        InputSpec::int("height", 512, (1, MAX_SIDE_PX), 1),
    ];
    NodeSpec::new("SolidMask", "mask", inputs, &["MASK"]).about("Makes a mask that has one value everywhere.")
}

fn solid(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let size = Size { width: inputs.int_as("width")?, height: inputs.int_as("height")? };
    Pictures::full(1, size, 1, inputs.float("value")? as f32)?.one_mask()
}

fn invert_spec() -> NodeSpec {
    NodeSpec::new("InvertMask", "mask", vec![InputSpec::socket("mask", "MASK")], &["MASK"])
        .about("Swaps what is masked with what is not.")
}

fn invert(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    Pictures::mask(inputs, "mask")?.mapped(|sample| 1.0 - sample).one_mask()
}

fn crop_spec() -> NodeSpec {
    let inputs = vec![
        InputSpec::socket("mask", "MASK"),
        InputSpec::int("x", 0, (0, MAX_SIDE_PX), 1),
        InputSpec::int("y", 0, (0, MAX_SIDE_PX), 1),
        InputSpec::int("width", 512, (1, MAX_SIDE_PX), 1),
        InputSpec::int("height", 512, (1, MAX_SIDE_PX), 1),
    ];
    NodeSpec::new("CropMask", "mask", inputs, &["MASK"])
        .about("Cuts a rectangle out of masks, as far as it lies inside.")
}

fn crop(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let mask = Pictures::mask(inputs, "mask")?;
    let (x, y): (usize, usize) = (inputs.int_as("x")?, inputs.int_as("y")?);
    if x >= mask.width || y >= mask.height {
        let (width, height) = (mask.width, mask.height);
        return Err(NodeError::invalid(format!(
            "the place {x},{y} is outside of a mask of {width}x{height}"
        )));
    }
    let width = inputs.int_as::<usize>("width")?.min(mask.width - x);
    let height = inputs.int_as::<usize>("height")?.min(mask.height - y);
    mask.cut(Window { x, y, width, height }).one_mask()
}

fn threshold_spec() -> NodeSpec {
    let inputs =
        vec![InputSpec::socket("mask", "MASK"), InputSpec::float("value", 0.5, (0.0, 1.0), 0.01, None)];
    NodeSpec::new("ThresholdMask", "mask", inputs, &["MASK"])
        .about("Makes what is above a value white and the rest black.")
}

fn threshold(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let value = inputs.float("value")? as f32;
    Pictures::mask(inputs, "mask")?.mapped(|sample| f32::from(u8::from(sample > value))).one_mask()
}
