//! Category `utils/primitive`: constants as nodes.

use comfy_graph::spec::Widget;
use comfy_graph::{InputSpec, Literal, NodeSpec};
use comfy_stage::{Ctx, Data, FnNode, Inputs, NodeError, Outputs};

use crate::state::ImageState;

pub(super) const NODES: &[super::ImageNode] = &[
    &FnNode { spec: string_spec, run: string },
    &FnNode { spec: multiline_spec, run: string },
    &FnNode { spec: int_spec, run: int },
    &FnNode { spec: float_spec, run: float },
    &FnNode { spec: boolean_spec, run: boolean },
];

const CATEGORY: &str = "utils/primitive";

/// A text area without `{a|b}` choices.
pub(super) fn text_area(name: &str) -> InputSpec {
    let mut input = InputSpec::text(name, "");
    if let Some(Widget::Text { multiline, .. }) = &mut input.widget {
        *multiline = true;
    }
    input
}

pub(super) fn one(literal: Literal) -> Result<Outputs, NodeError> {
    Ok(Outputs::one(Data::Literal(literal)))
}

fn string_spec() -> NodeSpec {
    NodeSpec::new("PrimitiveString", CATEGORY, vec![InputSpec::text("value", "")], &["STRING"])
        .titled("String")
        .about("A line of text.")
}

fn multiline_spec() -> NodeSpec {
    NodeSpec::new("PrimitiveStringMultiline", CATEGORY, vec![text_area("value")], &["STRING"])
        .titled("String (Multiline)")
        .about("A text of several lines.")
}

fn string(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    one(inputs.text("value")?.into())
}

fn int_spec() -> NodeSpec {
    let limit = i128::from(i64::MAX);
    let mut value = InputSpec::int("value", 0, (-limit, limit), 1);
    if let Some(Widget::Int { control_after_generate, .. }) = &mut value.widget {
        *control_after_generate = true;
    }
    NodeSpec::new("PrimitiveInt", CATEGORY, vec![value], &["INT"]).titled("Int").about("A whole number.")
}

fn int(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    one(Literal::Int(inputs.int("value")?))
}

fn float_spec() -> NodeSpec {
    let limit = i64::MAX as f64;
    let value = InputSpec::float("value", 0.0, (-limit, limit), 0.1, None);
    NodeSpec::new("PrimitiveFloat", CATEGORY, vec![value], &["FLOAT"]).titled("Float").about("A number.")
}

fn float(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    one(Literal::Float(inputs.float("value")?))
}

fn boolean_spec() -> NodeSpec {
    NodeSpec::new("PrimitiveBoolean", CATEGORY, vec![InputSpec::boolean("value", false)], &["BOOLEAN"])
        .titled("Boolean")
        .about("Yes or no.")
}

fn boolean(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    one(Literal::Bool(inputs.boolean("value")?))
}
