//! `PreviewAny`: shows whatever comes along a link as text.

use comfy_graph::{InputSpec, Literal, NodeSpec};
use comfy_stage::{Ctx, Data, FnNode, Inputs, NodeError, Outputs};
use serde_json::{Value, json};

use crate::state::ImageState;
use comfy_artifacts::python_json::{dumps, repr_float};

pub(super) const NODES: &[super::ImageNode] = &[&FnNode { spec: preview_any_spec, run: preview_any }];

fn preview_any_spec() -> NodeSpec {
    NodeSpec::new("PreviewAny", "utils", vec![InputSpec::socket("source", "*")], &[])
        .titled("Preview Any")
        .about("Shows a value as text: texts, numbers, and the shapes of pictures, masks and latents.")
        .ending()
}

fn preview_any(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let source = inputs.get("source").ok_or_else(|| NodeError::invalid("input `source` is missing"))?;
    Ok(Outputs::ui(json!({ "text": [shown(source)] })))
}

/// Constants as Python prints them. Tensors are named with their shape: all their numbers would help nobody.
fn shown(data: &Data) -> String {
    match data {
        Data::Literal(Literal::Text(text)) => text.clone(),
        Data::Literal(Literal::Bool(true)) => "True".into(),
        Data::Literal(Literal::Bool(false)) => "False".into(),
        Data::Literal(Literal::Int(int)) => int.to_string(),
        Data::Literal(Literal::Float(float)) => repr_float(*float),
        Data::Image(tensor) | Data::Mask(tensor) => format!("{} {:?}", data.kind(), tensor.shape()),
        Data::Latent(latent) => {
            let mask = latent.noise_mask.as_ref().map(|mask| format!(", noise mask {:?}", mask.shape()));
            format!("LATENT {:?}{}", latent.samples.shape(), mask.unwrap_or_default())
        }
        Data::Conditioning(entries) => {
            let each = |entry: &comfy_stage::ConditioningEntry| {
                let extras = dumps(&Value::Object(entry.extras.clone()));
                format!("embedding {:?} {extras}", entry.embedding.shape())
            };
            format!("CONDITIONING [{}]", entries.iter().map(each).collect::<Vec<_>>().join(", "))
        }
        Data::Guider(guider) => dumps(&guider.recipe),
        Data::ClipVisionOutput(_) => data.kind().into(),
        Data::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Data::Blocked(message) => message.clone().unwrap_or_else(|| "None".into()),
        Data::Recipe(recipe) => dumps(recipe),
    }
}
