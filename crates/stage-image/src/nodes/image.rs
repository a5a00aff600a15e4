//! Category `image`: making, batching, inverting, padding and measuring pictures.

use comfy_graph::spec::Widget;
use comfy_graph::{InputSpec, Literal, NodeSpec};
use comfy_imaging::{Crop, ResizeMethod};
use comfy_stage::{Ctx, Data, FnNode, Inputs, NodeError, Outputs};

use crate::pictures::{Pictures, Size, affordable};
use crate::state::ImageState;

use super::MAX_SIDE_PX;

pub(super) const NODES: &[super::ImageNode] = &[
    &FnNode { spec: invert_spec, run: invert },
    &FnNode { spec: batch_spec, run: batch },
    &FnNode { spec: pad_spec, run: pad },
    &FnNode { spec: empty_spec, run: empty },
    &FnNode { spec: size_spec, run: size },
    &FnNode { spec: composite_spec, run: composite },
];

fn invert_spec() -> NodeSpec {
    NodeSpec::new("ImageInvert", "image", vec![InputSpec::socket("image", "IMAGE")], &["IMAGE"])
        .titled("Invert Image")
        .about("Turns every colour into its opposite.")
}

fn invert(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    Pictures::image(inputs, "image")?.mapped(|sample| 1.0 - sample).one_image()
}

fn batch_spec() -> NodeSpec {
    let inputs = vec![InputSpec::socket("image1", "IMAGE"), InputSpec::socket("image2", "IMAGE")];
    NodeSpec::new("ImageBatch", "image", inputs, &["IMAGE"])
        .titled("Batch Images")
        .about("Puts pictures behind others. The second ones are scaled and cut to the size of the first.")
}

fn batch(inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let (first, second) = (Pictures::image(inputs, "image1")?, Pictures::image(inputs, "image2")?);
    let channels = first.channels.max(second.channels);
    let (first, mut second) = (first.with_channels(channels, 1.0), second.with_channels(channels, 1.0));
    if second.size() != first.size() {
        second = second.resized(ctx, first.size(), ResizeMethod::Bilinear, Crop::Center)?;
    }
    affordable(first.batch + second.batch, first.size(), channels)?;
    let data = [&first.data[..], &second.data[..]].concat();
    Pictures::new(first.batch + second.batch, first.size(), channels, data).one_image()
}

fn pad_spec() -> NodeSpec {
    let side = |name| InputSpec::int(name, 0, (0, MAX_SIDE_PX), 8);
    let inputs = vec![
        InputSpec::socket("image", "IMAGE"),
        side("left"),
        side("top"),
        side("right"),
        side("bottom"),
        InputSpec::int("feathering", 40, (0, MAX_SIDE_PX), 1)
            .tooltip("Pixels over which the mask fades into the picture."),
    ];
    NodeSpec::new("ImagePadForOutpaint", "image", inputs, &["IMAGE", "MASK"])
        .titled("Pad Image for Outpainting")
        .about("Puts a gray margin around pictures and masks it, so that a model may fill it.")
}

fn pad(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let image = Pictures::image(inputs, "image")?;
    let margins = Margins {
        left: inputs.int_as("left")?,
        top: inputs.int_as("top")?,
        right: inputs.int_as("right")?,
        bottom: inputs.int_as("bottom")?,
    };
    let size = Size {
        width: image.width + margins.left + margins.right,
        height: image.height + margins.top + margins.bottom,
    };
    let mut padded = Pictures::full(image.batch, size, image.channels, 0.5)?;
    padded.paste(&image, (margins.left, margins.top));
    let mut mask = Pictures::full(1, size, 1, 1.0)?;
    mask.paste(&margins.faded(image.size(), inputs.int_as("feathering")?), (margins.left, margins.top));
    Ok(Outputs::many(vec![padded.into_image()?, mask.into_mask()?]))
}

struct Margins {
    left: usize,
    top: usize,
    right: usize,
    bottom: usize,
}

impl Margins {
    /// The mask over the old picture: fading from every side that got a margin.
    fn faded(&self, size: Size, feathering: usize) -> Pictures<'static> {
        let Size { width, height } = size;
        let fades = feathering > 0 && feathering * 2 < height && feathering * 2 < width;
        let far = width.max(height);
        let sample = |x: usize, y: usize| {
            let from = |margin: usize, distance: usize| if margin > 0 { distance } else { far };
            let nearest = from(self.top, y)
                .min(from(self.bottom, height - y))
                .min(from(self.left, x))
                .min(from(self.right, width - x));
            if !fades || nearest >= feathering {
                return 0.0;
            }
            let depth = (feathering - nearest) as f64 / feathering as f64;
            (depth * depth) as f32
        };
        let data = (0..height).flat_map(|y| (0..width).map(move |x| sample(x, y))).collect();
        Pictures::new(1, size, 1, data)
    }
}

/// A colour as one number, `0xRRGGBB`, with a colour field on the page.
pub(super) fn colour_input() -> InputSpec {
    let mut colour = InputSpec::int("color", 0, (0, 0xff_ffff), 1);
    if let Some(Widget::Int { display, .. }) = &mut colour.widget {
        *display = Some("color".into());
    }
    colour
}

fn empty_spec() -> NodeSpec {
    let inputs = vec![
        InputSpec::int("width", 512, (1, MAX_SIDE_PX), 1),
        InputSpec::int("height", 512, (1, MAX_SIDE_PX), 1),
        InputSpec::int("batch_size", 1, (1, 4096), 1),
        colour_input(),
    ];
    NodeSpec::new("EmptyImage", "image", inputs, &["IMAGE"]).about("Makes pictures of one colour.")
}

fn empty(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let size = Size { width: inputs.int_as("width")?, height: inputs.int_as("height")? };
    let colour: u32 = inputs.int_as("color")?;
    let samples = affordable(inputs.int_as("batch_size")?, size, 3)?;
    let pixel = [16, 8, 0].map(|shift| ((colour >> shift) & 0xff) as f32 / 255.0);
    let data = pixel.into_iter().cycle().take(samples).collect();
    Pictures::new(inputs.int_as("batch_size")?, size, 3, data).one_image()
}

fn size_spec() -> NodeSpec {
    let inputs = vec![InputSpec::socket("image", "IMAGE"), InputSpec::hidden("unique_id", "UNIQUE_ID")];
    NodeSpec::new("GetImageSize", "image", inputs, &["INT", "INT", "INT"])
        .naming(&["width", "height", "batch_size"])
        .titled("Get Image Size")
        .about("Tells the width and height of pictures and how many they are.")
}

fn size(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let image = Pictures::image(inputs, "image")?;
    let number = |value: usize| Data::Literal(Literal::Int(value as i128));
    Ok(Outputs::many([image.width, image.height, image.batch].map(number).to_vec()))
}

fn composite_spec() -> NodeSpec {
    let inputs = vec![
        InputSpec::socket("destination", "IMAGE"),
        InputSpec::socket("source", "IMAGE"),
        InputSpec::int("x", 0, (0, MAX_SIDE_PX), 1),
        InputSpec::int("y", 0, (0, MAX_SIDE_PX), 1),
        InputSpec::boolean("resize_source", false),
        InputSpec::socket("mask", "MASK").optional(),
    ];
    NodeSpec::new("ImageCompositeMasked", "image", inputs, &["IMAGE"])
        .about("Lays a picture over another, where its mask is white.")
}

fn composite(inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let mut destination = Pictures::image(inputs, "destination")?;
    let mut source = Pictures::image(inputs, "source")?.with_channels(destination.channels, 1.0);
    if inputs.boolean("resize_source")? {
        source = source.resized(ctx, destination.size(), ResizeMethod::Bilinear, Crop::Disabled)?;
    }
    let source = source.with_batch(destination.batch)?;
    let mask = match inputs.get("mask") {
        None => None,
        Some(_) => {
            let mask = Pictures::mask(inputs, "mask")?;
            let mask = mask.resized(ctx, source.size(), ResizeMethod::Bilinear, Crop::Disabled)?;
            Some(mask.with_batch(source.batch)?)
        }
    };
    let place = (inputs.int_as("x")?, inputs.int_as("y")?);
    match mask {
        None => destination.paste(&source, place),
        Some(mask) => blend(&mut destination, &source, &mask, place),
    }
    destination.one_image()
}

/// Mixes a picture into another as far as the mask is white.
fn blend(destination: &mut Pictures<'_>, source: &Pictures<'_>, mask: &Pictures<'_>, (x, y): (usize, usize)) {
    let (width, channels) = (destination.width, destination.channels);
    let columns = source.width.min(width.saturating_sub(x));
    let rows = source.height.min(destination.height.saturating_sub(y));
    let picture_len = destination.picture_len();
    for (index, picture) in destination.samples_mut().chunks_exact_mut(picture_len).enumerate() {
        for row in 0..rows {
            for column in 0..columns {
                let from = row * source.width + column;
                let white = mask.picture(index)[from];
                let over = &source.picture(index)[from * channels..(from + 1) * channels];
                let start = ((row + y) * width + column + x) * channels;
                for (old, new) in picture[start..start + channels].iter_mut().zip(over) {
                    *old = white * new + (1.0 - white) * *old;
                }
            }
        }
    }
}
