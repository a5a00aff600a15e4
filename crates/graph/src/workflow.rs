//! Reads workflows: ComfyUI's API format, and the UI format that its page saves.

mod api;
mod error;
mod ui;

pub use error::WorkflowError;

use crate::{Catalog, NodeId};
use indexmap::IndexMap;
use serde_json::{Map, Value, json};

/// A workflow in the shape of the API format, not yet checked against any catalog.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ApiGraph {
    /// In the order in which the workflow gives them.
    pub nodes: IndexMap<NodeId, ApiNode>,
}

/// A node as a workflow writes it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ApiNode {
    /// `None` when the workflow names no class; validation reports it.
    pub class_type: Option<String>,
    /// A constant, or a link as `[node id, slot]`. Constants that are lists are wrapped as `{"__value__": [...]}`.
    pub inputs: IndexMap<String, Value>,
    pub title: Option<String>,
}

impl ApiGraph {
    /// Writes the graph in the API format, in order.
    pub fn to_json(&self) -> Value {
        let node = |node: &ApiNode| {
            let mut json = Map::new();
            let inputs: Map<String, Value> =
                node.inputs.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
            json.insert("inputs".into(), Value::Object(inputs));
            if let Some(class) = &node.class_type {
                json.insert("class_type".into(), json!(class));
            }
            if let Some(title) = &node.title {
                json.insert("_meta".into(), json!({"title": title}));
            }
            Value::Object(json)
        };
        let nodes = self.nodes.iter().map(|(id, api)| (id.to_string(), node(api)));
        Value::Object(nodes.collect())
    }
}

/// Most nodes that a workflow may have, after its subgraphs have been laid out.
pub const MAX_NODES: usize = 100_000;

/// Most levels of subgraphs within subgraphs.
pub const MAX_SUBGRAPH_DEPTH: usize = 64;

/// Most bytes of names and constants that a UI-format workflow may come to, because subgraphs and primitive nodes
/// repeat theirs.
pub const MAX_VALUE_BYTES: usize = 64 << 20;

/// Reads a workflow in either format, told apart by content, bare or within `{"prompt": …}` or `{"workflow": …}`.
///
/// # Errors
/// What is not a workflow, is too large, or cannot be laid out as a graph: a node without an id, Reroute nodes in a
/// circle, a subgraph that contains itself. Unknown classes and bad inputs are left for validation.
pub fn read(json: &Value, catalog: &Catalog) -> Result<ApiGraph, WorkflowError> {
    let json = without_envelope(json);
    if is_ui_format(json) { ui::read(json, catalog) } else { api::read(json) }
}

/// Whether the JSON is a workflow as the page saves it: with a `nodes` list.
pub fn is_ui_format(json: &Value) -> bool {
    json.get("nodes").is_some_and(Value::is_array)
}

fn without_envelope(json: &Value) -> &Value {
    if is_ui_format(json) {
        return json;
    }
    let Some(inner) = json.get("prompt").or_else(|| json.get("workflow")) else { return json };
    // A node may be called `prompt`, and then it has a class.
    if inner.get("class_type").is_some() { json } else { inner }
}
