//! Category `mask`: combining, fading, growing.

use comfy_graph::{InputSpec, NodeSpec};
use comfy_imaging::ops::{Extreme, cross_step, square};
use comfy_stage::{Ctx, FnNode, Inputs, NodeError, Outputs};

use crate::pictures::Pictures;
use crate::state::ImageState;

use super::MAX_SIDE_PX;

pub(super) const NODES: &[super::ImageNode] = &[
    &FnNode { spec: composite_spec, run: composite },
    &FnNode { spec: feather_spec, run: feather },
    &FnNode { spec: grow_spec, run: grow },
];

const OPERATIONS: [&str; 6] = ["multiply", "add", "subtract", "and", "or", "xor"];

fn composite_spec() -> NodeSpec {
    let inputs = vec![
        InputSpec::socket("destination", "MASK"),
        InputSpec::socket("source", "MASK"),
        InputSpec::int("x", 0, (0, MAX_SIDE_PX), 1),
        InputSpec::int("y", 0, (0, MAX_SIDE_PX), 1),
        InputSpec::combo("operation", &OPERATIONS),
    ];
    NodeSpec::new("MaskComposite", "mask", inputs, &["MASK"]).about("Combines a mask with a part of another.")
}

fn composite(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let mut destination = Pictures::mask(inputs, "destination")?;
    let source = Pictures::mask(inputs, "source")?;
    let (x, y): (usize, usize) = (inputs.int_as("x")?, inputs.int_as("y")?);
    if source.batch != 1 && source.batch != destination.batch {
        let (from, to) = (source.batch, destination.batch);
        return Err(NodeError::invalid(format!("{from} source masks do not go with {to} destination masks")));
    }
    let is_white = |sample: f32| sample.round_ties_even() != 0.0;
    let truth = |value: bool| f32::from(u8::from(value));
    let operation = inputs.text("operation")?;
    let combine: &dyn Fn(f32, f32) -> f32 = match operation {
        "multiply" => &|a, b| a * b,
        "add" => &|a, b| a + b,
        "subtract" => &|a, b| a - b,
        "and" => &|a, b| truth(is_white(a) & is_white(b)),
        "or" => &|a, b| truth(is_white(a) | is_white(b)),
        "xor" => &|a, b| truth(is_white(a) ^ is_white(b)),
        other => {
            let known = OPERATIONS.join("`, `");
            return Err(NodeError::invalid(format!(
                "unknown operation `{other}`; expected one of `{known}`"
            )));
        }
    };
    let width = destination.width;
    let columns = source.width.min(width.saturating_sub(x));
    let rows = source.height.min(destination.height.saturating_sub(y));
    let area = destination.picture_len();
    for (index, plane) in destination.samples_mut().chunks_exact_mut(area).enumerate() {
        for (row, line) in source.picture(index).chunks_exact(source.width).take(rows).enumerate() {
            let start = (row + y) * width + x;
            let old = plane[start..].iter_mut().take(columns);
            old.zip(line).for_each(|(old, new)| *old = combine(*old, *new));
        }
    }
    destination.mapped(|sample| sample.clamp(0.0, 1.0)).one_mask()
}

fn feather_spec() -> NodeSpec {
    let side = |name| InputSpec::int(name, 0, (0, MAX_SIDE_PX), 1);
    let inputs =
        vec![InputSpec::socket("mask", "MASK"), side("left"), side("top"), side("right"), side("bottom")];
    NodeSpec::new("FeatherMask", "mask", inputs, &["MASK"]).about("Lets masks fade towards their sides.")
}

/// # Source
/// As ComfyUI, where the first step of the right and of the lower fade falls on the first column and row, because it
/// counts them from zero backwards.
fn feather(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let mut mask = Pictures::mask(inputs, "mask")?;
    let (width, height) = (mask.width, mask.height);
    let asked = |name: &str, side: usize| inputs.int_as::<usize>(name).map(|pixels| pixels.min(side));
    let columns = factors(width, asked("left", width)?, asked("right", width)?);
    let rows = factors(height, asked("top", height)?, asked("bottom", height)?);
    for plane in mask.samples_mut().chunks_exact_mut(width * height) {
        for (line, down) in plane.chunks_exact_mut(width).zip(&rows) {
            for (sample, across) in line.iter_mut().zip(&columns) {
                *sample = across.iter().chain(down).fold(*sample, |sample, factor| sample * factor);
            }
        }
    }
    mask.one_mask()
}

/// The factors at each position of a side, in the order in which they apply.
fn factors(side: usize, first: usize, last: usize) -> Vec<Vec<f32>> {
    let mut factors = vec![Vec::new(); side];
    let rate = |step: usize, steps: usize| ((step as f64 + 1.0) / steps as f64) as f32;
    for (step, factors) in factors.iter_mut().enumerate().take(first) {
        factors.push(rate(step, first));
    }
    for step in 0..last {
        factors[(side - step) % side].push(rate(step, last));
    }
    factors
}

fn grow_spec() -> NodeSpec {
    let inputs = vec![
        InputSpec::socket("mask", "MASK"),
        InputSpec::int("expand", 0, (-MAX_SIDE_PX, MAX_SIDE_PX), 1)
            .tooltip("Pixels by which the white part grows; negative numbers shrink it."),
        InputSpec::boolean("tapered_corners", true)
            .tooltip("Grows a point to a diamond instead of a square."),
    ];
    NodeSpec::new("GrowMask", "mask", inputs, &["MASK"])
        .titled("GrowMask")
        .about("Grows or shrinks the white part of masks.")
}

fn grow(inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let mut mask = Pictures::mask(inputs, "mask")?;
    let expand: i64 = inputs.int_as("expand")?;
    let steps = expand.unsigned_abs() as usize;
    let extreme = if expand < 0 { Extreme::Smallest } else { Extreme::Largest };
    if steps == 0 {
        return mask.one_mask();
    }
    if !inputs.boolean("tapered_corners")? {
        return mask.each(ctx, |plane| square(plane, 2 * steps + 1, extreme))?.one_mask();
    }
    let (width, area) = (mask.width, mask.picture_len());
    for plane in mask.samples_mut().chunks_exact_mut(area) {
        for _ in 0..steps {
            ctx.check_cancelled()?;
            if !cross_step(plane, width, extreme) {
                break;
            }
        }
    }
    mask.one_mask()
}
