//! Category `image/preprocessors`: finding edges.

use comfy_graph::{InputSpec, NodeSpec};
use comfy_imaging::{Channels, Pixels, ops};
use comfy_stage::{Ctx, FnNode, Inputs, NodeError, Outputs};

use crate::pictures::Pictures;
use crate::state::ImageState;

pub(super) const NODES: &[super::ImageNode] = &[&FnNode { spec: canny_spec, run: canny }];

fn canny_spec() -> NodeSpec {
    let threshold = |name, default| InputSpec::float(name, default, (0.01, 0.99), 0.01, None);
    let inputs = vec![
        InputSpec::socket("image", "IMAGE"),
        threshold("low_threshold", 0.4).tooltip("Edges weaker than this are never shown."),
        threshold("high_threshold", 0.8)
            .tooltip("Edges stronger than this are always shown, with what touches them."),
    ];
    NodeSpec::new("Canny", "image/preprocessors", inputs, &["IMAGE"])
        .about("Draws the edges of a picture, white on black.")
}

fn canny(inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let (low, high) = (inputs.float("low_threshold")?, inputs.float("high_threshold")?);
    if low > high {
        return Err(NodeError::invalid(format!("`low_threshold` {low} is above `high_threshold` {high}")));
    }
    let edges = |picture: comfy_imaging::PixelView<'_, f32>| {
        let plane = ops::canny(picture, low as f32, high as f32)?;
        let samples = plane.into_iter().flat_map(|sample| [sample; 3]).collect();
        Pixels::new(picture.width(), picture.height(), Channels::Rgb, samples)
    };
    Pictures::image(inputs, "image")?.each(ctx, edges)?.one_image()
}
