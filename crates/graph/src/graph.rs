//! The validated graph: what the planner and the job machine work on.

use crate::Literal;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The id of a node within its workflow, as ComfyUI writes it (`"3"`, `"57:8"` inside a subgraph).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub String);

impl NodeId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for NodeId {
    fn from(id: &str) -> Self {
        Self(id.into())
    }
}

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// An output slot of a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Link {
    pub node: NodeId,
    pub slot: u32,
}

/// What fills an input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    Literal(Literal),
    Link(Link),
}

/// A node whose class exists and whose inputs have been checked and converted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValidNode {
    pub class: String,
    /// The stage that runs it.
    pub stage: String,
    /// Given inputs only, in the order of the spec. Hidden inputs and absent optional ones are not here.
    pub inputs: IndexMap<String, Input>,
    /// Socket types of the outputs.
    pub output_types: Vec<String>,
    pub output_node: bool,
    /// What, besides inputs, decides the result: node version, stage fingerprint, fingerprints of chosen files.
    /// `None` when the result must never be reused.
    pub fingerprint: Option<BTreeMap<String, String>>,
}

/// A graph that can run: acyclic, every link resolves, every node is needed by an output node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ValidGraph {
    /// In topological order: a node comes after everything it links to.
    pub nodes: IndexMap<NodeId, ValidNode>,
    /// The output nodes that were asked for and are valid.
    pub outputs: Vec<NodeId>,
}

impl ValidNode {
    /// The links that fill this node's inputs.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.inputs.values().filter_map(|input| match input {
            Input::Link(link) => Some(link),
            Input::Literal(_) => None,
        })
    }
}
