//! Nodes that take the place of a node that ran: checking them and putting them into the graph.

use crate::validate::{fingerprint, is_compatible};
use crate::{Catalog, Input, InputGroup, Link, Literal, NodeId, ValidGraph, ValidNode, Value};
use indexmap::IndexMap;
use std::collections::{BTreeSet, HashMap};

/// How many nodes a graph may have, and grow to: a node that expands for ever is stopped.
pub const MAX_NODES: usize = 10_000;

/// What a stage answers for a node that expands. Ids are those that the node chose.
#[derive(Debug, Clone, PartialEq)]
pub struct Expansion {
    /// A node comes after every node that it links to.
    pub nodes: Vec<ExpandedNode>,
    /// One per output slot of the node that expands.
    pub outputs: Vec<ExpandedInput>,
    /// What the node itself shows.
    pub ui_json: Option<String>,
}

/// A node of an expansion.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpandedNode {
    pub id: String,
    pub class: String,
    pub inputs: IndexMap<String, ExpandedInput>,
}

/// A value, or an output of another node of the expansion.
#[derive(Debug, Clone, PartialEq)]
pub enum ExpandedInput {
    Value(Value),
    Link { node: String, slot: u32 },
}

/// What an expanded node waits for.
#[derive(Debug, Clone, PartialEq)]
pub struct Replacement {
    /// The nodes that must be done before the expanded node is.
    pub awaits: BTreeSet<NodeId>,
    pub ui_json: Option<String>,
}

/// Why an expansion cannot be used. The stage that made it is to blame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpansionError {
    #[error("its graph has two nodes `{0}`")]
    Duplicate(String),
    #[error("its graph has a node of class `{0}`, which no stage offers")]
    UnknownClass(String),
    #[error("node `{node}` of its graph has no input `{input}`")]
    UnknownInput { node: String, input: String },
    #[error("node `{node}` of its graph lacks input `{input}`")]
    MissingInput { node: String, input: String },
    #[error("`{place}` of its graph links to `{target}`, which does not come before it or lacks that output")]
    BadLink { place: String, target: String },
    #[error("`{place}` of its graph takes {to} and is linked to {from}")]
    WrongType { place: String, from: String, to: String },
    #[error("it gives {got} outputs, its spec says {want}")]
    Outputs { got: usize, want: usize },
    #[error("the graph would grow to more than {MAX_NODES} nodes")]
    TooLarge,
}

/// Puts the nodes of an expansion into the place of `parent`: whatever took an output of `parent` takes what the
/// expansion gives for it, and output nodes among them are outputs of the graph.
///
/// # Errors
/// When the expansion is not a graph that can run; then `graph` is unchanged.
///
/// # Source
/// The place in the run and the meaning of `outputs` are those of ComfyUI's `{"expand": graph, "result": outputs}`.
pub fn expand(
    graph: &mut ValidGraph,
    parent: &NodeId,
    expansion: Expansion,
    catalog: &Catalog,
) -> Result<Replacement, ExpansionError> {
    let want = graph.nodes.get(parent).map_or(0, |node| node.output_types.len());
    if expansion.outputs.len() != want {
        return Err(ExpansionError::Outputs { got: expansion.outputs.len(), want });
    }
    if graph.nodes.len() + expansion.nodes.len() > MAX_NODES {
        return Err(ExpansionError::TooLarge);
    }
    let mut nodes: IndexMap<NodeId, ValidNode> = IndexMap::with_capacity(expansion.nodes.len());
    for node in expansion.nodes {
        let id = parent.inner(&node.id);
        if nodes.contains_key(&id) || graph.nodes.contains_key(&id) {
            return Err(ExpansionError::Duplicate(node.id));
        }
        let valid = valid_node(parent, &id, node, &nodes, catalog)?;
        nodes.insert(id, valid);
    }
    let outputs = expansion
        .outputs
        .into_iter()
        .enumerate()
        .map(|(slot, output)| resolve(parent, output, &nodes, &format!("output {slot}"), "*"))
        .collect::<Result<Vec<Input>, _>>()?;
    let given = outputs.iter().filter_map(Input::link).map(|link| link.node.clone());
    let inner_outputs = nodes.iter().filter(|(_, node)| node.output_node).map(|(id, _)| id.clone());
    let awaits = given.chain(inner_outputs.clone()).collect();
    // Nothing takes anything from it any more, so it does not run again.
    graph.outputs.retain(|output| output != parent);
    graph.outputs.extend(inner_outputs);
    replace(graph, parent, nodes, &outputs);
    Ok(Replacement { awaits, ui_json: expansion.ui_json })
}

fn valid_node(
    parent: &NodeId,
    id: &NodeId,
    node: ExpandedNode,
    earlier: &IndexMap<NodeId, ValidNode>,
    catalog: &Catalog,
) -> Result<ValidNode, ExpansionError> {
    let Some(class) = catalog.get(&node.class) else { return Err(ExpansionError::UnknownClass(node.class)) };
    let spec = &class.spec;
    let mut given = node.inputs;
    let mut inputs = IndexMap::with_capacity(given.len());
    let choices: HashMap<String, String> = given.iter().filter_map(chosen_text).collect();
    let live = spec.live_inputs(|name| choices.get(name).map(String::as_str));
    for input in live.iter().filter(|input| input.group != InputGroup::Hidden) {
        match given.shift_remove(&input.name) {
            Some(value) => {
                let place = format!("{}.{}", node.id, input.name);
                inputs.insert(input.name.clone(), resolve(parent, value, earlier, &place, &input.socket)?);
            }
            None if input.group == InputGroup::Required => {
                return Err(ExpansionError::MissingInput { node: node.id, input: input.name.clone() });
            }
            None => {}
        }
    }
    if let Some((input, _)) = given.pop() {
        return Err(ExpansionError::UnknownInput { node: node.id, input });
    }
    let output_types = spec.outputs.iter().map(|output| output.socket.clone()).collect();
    let fingerprint = fingerprint(class, &inputs, Some(id));
    Ok(ValidNode::new(class, &live, inputs, output_types, fingerprint))
}

/// The name and the text of an input that is given as text, as choices are.
fn chosen_text((name, input): (&String, &ExpandedInput)) -> Option<(String, String)> {
    match input {
        ExpandedInput::Value(Value::Literal(Literal::Text(text))) => Some((name.clone(), text.clone())),
        _ => None,
    }
}

fn resolve(
    parent: &NodeId,
    input: ExpandedInput,
    earlier: &IndexMap<NodeId, ValidNode>,
    place: &str,
    socket: &str,
) -> Result<Input, ExpansionError> {
    match input {
        ExpandedInput::Value(Value::Literal(literal)) => Ok(Input::Literal(as_typed(literal, socket))),
        ExpandedInput::Value(value) => Ok(Input::Value(value)),
        ExpandedInput::Link { node, slot } => {
            let id = parent.inner(&node);
            let from = earlier.get(&id).and_then(|node| node.output_types.get(slot as usize));
            let Some(from) = from else {
                return Err(ExpansionError::BadLink {
                    place: place.into(),
                    target: format!("{node}.{slot}"),
                });
            };
            if !is_compatible(from, socket) {
                let (from, to) = (from.clone(), socket.to_owned());
                return Err(ExpansionError::WrongType { place: place.into(), from, to });
            }
            Ok(Input::Link(Link { node: id, slot }))
        }
    }
}

/// A whole number for a FLOAT is that number, as in a workflow.
fn as_typed(literal: Literal, socket: &str) -> Literal {
    match literal {
        Literal::Int(value) if socket == "FLOAT" => Literal::Float(value as f64),
        other => other,
    }
}

fn replace(graph: &mut ValidGraph, parent: &NodeId, nodes: IndexMap<NodeId, ValidNode>, outputs: &[Input]) {
    let old = std::mem::take(&mut graph.nodes);
    for (id, mut node) in old {
        for input in node.inputs.values_mut() {
            if let Some(Link { node: source, slot }) = input.link()
                && source == parent
            {
                // Slots were checked when the link was.
                *input = outputs[*slot as usize].clone();
            }
        }
        let is_linked = |name: &String| node.inputs.get(name).and_then(Input::link).is_some();
        let lazy = node.lazy.iter().filter(|name| is_linked(name)).cloned().collect();
        node.lazy = lazy;
        let is_parent = id == *parent;
        graph.nodes.insert(id, node);
        if is_parent {
            graph.nodes.extend(nodes.clone());
        }
    }
}
