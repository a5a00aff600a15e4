//! Nodes that lay a latent over another.

use super::MAX_SIDE;
use super::latent_planes::Planes;
use crate::state::SamplerState;
use comfy_diffusion::families::sd1::DOWNSCALE;
use comfy_diffusion::sampling::{Crop, ResizeMethod};
use comfy_graph::{InputSpec, NodeSpec};
use comfy_stage::{Ctx, FnNode, Inputs, Node, NodeError, Outputs};

pub(super) const NODES: &[&dyn Node<SamplerState>] =
    &[&FnNode { spec: composite_spec, run: composite }, &FnNode { spec: masked_spec, run: masked }];

fn place_inputs() -> [InputSpec; 2] {
    ["x", "y"].map(|name| InputSpec::int(name, 0, (0, MAX_SIDE), 8))
}

/// Where the upper latent goes, in latent pixels.
fn place(inputs: &Inputs) -> Result<(usize, usize), NodeError> {
    Ok((inputs.int_as::<usize>("x")? / DOWNSCALE, inputs.int_as::<usize>("y")? / DOWNSCALE))
}

/// Mixes `upper` into `lower` at a place by a weight per latent pixel of the part that is inside.
fn lay(
    lower: &mut Planes,
    upper: &Planes,
    (x, y): (usize, usize),
    weight: impl Fn(usize, usize, usize) -> f32,
) -> Result<(), NodeError> {
    if lower.channels != upper.channels {
        let (own, others) = (lower.channels, upper.channels);
        return Err(NodeError::invalid(format!("one latent has {own} channels, the other {others}")));
    }
    let (rows, columns) = visible(lower, upper, (x, y));
    for (item, channel) in (0..lower.batch).flat_map(|i| (0..lower.channels).map(move |c| (i, c))) {
        for (row, column) in (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))) {
            let at = ((item * lower.channels + channel) * lower.height + row + y) * lower.width + column + x;
            let weight = weight(item, row, column);
            lower.data[at] =
                upper.at([item, channel, row, column]) * weight + lower.data[at] * (1.0 - weight);
        }
    }
    Ok(())
}

/// The rows and columns of `upper` that are inside of `lower`.
fn visible(lower: &Planes, upper: &Planes, (x, y): (usize, usize)) -> (usize, usize) {
    (upper.height.min(lower.height.saturating_sub(y)), upper.width.min(lower.width.saturating_sub(x)))
}

fn composite_spec() -> NodeSpec {
    let feather =
        InputSpec::int("feather", 0, (0, MAX_SIDE), 8).tooltip("Pixels over which the sides fade in.");
    let latents =
        vec![InputSpec::socket("samples_to", "LATENT"), InputSpec::socket("samples_from", "LATENT")];
    let inputs = [latents, place_inputs().to_vec(), vec![feather]].concat();
    NodeSpec::new("LatentComposite", "latent", inputs, &["LATENT"])
        .titled("Latent Composite")
        .about("Lays a latent over another. Sides that lie inside may fade in.")
}

fn composite(inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
    let latent = inputs.latent("samples_to")?;
    let mut lower = Planes::of(&latent.samples)?;
    let upper = Planes::input(inputs, "samples_from")?;
    let (x, y) = place(inputs)?;
    let feather = inputs.int_as::<usize>("feather")? / DOWNSCALE;
    let (rows, columns) = visible(&lower, &upper, (x, y));
    let (ends_inside_down, ends_inside_across) = (y + rows < lower.height, x + columns < lower.width);
    let fade = |from_side: usize, is_inside: bool| {
        let is_faded = is_inside && from_side < feather;
        if is_faded { (1.0 / feather as f64 * (from_side as f64 + 1.0)) as f32 } else { 1.0 }
    };
    lay(&mut lower, &upper, (x, y), |_, row, column| {
        fade(row, y != 0)
            * fade(rows - 1 - row, ends_inside_down)
            * fade(column, x != 0)
            * fade(columns - 1 - column, ends_inside_across)
    })?;
    lower.output(latent)
}

fn masked_spec() -> NodeSpec {
    let latents = vec![InputSpec::socket("destination", "LATENT"), InputSpec::socket("source", "LATENT")];
    let rest = vec![InputSpec::boolean("resize_source", false), InputSpec::socket("mask", "MASK").optional()];
    let inputs = [latents, place_inputs().to_vec(), rest].concat();
    NodeSpec::new("LatentCompositeMasked", "latent", inputs, &["LATENT"])
        .about("Lays a latent over another, where its mask is white.")
}

fn masked(inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
    let latent = inputs.latent("destination")?;
    let mut lower = Planes::of(&latent.samples)?;
    let mut upper = Planes::input(inputs, "source")?;
    if inputs.boolean("resize_source")? {
        upper = upper.resized((lower.height, lower.width), ResizeMethod::Bilinear, Crop::Disabled)?;
    }
    let place = place(inputs)?;
    match inputs.opt_mask("mask")? {
        None => lay(&mut lower, &upper, place, |_, _, _| 1.0)?,
        Some(mask) => {
            let &[.., height, width] = mask.shape() else {
                return Err(NodeError::invalid(format!(
                    "a mask has 2 or 3 dimensions, got {:?}",
                    mask.shape()
                )));
            };
            let area = height * width;
            if mask.data().is_empty() {
                return Err(NodeError::invalid("the mask is empty"));
            }
            let batch = mask.data().len() / area;
            let mask = Planes { batch, channels: 1, height, width, data: mask.data().to_vec() };
            let mask = mask.resized((upper.height, upper.width), ResizeMethod::Bilinear, Crop::Disabled)?;
            lay(&mut lower, &upper, place, |item, row, column| mask.at([item, 0, row, column]))?;
        }
    }
    lower.output(latent)
}
