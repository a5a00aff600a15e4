//! `ImageCompare`: two pictures under a slider.

use comfy_artifacts::Folder;
use comfy_graph::{InputSpec, NodeSpec};
use comfy_stage::{Ctx, FnNode, Inputs, NodeError, Outputs};
use serde_json::{Value, json};

use crate::pictures::Pictures;
use crate::state::ImageState;

use super::save::{Target, save, with_workflow};

pub(super) const NODES: &[super::ImageNode] = &[&FnNode { spec: compare_spec, run: compare }];

fn compare_spec() -> NodeSpec {
    // What the page keeps here is its own business.
    let mut view = InputSpec::text("compare_view", "").optional();
    view.socket = "IMAGECOMPARE".into();
    let inputs = with_workflow(vec![
        InputSpec::socket("image_a", "IMAGE").optional(),
        InputSpec::socket("image_b", "IMAGE").optional(),
        view,
    ]);
    let spec = NodeSpec::new("ImageCompare", "image", inputs, &[]);
    NodeSpec { experimental: true, ..spec }
        .titled("Image Compare")
        .about("Shows two pictures one over the other. The files go to the folder for temporary ones.")
        .ending()
}

fn compare(inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let shown = |name: &str, side: &str| -> Result<Value, NodeError> {
        if inputs.get(name).is_none() {
            return Ok(json!([]));
        }
        let prefix = format!("{}_{side}", ctx.state.temp_prefix);
        let target = Target { folder: Folder::Temp, prefix: &prefix, compress_level: 1, part: side };
        let saved = save(&Pictures::image(inputs, name)?, &target, ctx)?;
        Ok(saved.ui.map_or_else(|| json!([]), |mut ui| ui["images"].take()))
    };
    Ok(Outputs::ui(json!({ "a_images": shown("image_a", "a")?, "b_images": shown("image_b", "b")? })))
}
