//! `ResolutionSelector`: a size from a shape and a number of pixels.

use comfy_graph::{InputSpec, Literal, NodeSpec};
use comfy_stage::{Ctx, Data, FnNode, Inputs, NodeError, Outputs};

use crate::state::ImageState;

pub(super) const NODES: &[super::ImageNode] = &[&FnNode { spec: selector_spec, run: selector }];

/// The shapes by name, width to height.
const SHAPES: [(&str, f64, f64); 8] = [
    ("1:1 (Square)", 1.0, 1.0),
    ("2:3 (Portrait Photo)", 2.0, 3.0),
    ("3:2 (Photo)", 3.0, 2.0),
    ("3:4 (Portrait Standard)", 3.0, 4.0),
    ("4:3 (Standard)", 4.0, 3.0),
    ("9:16 (Portrait Widescreen)", 9.0, 16.0),
    ("16:9 (Widescreen)", 16.0, 9.0),
    ("21:9 (Ultrawide)", 21.0, 9.0),
];
const PIXELS_PER_MEGAPIXEL: f64 = 1024.0 * 1024.0;

fn selector_spec() -> NodeSpec {
    let inputs = vec![
        InputSpec::combo("aspect_ratio", &SHAPES.map(|(name, ..)| name)).tooltip("Width to height."),
        InputSpec::float("megapixels", 1.0, (0.1, 16.0), 0.1, None)
            .tooltip("How many pixels, in units of 1024 by 1024."),
        InputSpec::int("multiple", 8, (8, 128), 4).tooltip("What both sides are multiples of."),
    ];
    NodeSpec::new("ResolutionSelector", "utils", inputs, &["INT", "INT"])
        .titled("Resolution Selector")
        .about("Works out the width and the height of a picture from its shape and its number of pixels.")
        .naming(&["width", "height"])
}

fn selector(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let name = inputs.text("aspect_ratio")?;
    let shape = SHAPES.iter().find(|(known, ..)| *known == name).ok_or_else(|| {
        let choices = SHAPES.map(|(name, ..)| format!("`{name}`")).join(", ");
        NodeError::invalid(format!("unknown aspect ratio `{name}`, expected one of {choices}"))
    })?;
    let sides = sides((shape.1, shape.2), inputs.float("megapixels")?, inputs.int("multiple")?);
    Ok(Outputs::many(sides.map(|side| Data::Literal(Literal::Int(side))).into()))
}

/// Rounds each side to the nearest multiple, halves to the even one.
fn sides((width, height): (f64, f64), megapixels: f64, multiple: i128) -> [i128; 2] {
    let scale = (megapixels * PIXELS_PER_MEGAPIXEL / (width * height)).sqrt();
    [width, height].map(|side| (side * scale / multiple as f64).round_ties_even() as i128 * multiple)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked out by `round(side * sqrt(megapixels * 2**20 / (width * height)) / multiple) * multiple` in Python 3.
    #[test]
    fn sides_have_the_shape_and_the_pixels() {
        for (shape, megapixels, multiple, expected) in [
            ((1.0, 1.0), 1.0, 8, [1024, 1024]),
            ((16.0, 9.0), 0.4, 32, [864, 480]),
            ((2.0, 3.0), 2.0, 8, [1184, 1776]),
            ((21.0, 9.0), 1.0, 16, [1568, 672]),
            ((9.0, 16.0), 0.9, 128, [768, 1280]),
            ((4.0, 3.0), 0.1, 8, [376, 280]),
            ((1.0, 1.0), 16.0, 12, [4092, 4092]),
        ] {
            assert_eq!(sides(shape, megapixels, multiple), expected, "{shape:?} {megapixels} {multiple}");
        }
    }
}
