//! `ImageStitch`: pictures side by side.

use comfy_graph::{InputSpec, NodeSpec};
use comfy_imaging::{Crop, ResizeMethod};
use comfy_stage::{Ctx, FnNode, Inputs, NodeError, Outputs};

use crate::pictures::{Pictures, Size, affordable};
use crate::state::ImageState;

pub(super) const NODES: &[super::ImageNode] = &[&FnNode { spec: stitch_spec, run: stitch }];

const COLOURS: [(&str, [f32; 3]); 5] = [
    ("white", [1.0; 3]),
    ("black", [0.0; 3]),
    ("red", [1.0, 0.0, 0.0]),
    ("green", [0.0, 1.0, 0.0]),
    ("blue", [0.0, 0.0, 1.0]),
];

fn stitch_spec() -> NodeSpec {
    let inputs = vec![
        InputSpec::socket("image1", "IMAGE"),
        InputSpec::combo("direction", &["right", "down", "left", "up"]).choose("right"),
        InputSpec::boolean("match_image_size", true)
            .tooltip("Scales the second picture to the side that touches."),
        InputSpec::int("spacing_width", 0, (0, 1024), 2).tooltip("Pixels between the two."),
        InputSpec::combo("spacing_color", &COLOURS.map(|(name, _)| name)).choose("white"),
        InputSpec::socket("image2", "IMAGE").optional(),
    ];
    NodeSpec::new("ImageStitch", "image/transform", inputs, &["IMAGE"])
        .titled("Image Stitch")
        .about("Puts a second picture beside the first one. Without a second one the first is left as it is.")
}

/// On which side the second picture goes.
#[derive(Clone, Copy, PartialEq)]
enum Direction {
    Right,
    Down,
    Left,
    Up,
}

impl Direction {
    fn parse(name: &str) -> Result<Self, NodeError> {
        match name {
            "right" => Ok(Self::Right),
            "down" => Ok(Self::Down),
            "left" => Ok(Self::Left),
            "up" => Ok(Self::Up),
            other => Err(NodeError::invalid(format!(
                "unknown direction `{other}`; expected `right`, `down`, `left` or `up`"
            ))),
        }
    }

    fn is_beside(self) -> bool {
        matches!(self, Self::Right | Self::Left)
    }
}

fn stitch(inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let first = Pictures::image(inputs, "image1")?;
    if inputs.get("image2").is_none() {
        return first.one_image();
    }
    let direction = Direction::parse(inputs.text("direction")?)?;
    let name = inputs.text("spacing_color")?;
    let colour = COLOURS.into_iter().find(|(known, _)| *known == name).map(|(_, colour)| colour);
    let colour = colour.ok_or_else(|| NodeError::invalid(format!("unknown colour `{name}`")))?;
    let second = Pictures::image(inputs, "image2")?;
    let batch = first.batch.max(second.batch);
    let (mut first, mut second) = (extended(first, batch)?, extended(second, batch)?);
    if inputs.boolean("match_image_size")? {
        let size = touching(first.size(), second.size(), direction);
        second = second.resized(ctx, size, ResizeMethod::Lanczos, Crop::Disabled)?;
    } else {
        let fill = if name == "white" { 1.0 } else { 0.0 };
        let side = |a: usize, b: usize| a.max(b);
        let size = (side(first.width, second.width), side(first.height, second.height));
        first = centred(first, size, direction, fill)?;
        second = centred(second, size, direction, fill)?;
    }
    let channels = first.channels.max(second.channels);
    let (first, second) = (first.with_channels(channels, 1.0), second.with_channels(channels, 1.0));
    // An odd width is made even.
    let spacing = inputs.int_as::<usize>("spacing_width")?.next_multiple_of(2);
    let parts = match direction {
        Direction::Right | Direction::Down => [first, second],
        Direction::Left | Direction::Up => [second, first],
    };
    joined(&parts, direction, spacing, colour)?.one_image()
}

/// Repeats the last picture of a batch until there are enough.
fn extended(pictures: Pictures<'_>, batch: usize) -> Result<Pictures<'_>, NodeError> {
    if pictures.batch == batch {
        return Ok(pictures);
    }
    affordable(batch, pictures.size(), pictures.channels)?;
    let data = (0..batch).flat_map(|index| pictures.picture(index)).copied().collect();
    Ok(Pictures::new(batch, pictures.size(), pictures.channels, data))
}

/// The size of the second picture when its side is as long as the one it touches.
fn touching(first: Size, second: Size, direction: Direction) -> Size {
    let aspect = second.width as f64 / second.height as f64;
    if direction.is_beside() {
        Size { width: (first.height as f64 * aspect) as usize, height: first.height }
    } else {
        Size { width: first.width, height: (first.width as f64 / aspect) as usize }
    }
}

/// Pads the side that touches to the longer one of both.
fn centred<'a>(
    pictures: Pictures<'a>,
    (width, height): (usize, usize),
    direction: Direction,
    fill: f32,
) -> Result<Pictures<'a>, NodeError> {
    let size = if direction.is_beside() {
        Size { height, ..pictures.size() }
    } else {
        Size { width, ..pictures.size() }
    };
    if size == pictures.size() {
        return Ok(pictures);
    }
    let mut padded = Pictures::full(pictures.batch, size, pictures.channels, fill)?;
    padded.paste(&pictures, ((size.width - pictures.width) / 2, (size.height - pictures.height) / 2));
    Ok(padded)
}

fn joined(
    [first, second]: &[Pictures<'_>; 2],
    direction: Direction,
    spacing: usize,
    colour: [f32; 3],
) -> Result<Pictures<'static>, NodeError> {
    let (size, place) = if direction.is_beside() {
        let start = first.width + spacing;
        (Size { width: start + second.width, height: first.height.max(second.height) }, (start, 0))
    } else {
        let start = first.height + spacing;
        (Size { width: first.width.max(second.width), height: start + second.height }, (0, start))
    };
    let samples = affordable(first.batch, size, first.channels)?;
    // Alpha is opaque; what is not covered afterwards is the space between the two.
    let pixel = [colour[0], colour[1], colour[2], 1.0];
    let data = pixel[..first.channels].iter().copied().cycle().take(samples).collect();
    let mut all = Pictures::new(first.batch, size, first.channels, data);
    all.paste(first, (0, 0));
    all.paste(second, place);
    Ok(all)
}
