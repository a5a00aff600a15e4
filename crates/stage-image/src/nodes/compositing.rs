//! Category `mask/compositing`: opacity, and combining pictures by it.
//!
//! A mask is white where a picture is transparent, so opacity is one minus the mask.

use comfy_graph::{InputSpec, NodeSpec};
use comfy_imaging::ops::{PorterDuff, Shade};
use comfy_imaging::{Crop, ResizeMethod};
use comfy_stage::{Ctx, FnNode, Inputs, NodeError, Outputs};

use crate::pictures::{Pictures, Size, imaging_error};
use crate::state::ImageState;

pub(super) const NODES: &[super::ImageNode] = &[
    &FnNode { spec: porter_duff_spec, run: porter_duff },
    &FnNode { spec: split_spec, run: split },
    &FnNode { spec: join_spec, run: join },
];

const CATEGORY: &str = "mask/compositing";

fn porter_duff_spec() -> NodeSpec {
    let inputs = vec![
        InputSpec::socket("source", "IMAGE"),
        InputSpec::socket("source_alpha", "MASK"),
        InputSpec::socket("destination", "IMAGE"),
        InputSpec::socket("destination_alpha", "MASK"),
        InputSpec::combo("mode", &PorterDuff::ALL.map(PorterDuff::name)).choose("DST"),
    ];
    NodeSpec::new("PorterDuffImageComposite", CATEGORY, inputs, &["IMAGE", "MASK"])
        .titled("Porter-Duff Image Composite")
        .about("Combines two pictures by their opacity.")
}

fn porter_duff(inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let mode: PorterDuff = inputs.text("mode")?.parse().map_err(imaging_error)?;
    let (source, destination) = (Pictures::image(inputs, "source")?, Pictures::image(inputs, "destination")?);
    if source.channels != destination.channels {
        let (from, to) = (source.channels, destination.channels);
        return Err(NodeError::invalid(format!("the source has {from} channels, the destination {to}")));
    }
    let size = destination.size();
    let source_alpha = fitted(Pictures::mask(inputs, "source_alpha")?, size, ctx)?;
    let destination_alpha = fitted(Pictures::mask(inputs, "destination_alpha")?, size, ctx)?;
    let source = fitted(source, size, ctx)?;
    let batch =
        [source.batch, source_alpha.batch, destination.batch, destination_alpha.batch].into_iter().min();
    let batch = batch.unwrap_or(0);
    let channels = source.channels;
    let mut colours = Vec::with_capacity(batch * destination.picture_len());
    let mut mask = Vec::with_capacity(batch * destination_alpha.picture_len());
    for index in 0..batch {
        ctx.check_cancelled()?;
        let alphas = source_alpha.picture(index).iter().zip(destination_alpha.picture(index));
        let pixels = source.picture(index).chunks_exact(channels);
        let pixels = pixels.zip(destination.picture(index).chunks_exact(channels));
        for ((from, to), (from_mask, to_mask)) in pixels.zip(alphas) {
            let mut opacity = 0.0;
            for (from, to) in from.iter().zip(to) {
                let source = Shade::premultiplied(*from, 1.0 - from_mask);
                let result = mode.apply(source, Shade::premultiplied(*to, 1.0 - to_mask));
                colours.push(result.plain());
                opacity = result.opacity;
            }
            mask.push(1.0 - opacity);
        }
    }
    let colours = Pictures::new(batch, size, channels, colours).into_image()?;
    Ok(Outputs::many(vec![colours, Pictures::new(batch, size, 1, mask).into_mask()?]))
}

/// Scales and cuts to a size, unless it is there already.
fn fitted<'a>(
    pictures: Pictures<'a>,
    size: Size,
    ctx: &Ctx<'_, ImageState>,
) -> Result<Pictures<'a>, NodeError> {
    if pictures.size() == size {
        return Ok(pictures);
    }
    pictures.resized(ctx, size, ResizeMethod::Bicubic, Crop::Center)
}

fn split_spec() -> NodeSpec {
    NodeSpec::new("SplitImageWithAlpha", CATEGORY, vec![InputSpec::socket("image", "IMAGE")], &["IMAGE", "MASK"])
        .titled("Split Image with Alpha")
        .about("Takes the opacity of pictures apart from their colours. The mask is white where they are transparent.")
}

fn split(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let image = Pictures::image(inputs, "image")?;
    let mask = if image.channels > 3 {
        image.channel(3)?.mapped(|alpha| 1.0 - alpha)
    } else {
        Pictures::full(image.batch, image.size(), 1, 0.0)?
    };
    let colours = image.channels.min(3);
    Ok(Outputs::many(vec![image.with_channels(colours, 1.0).into_image()?, mask.into_mask()?]))
}

fn join_spec() -> NodeSpec {
    let inputs = vec![InputSpec::socket("image", "IMAGE"), InputSpec::socket("alpha", "MASK")];
    NodeSpec::new("JoinImageWithAlpha", CATEGORY, inputs, &["IMAGE"])
        .titled("Join Image with Alpha")
        .about("Gives pictures an opacity: transparent where the mask is white.")
}

fn join(inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let image = Pictures::image(inputs, "image")?;
    if image.channels < 3 {
        return Err(NodeError::invalid("the image has no colours"));
    }
    let alpha = Pictures::mask(inputs, "alpha")?;
    let alpha = alpha.resized(ctx, image.size(), ResizeMethod::Bilinear, Crop::Disabled)?;
    let batch = image.batch.min(alpha.batch);
    let pixels = image.data.chunks_exact(image.channels);
    let data = pixels
        .zip(&*alpha.data)
        .flat_map(|(pixel, mask)| [pixel[0], pixel[1], pixel[2], 1.0 - mask])
        .take(batch * image.width * image.height * 4)
        .collect();
    Pictures::new(batch, image.size(), 4, data).one_image()
}
