//! Category `image/transform`: cutting, turning, joining.

use comfy_graph::{InputSpec, NodeSpec};
use comfy_imaging::{Crop, ResizeMethod};
use comfy_stage::{Ctx, FnNode, Inputs, NodeError, Outputs};

use crate::pictures::{Pictures, Size, Window, imaging_error};
use crate::state::ImageState;

use super::MAX_SIDE_PX;

pub(super) const NODES: &[super::ImageNode] = &[
    &FnNode { spec: crop_spec, run: crop },
    &FnNode { spec: pad_spec, run: pad },
    &FnNode { spec: rotate_spec, run: rotate },
    &FnNode { spec: flip_spec, run: flip },
];

const CATEGORY: &str = "image/transform";

fn crop_spec() -> NodeSpec {
    let inputs = vec![
        InputSpec::socket("image", "IMAGE"),
        InputSpec::int("width", 512, (1, MAX_SIDE_PX), 1),
        InputSpec::int("height", 512, (1, MAX_SIDE_PX), 1),
        InputSpec::int("x", 0, (0, MAX_SIDE_PX), 1),
        InputSpec::int("y", 0, (0, MAX_SIDE_PX), 1),
    ];
    NodeSpec::new("ImageCrop", CATEGORY, inputs, &["IMAGE"])
        .titled("Image Crop")
        .about("Cuts a rectangle out of pictures, as far as it lies inside.")
}

fn crop(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let image = Pictures::image(inputs, "image")?;
    let x = inputs.int_as::<usize>("x")?.min(image.width - 1);
    let y = inputs.int_as::<usize>("y")?.min(image.height - 1);
    let width = inputs.int_as::<usize>("width")?.min(image.width - x);
    let height = inputs.int_as::<usize>("height")?.min(image.height - y);
    image.cut(Window { x, y, width, height }).one_image()
}

fn pad_spec() -> NodeSpec {
    let methods = ["area", "bicubic", "nearest-exact", "bilinear", "lanczos"];
    let inputs = vec![
        InputSpec::socket("image", "IMAGE"),
        InputSpec::int("target_width", 512, (1, MAX_SIDE_PX), 1),
        InputSpec::int("target_height", 512, (1, MAX_SIDE_PX), 1),
        InputSpec::combo("padding_color", &["white", "black"]),
        InputSpec::combo("interpolation", &methods),
    ];
    NodeSpec::new("ResizeAndPadImage", CATEGORY, inputs, &["IMAGE"])
        .about("Fits pictures into a size, keeping their proportions, and fills the rest with one colour.")
}

fn pad(inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let image = Pictures::image(inputs, "image")?;
    let target = Size { width: inputs.int_as("target_width")?, height: inputs.int_as("target_height")? };
    let method: ResizeMethod = inputs.text("interpolation")?.parse().map_err(imaging_error)?;
    let ratio = |target: usize, own: usize| target as f64 / own as f64;
    let scale = ratio(target.width, image.width).min(ratio(target.height, image.height));
    let scaled = |own: usize| (own as f64 * scale) as usize;
    let size = Size { width: scaled(image.width), height: scaled(image.height) };
    let resized = image.resized(ctx, size, method, Crop::Disabled)?;
    let fill = match inputs.text("padding_color")? {
        "white" => 1.0,
        "black" => 0.0,
        other => {
            return Err(NodeError::invalid(format!("unknown colour `{other}`; expected `white` or `black`")));
        }
    };
    let mut padded = Pictures::full(image.batch, target, image.channels, fill)?;
    padded.paste(&resized, ((target.width - size.width) / 2, (target.height - size.height) / 2));
    padded.one_image()
}

fn rotate_spec() -> NodeSpec {
    let inputs = vec![
        InputSpec::socket("image", "IMAGE"),
        InputSpec::combo("rotation", &["none", "90 degrees", "180 degrees", "270 degrees"]),
    ];
    NodeSpec::new("ImageRotate", CATEGORY, inputs, &["IMAGE"]).about("Turns pictures clockwise.")
}

fn rotate(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let image = Pictures::image(inputs, "image")?;
    let (width, height) = (image.width, image.height);
    let turned = Size { width: height, height: width };
    match inputs.text("rotation")? {
        "none" => image.one_image(),
        "90 degrees" => rearranged(&image, turned, |x, y| (y, height - 1 - x)).one_image(),
        "180 degrees" => rearranged(&image, image.size(), |x, y| (width - 1 - x, height - 1 - y)).one_image(),
        "270 degrees" => rearranged(&image, turned, |x, y| (width - 1 - y, x)).one_image(),
        other => Err(NodeError::invalid(format!(
            "unknown rotation `{other}`; expected `none`, `90 degrees`, `180 degrees` or `270 degrees`"
        ))),
    }
}

fn flip_spec() -> NodeSpec {
    let inputs = vec![
        InputSpec::socket("image", "IMAGE"),
        InputSpec::combo("flip_method", &["x-axis: vertically", "y-axis: horizontally"]),
    ];
    NodeSpec::new("ImageFlip", CATEGORY, inputs, &["IMAGE"]).about("Mirrors pictures.")
}

fn flip(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let image = Pictures::image(inputs, "image")?;
    let (width, height) = (image.width, image.height);
    match inputs.text("flip_method")? {
        "x-axis: vertically" => rearranged(&image, image.size(), |x, y| (x, height - 1 - y)).one_image(),
        "y-axis: horizontally" => rearranged(&image, image.size(), |x, y| (width - 1 - x, y)).one_image(),
        other => Err(NodeError::invalid(format!(
            "unknown method `{other}`; expected `x-axis: vertically` or `y-axis: horizontally`"
        ))),
    }
}

/// Makes pictures whose pixel at a place is the old one at `source` of that place.
fn rearranged(
    image: &Pictures<'_>,
    size: Size,
    source: impl Fn(usize, usize) -> (usize, usize),
) -> Pictures<'static> {
    let mut data = Vec::with_capacity(image.data.len());
    for picture in image.pictures() {
        for (x, y) in (0..size.height).flat_map(|y| (0..size.width).map(move |x| (x, y))) {
            let (x, y) = source(x, y);
            let start = (y * image.width + x) * image.channels;
            data.extend(&picture[start..start + image.channels]);
        }
    }
    Pictures::new(image.batch, size, image.channels, data)
}
