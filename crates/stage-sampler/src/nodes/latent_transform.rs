//! Nodes that turn, mirror, cut and join latents.

use super::MAX_SIDE;
use super::latent_planes::Planes;
use crate::state::SamplerState;
use comfy_diffusion::families::sd1::DOWNSCALE;
use comfy_graph::{InputSpec, NodeSpec};
use comfy_stage::{Ctx, FnNode, Inputs, Node, NodeError, Outputs};

pub(super) const NODES: &[&dyn Node<SamplerState>] = &[
    &FnNode { spec: rotate_spec, run: rotate },
    &FnNode { spec: flip_spec, run: flip },
    &FnNode { spec: crop_spec, run: crop },
    &FnNode { spec: concat_spec, run: concat },
    &FnNode { spec: cut_spec, run: cut },
];

/// The smallest part that is cut out, in latent pixels.
const SMALLEST: usize = 8;

fn rotate_spec() -> NodeSpec {
    let rotations = ["none", "90 degrees", "180 degrees", "270 degrees"];
    let inputs = vec![InputSpec::socket("samples", "LATENT"), InputSpec::combo("rotation", &rotations)];
    NodeSpec::new("LatentRotate", "latent/transform", inputs, &["LATENT"])
        .titled("Rotate Latent")
        .about("Turns latents clockwise.")
}

fn rotate(inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
    let latent = inputs.latent("samples")?;
    let old = Planes::of(&latent.samples)?;
    let (height, width) = (old.height, old.width);
    let turned = [old.batch, old.channels, width, height];
    let new = match inputs.text("rotation")? {
        "none" => old,
        "90 degrees" => Planes::from_fn(turned, |[b, c, y, x]| old.at([b, c, height - 1 - x, y]))?,
        "180 degrees" => {
            Planes::from_fn(old.dimensions(), |[b, c, y, x]| old.at([b, c, height - 1 - y, width - 1 - x]))?
        }
        "270 degrees" => Planes::from_fn(turned, |[b, c, y, x]| old.at([b, c, x, width - 1 - y]))?,
        other => {
            return Err(NodeError::invalid(format!(
                "unknown rotation `{other}`; expected `none`, `90 degrees`, `180 degrees` or `270 degrees`"
            )));
        }
    };
    new.output(latent)
}

fn flip_spec() -> NodeSpec {
    let methods = ["x-axis: vertically", "y-axis: horizontally"];
    let inputs = vec![InputSpec::socket("samples", "LATENT"), InputSpec::combo("flip_method", &methods)];
    NodeSpec::new("LatentFlip", "latent/transform", inputs, &["LATENT"])
        .titled("Flip Latent")
        .about("Mirrors latents.")
}

fn flip(inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
    let latent = inputs.latent("samples")?;
    let old = Planes::of(&latent.samples)?;
    let (height, width) = (old.height, old.width);
    let new = match inputs.text("flip_method")? {
        "x-axis: vertically" => {
            Planes::from_fn(old.dimensions(), |[b, c, y, x]| old.at([b, c, height - 1 - y, x]))?
        }
        "y-axis: horizontally" => {
            Planes::from_fn(old.dimensions(), |[b, c, y, x]| old.at([b, c, y, width - 1 - x]))?
        }
        other => {
            return Err(NodeError::invalid(format!(
                "unknown method `{other}`; expected `x-axis: vertically` or `y-axis: horizontally`"
            )));
        }
    };
    new.output(latent)
}

fn crop_spec() -> NodeSpec {
    let inputs = vec![
        InputSpec::socket("samples", "LATENT"),
        InputSpec::int("width", 512, (64, MAX_SIDE), 8),
        InputSpec::int("height", 512, (64, MAX_SIDE), 8),
        InputSpec::int("x", 0, (0, MAX_SIDE), 8),
        InputSpec::int("y", 0, (0, MAX_SIDE), 8),
    ];
    NodeSpec::new("LatentCrop", "latent/transform", inputs, &["LATENT"])
        .titled("Crop Latent")
        .about("Cuts a rectangle out of latents, measured in pixels of the picture.")
}

fn crop(inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
    let latent = inputs.latent("samples")?;
    let old = Planes::of(&latent.samples)?;
    let asked = |name| inputs.int_as::<usize>(name).map(|pixels| pixels / DOWNSCALE);
    // The place moves back so that something useful is left.
    let x = asked("x")?.min(old.width.saturating_sub(SMALLEST));
    let y = asked("y")?.min(old.height.saturating_sub(SMALLEST));
    let (width, height) = (asked("width")?.min(old.width - x), asked("height")?.min(old.height - y));
    Planes::from_fn([old.batch, old.channels, height, width], |[b, c, row, column]| {
        old.at([b, c, row + y, column + x])
    })?
    .output(latent)
}

/// The axis that a choice means: of four, counted from the end.
fn axis(name: &str) -> Result<usize, NodeError> {
    match name.trim_start_matches('-') {
        "x" => Ok(3),
        "y" => Ok(2),
        "t" => Ok(1),
        _ => Err(NodeError::invalid(format!(
            "unknown axis `{name}`; expected `x`, `y` or `t`, `-` before it turns it round"
        ))),
    }
}

fn concat_spec() -> NodeSpec {
    let inputs = vec![
        InputSpec::socket("samples1", "LATENT"),
        InputSpec::socket("samples2", "LATENT"),
        InputSpec::combo("dim", &["x", "-x", "y", "-y", "t", "-t"]),
    ];
    NodeSpec::new("LatentConcat", "latent/advanced", inputs, &["LATENT"])
        .about("Joins two latents side by side. A minus puts the second one first.")
}

fn concat(inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
    let name = inputs.text("dim")?;
    let axis = axis(name)?;
    let latent = inputs.latent("samples1")?;
    let own = Planes::of(&latent.samples)?;
    let batch = own.batch;
    let other = Planes::input(inputs, "samples2")?;
    let (first, second) = if name.starts_with('-') { (other, own) } else { (own, other) };
    let mut dimensions = first.dimensions();
    dimensions[0] = batch;
    let mut others = second.dimensions();
    others[0] = batch;
    let (start, end) = (dimensions[axis], dimensions[axis] + others[axis]);
    others[axis] = start;
    if others != dimensions {
        let (first, second) = (first.dimensions(), second.dimensions());
        return Err(NodeError::invalid(format!(
            "latents of {first:?} and {second:?} cannot be joined along `{name}`"
        )));
    }
    dimensions[axis] = end;
    Planes::from_fn(dimensions, |mut place| {
        if place[axis] < start {
            return first.at(place);
        }
        place[axis] -= start;
        second.at(place)
    })?
    .output(latent)
}

fn cut_spec() -> NodeSpec {
    let inputs = vec![
        InputSpec::socket("samples", "LATENT"),
        InputSpec::combo("dim", &["x", "y", "t"]),
        InputSpec::int("index", 0, (-MAX_SIDE, MAX_SIDE), 1)
            .tooltip("Where the part begins, in latent pixels. Negative numbers count from the end."),
        InputSpec::int("amount", 1, (1, MAX_SIDE), 1).tooltip("How many latent pixels the part is long."),
    ];
    NodeSpec::new("LatentCut", "latent/advanced", inputs, &["LATENT"]).about("Takes a strip out of a latent.")
}

fn cut(inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
    let axis = axis(inputs.text("dim")?)?;
    let latent = inputs.latent("samples")?;
    let old = Planes::of(&latent.samples)?;
    let mut dimensions = old.dimensions();
    let length = dimensions[axis] as i64;
    let index: i64 = inputs.int_as("index")?;
    let start = if index < 0 { (index + length).max(0) } else { index.min(length - 1) } as usize;
    dimensions[axis] = inputs.int_as::<usize>("amount")?.min(dimensions[axis] - start);
    Planes::from_fn(dimensions, |mut place| {
        place[axis] += start;
        old.at(place)
    })?
    .output(latent)
}
