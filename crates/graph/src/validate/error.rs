//! What validation says, in the JSON shapes of ComfyUI's `POST /prompt`.

use crate::{NodeId, ValidGraph};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The outcome of validating a graph.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Validation {
    /// What can run: the nodes that valid outputs need. `None` exactly when `error` is there.
    pub graph: Option<ValidGraph>,
    /// Why nothing can run.
    pub error: Option<PromptError>,
    /// What is wrong with which node. Not empty with a `graph` when some outputs were dropped.
    pub node_errors: IndexMap<NodeId, NodeErrors>,
}

/// A reason for refusing the whole prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PromptError {
    #[serde(rename = "type")]
    pub kind: String,
    pub message: String,
    pub details: String,
    pub extra_info: Map<String, Value>,
}

/// Everything that is wrong with one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeErrors {
    pub errors: Vec<NodeError>,
    /// Output nodes that cannot run because of this node; at most [`MAX_DEPENDENT_OUTPUTS`].
    pub dependent_outputs: Vec<NodeId>,
    pub class_type: String,
}

/// One thing that is wrong with a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeError {
    #[serde(rename = "type")]
    pub kind: String,
    pub message: String,
    pub details: String,
    pub extra_info: Map<String, Value>,
}

/// How many dependent outputs are listed per node, so that a hostile graph cannot ask for a quadratic answer.
pub const MAX_DEPENDENT_OUTPUTS: usize = 100;

impl PromptError {
    pub fn new(kind: &str, message: impl Into<String>, details: impl Into<String>) -> Self {
        Self { kind: kind.into(), message: message.into(), details: details.into(), extra_info: Map::new() }
    }
}

impl NodeError {
    pub(super) fn new(kind: &str, message: impl Into<String>, details: impl Into<String>) -> Self {
        Self { kind: kind.into(), message: message.into(), details: details.into(), extra_info: Map::new() }
    }

    /// Adds a field to `extra_info`.
    pub(super) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.extra_info.insert(key.into(), value.into());
        self
    }
}
