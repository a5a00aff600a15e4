//! Category `image/batch`: repeating, picking, and splitting into brightness and colour.

use comfy_graph::{InputSpec, NodeSpec};
use comfy_stage::{Ctx, FnNode, Inputs, NodeError, Outputs};

use crate::pictures::{Pictures, common_batch};
use crate::state::ImageState;

pub(super) const NODES: &[super::ImageNode] = &[
    &FnNode { spec: repeat_spec, run: repeat },
    &FnNode { spec: from_batch_spec, run: from_batch },
    &FnNode { spec: to_yuv_spec, run: to_yuv },
    &FnNode { spec: from_yuv_spec, run: from_yuv },
];

fn repeat_spec() -> NodeSpec {
    let inputs = vec![InputSpec::socket("image", "IMAGE"), InputSpec::int("amount", 1, (1, 4096), 1)];
    NodeSpec::new("RepeatImageBatch", "image/batch", inputs, &["IMAGE"])
        .about("Repeats a batch of pictures as a whole.")
}

fn repeat(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let image = Pictures::image(inputs, "image")?;
    let batch = image.batch.saturating_mul(inputs.int_as("amount")?);
    image.with_batch(batch)?.one_image()
}

fn from_batch_spec() -> NodeSpec {
    let inputs = vec![
        InputSpec::socket("image", "IMAGE"),
        InputSpec::int("batch_index", 0, (0, 4095), 1)
            .tooltip("The first picture that is taken; 0 is the first."),
        InputSpec::int("length", 1, (1, 4096), 1)
            .tooltip("How many pictures are taken, as far as there are any."),
    ];
    NodeSpec::new("ImageFromBatch", "image/batch", inputs, &["IMAGE"]).about("Takes pictures out of a batch.")
}

fn from_batch(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let image = Pictures::image(inputs, "image")?;
    let first = inputs.int_as::<usize>("batch_index")?.min(image.batch - 1);
    let count = inputs.int_as::<usize>("length")?.min(image.batch - first);
    let length = image.picture_len();
    let data = image.data[first * length..(first + count) * length].to_vec();
    Pictures::new(count, image.size(), image.channels, data).one_image()
}

fn to_yuv_spec() -> NodeSpec {
    NodeSpec::new("ImageRGBToYUV", "image/batch", vec![InputSpec::socket("image", "IMAGE")], &["IMAGE"; 3])
        .naming(&["Y", "U", "V"])
        .about("Splits pictures into brightness and two colour differences, each as a gray picture.")
}

/// # Source
/// The coefficients are those of `kornia.color.rgb_to_ycbcr`, which ComfyUI uses.
fn to_yuv(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let image = colours(inputs, "image")?;
    let mut planes = [0, 1, 2].map(|_| Vec::with_capacity(image.data.len()));
    for pixel in image.data.as_chunks::<3>().0 {
        let [red, green, blue] = *pixel;
        let brightness = 0.299 * red + 0.587 * green + 0.114 * blue;
        let parts = [brightness, (blue - brightness) * 0.564 + 0.5, (red - brightness) * 0.713 + 0.5];
        planes.iter_mut().zip(parts).for_each(|(plane, part)| plane.extend([part; 3]));
    }
    let outputs = planes.map(|plane| Pictures::new(image.batch, image.size(), 3, plane).into_image());
    Ok(Outputs::many(outputs.into_iter().collect::<Result<_, _>>()?))
}

fn from_yuv_spec() -> NodeSpec {
    let inputs = ["Y", "U", "V"].map(|name| InputSpec::socket(name, "IMAGE")).to_vec();
    NodeSpec::new("ImageYUVToRGB", "image/batch", inputs, &["IMAGE"])
        .about("Puts pictures together from brightness and two colour differences.")
}

fn from_yuv(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let parts = [averages(inputs, "Y")?, averages(inputs, "U")?, averages(inputs, "V")?];
    let size = parts[0].size();
    if parts.iter().any(|part| part.size() != size) {
        return Err(NodeError::invalid("`Y`, `U` and `V` must have one size"));
    }
    let batch = common_batch(&parts[0], &parts[1])?.max(common_batch(&parts[0], &parts[2])?);
    let [y, u, v] = parts;
    let (y, u, v) = (y.with_batch(batch)?, u.with_batch(batch)?, v.with_batch(batch)?);
    let pixel = |((brightness, blue), red): ((&f32, &f32), &f32)| {
        let (blue, red) = (blue - 0.5, red - 0.5);
        let green = brightness - 0.714 * red - 0.344 * blue;
        [brightness + 1.403 * red, green, brightness + 1.773 * blue].map(|sample| sample.clamp(0.0, 1.0))
    };
    let data = y.data.iter().zip(&*u.data).zip(&*v.data).flat_map(pixel).collect();
    Pictures::new(batch, size, 3, data).one_image()
}

/// Pictures of three channels: an alpha channel is dropped.
fn colours<'a>(inputs: &'a Inputs, name: &str) -> Result<Pictures<'a>, NodeError> {
    let image = Pictures::image(inputs, name)?;
    if image.channels < 3 {
        return Err(NodeError::invalid(format!("input `{name}` has no colours")));
    }
    Ok(image.with_channels(3, 1.0))
}

/// The mean of the channels of each pixel.
fn averages(inputs: &Inputs, name: &str) -> Result<Pictures<'static>, NodeError> {
    let image = Pictures::image(inputs, name)?;
    let mean = |pixel: &[f32]| pixel.iter().sum::<f32>() / pixel.len() as f32;
    let data = image.data.chunks_exact(image.channels).map(mean).collect();
    Ok(Pictures::new(image.batch, image.size(), 1, data))
}
