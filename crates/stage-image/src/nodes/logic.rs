//! Category `logic`: choosing between values.

use comfy_graph::{InputSpec, NodeSpec};
use comfy_stage::{Ctx, Inputs, LazyNode, NodeError, Outputs};

use crate::state::ImageState;

pub(super) const NODES: &[super::ImageNode] =
    &[&LazyNode { spec: switch_spec, wants: switch_wants, run: switch }];

fn switch_spec() -> NodeSpec {
    let inputs = vec![
        InputSpec::boolean("switch", false),
        InputSpec::socket("on_false", "*").optional().lazy(),
        InputSpec::socket("on_true", "*").optional().lazy(),
    ];
    let spec = NodeSpec::new("ComfySwitchNode", "logic", inputs, &["*"]).naming(&["output"]);
    NodeSpec { experimental: true, ..spec }
        .titled("Switch")
        .about("Hands on one of two values. The other one is not made.")
}

fn chosen(inputs: &Inputs) -> Result<&'static str, NodeError> {
    Ok(if inputs.boolean("switch")? { "on_true" } else { "on_false" })
}

fn switch_wants(inputs: &Inputs) -> Result<Vec<&'static str>, NodeError> {
    Ok(vec![chosen(inputs)?])
}

fn switch(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let name = chosen(inputs)?;
    let chosen =
        inputs.get(name).ok_or_else(|| NodeError::invalid(format!("nothing is linked to `{name}`")))?;
    Ok(Outputs::one(chosen.clone()))
}
