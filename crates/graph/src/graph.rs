//! The validated graph: what the planner and the job machine work on.

use crate::{CatalogNode, InputSpec, Literal, Value};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The id of a node within its workflow, as ComfyUI writes it (`"3"`, `"57:8"` inside a subgraph).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub String);

impl NodeId {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of a node that this node put in its own place while it ran.
    pub fn inner(&self, name: &str) -> Self {
        Self(format!("{self}{INNER}{name}"))
    }

    /// The node of the workflow that a person sees: the node itself, or the one in whose place it stands.
    pub fn shown(&self) -> &str {
        shown_node(&self.0)
    }
}

/// The node of the workflow that stands for a node id: see [`NodeId::shown`].
pub fn shown_node(id: &str) -> &str {
    id.split_once(INNER).map_or(id, |(outer, _)| outer)
}

/// The node that put this one in its place, if one did.
pub fn parent_node(id: &str) -> Option<&str> {
    id.rsplit_once(INNER).map(|(parent, _)| parent)
}

/// Parts the ids of an expanded node and of a node that stands in its place.
const INNER: char = '~';

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
    /// What a node that expanded handed on to a node in its place.
    Value(Value),
}

impl Input {
    /// The link, if it is one.
    pub fn link(&self) -> Option<&Link> {
        match self {
            Input::Link(link) => Some(link),
            Input::Literal(_) | Input::Value(_) => None,
        }
    }
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
    /// Linked inputs that the node has not asked for: their sources run only when it does.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub lazy: BTreeSet<String>,
    /// Whether the node may put other nodes in its place when it runs.
    #[serde(default)]
    pub expands: bool,
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
    /// Takes a node whose inputs have been checked; `live` are the inputs that its class has with these choices.
    pub(crate) fn new(
        class: &CatalogNode,
        live: &[InputSpec],
        inputs: IndexMap<String, Input>,
        output_types: Vec<String>,
        fingerprint: Option<BTreeMap<String, String>>,
    ) -> Self {
        let is_lazy = |name: &str| live.iter().any(|input| input.lazy && input.name == name);
        let linked = inputs.iter().filter(|(_, input)| input.link().is_some()).map(|(name, _)| name);
        Self {
            lazy: linked.filter(|name| is_lazy(name)).cloned().collect(),
            expands: class.spec.expands,
            class: class.spec.class.clone(),
            stage: class.stage.clone(),
            output_node: class.spec.output_node,
            inputs,
            output_types,
            fingerprint,
        }
    }

    /// The links that fill this node's inputs, asked for or not.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.inputs.values().filter_map(Input::link)
    }

    /// The links without which the node cannot be run.
    pub fn needed_links(&self) -> impl Iterator<Item = &Link> {
        let is_needed = |(name, _): &(&String, &Input)| !self.lazy.contains(*name);
        self.inputs.iter().filter(is_needed).filter_map(|(_, input)| input.link())
    }

    /// Whether running the node may change what else has to run.
    pub fn is_undecided(&self) -> bool {
        self.expands || !self.lazy.is_empty()
    }
}
