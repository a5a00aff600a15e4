//! Category `logic`: choosing between values.

use comfy_graph::{InputSpec, NodeSpec};
use comfy_stage::{Ctx, FnNode, Inputs, NodeError, Outputs};

use crate::state::ImageState;

pub(super) const NODES: &[super::ImageNode] = &[&FnNode { spec: switch_spec, run: switch }];

fn switch_spec() -> NodeSpec {
    let inputs = vec![
        InputSpec::boolean("switch", false),
        InputSpec::socket("on_false", "*").optional(),
        InputSpec::socket("on_true", "*").optional(),
    ];
    let spec = NodeSpec::new("ComfySwitchNode", "logic", inputs, &["*"]).naming(&["output"]);
    NodeSpec { experimental: true, ..spec }
        .titled("Switch")
        .about("Hands on one of two values. Both are made, whichever is used.")
}

fn switch(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let name = if inputs.boolean("switch")? { "on_true" } else { "on_false" };
    let chosen =
        inputs.get(name).ok_or_else(|| NodeError::invalid(format!("nothing is linked to `{name}`")))?;
    Ok(Outputs::one(chosen.clone()))
}
