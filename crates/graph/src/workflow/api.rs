//! The API format: a map from node ids to `{"class_type", "inputs", "_meta"}`.

use super::{ApiGraph, ApiNode, MAX_NODES, WorkflowError};
use crate::NodeId;
use indexmap::IndexMap;
use serde_json::Value;

pub(super) fn read(json: &Value) -> Result<ApiGraph, WorkflowError> {
    let Value::Object(entries) = json else {
        return Err(WorkflowError::NotAWorkflow { found: kind(json) });
    };
    if entries.len() > MAX_NODES {
        return Err(WorkflowError::TooManyNodes);
    }
    let nodes = entries.iter().map(|(id, node)| Ok((NodeId(id.clone()), read_node(id, node)?)));
    Ok(ApiGraph { nodes: nodes.collect::<Result<_, _>>()? })
}

/// Reads one node. What is not an object has no class, which validation reports.
fn read_node(id: &str, json: &Value) -> Result<ApiNode, WorkflowError> {
    let class_type = json.get("class_type").and_then(Value::as_str).map(str::to_owned);
    let inputs = match json.get("inputs") {
        None | Some(Value::Null) => IndexMap::new(),
        Some(Value::Object(inputs)) => inputs.iter().map(|(name, v)| (name.clone(), v.clone())).collect(),
        Some(_) => {
            return Err(WorkflowError::BadNode {
                node: id.into(),
                problem: "has `inputs` that are no object",
            });
        }
    };
    let title = json.get("_meta").and_then(|meta| meta.get("title")).and_then(Value::as_str);
    Ok(ApiNode { class_type, inputs, title: title.map(str::to_owned) })
}

fn kind(json: &Value) -> &'static str {
    match json {
        Value::Null => "null",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
