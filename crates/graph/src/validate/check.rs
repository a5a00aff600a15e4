//! The checks of one node: which inputs it lacks, where its links lead, what its constants are worth.

use super::Known;
use super::error::NodeError;
use super::files::listed_name;
use super::literal::{bad_link, convert, shown_config};
use super::python::{python_repr, python_type};
use crate::workflow::ApiGraph;
use crate::{CatalogNode, ComboOption, Digest, Input, InputGroup, InputSpec, Link, Literal, NodeId, Widget};
use indexmap::IndexMap;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What one node turned out to be.
pub(super) struct CheckedNode {
    pub inputs: IndexMap<String, Input>,
    /// Sound links, in the order in which the workflow gives them.
    pub edges: Vec<Edge>,
    pub errors: Vec<NodeError>,
    pub fingerprint: Option<BTreeMap<String, String>>,
}

/// A sound link: the node it comes from and the input it fills.
pub(super) struct Edge {
    pub source: usize,
    /// Index into the inputs that the node has.
    pub input: usize,
}

/// The input through which a node was reached: ComfyUI names it when the node itself cannot be looked at.
#[derive(Clone, Copy)]
pub(super) struct Consumer {
    pub node: usize,
    /// Index into the inputs that the consumer has.
    pub input: usize,
}

pub(super) fn check_node(
    graph: &ApiGraph,
    nodes: &[Known<'_>],
    index: usize,
    consumer: Option<Consumer>,
) -> CheckedNode {
    let Known { api, class, inputs } = &nodes[index];
    let mut node =
        CheckedNode { inputs: IndexMap::new(), edges: Vec::new(), errors: Vec::new(), fingerprint: None };
    let mut unusable = false;
    let visible = |(_, input): &(usize, &InputSpec)| input.group != InputGroup::Hidden;
    for (place, input) in inputs.iter().enumerate().filter(visible) {
        let Some(value) = api.inputs.get(&input.name) else {
            if input.group == InputGroup::Required {
                node.errors.push(missing(input));
            }
            continue;
        };
        let outcome = match value {
            Value::Array(pair) => check_link(graph, nodes, input, pair).map(|(source, link)| {
                node.edges.push(Edge { source, input: place });
                Input::Link(link)
            }),
            constant => convert(input, constant).map(Input::Literal).map_err(Problem::Input),
        };
        match outcome {
            Ok(found) => {
                node.inputs.insert(input.name.clone(), found);
            }
            Err(Problem::Input(error)) => node.errors.push(*error),
            // ComfyUI stops at the first of these; more would say nothing new about the node.
            Err(Problem::Broken { .. }) if unusable => {}
            Err(Problem::Broken { exception, text }) => {
                unusable = true;
                node.errors.push(broken(nodes, consumer, exception, &text));
            }
        }
    }
    node.edges.sort_by_key(|edge| api.inputs.get_index_of(&inputs[edge.input].name));
    node.fingerprint = fingerprint(class, &node.inputs, graph.nodes.get_index(index).map(|(id, _)| id));
    node
}

/// Why a link cannot be followed.
enum Problem {
    Input(Box<NodeError>),
    /// What makes ComfyUI itself stumble, with the Python exception that it reports.
    Broken {
        exception: &'static str,
        text: String,
    },
}

fn check_link(
    graph: &ApiGraph,
    nodes: &[Known<'_>],
    input: &InputSpec,
    pair: &[Value],
) -> Result<(usize, Link), Problem> {
    let [source, slot] = pair else { return Err(Problem::Input(bad_link(input, &json!(pair)))) };
    let broken = |exception, text| Problem::Broken { exception, text };
    let id = source.as_str().map(NodeId::from);
    let index = id.as_ref().and_then(|id| graph.nodes.get_index_of(id));
    let (Some(id), Some(index)) = (id, index) else { return Err(broken("KeyError", python_repr(source))) };
    let outputs = &nodes[index].class.spec.outputs;
    if !slot.is_i64() && !slot.is_u64() {
        let text = format!("tuple indices must be integers or slices, not {}", python_type(slot));
        return Err(broken("TypeError", text));
    }
    let slot_number = slot.as_u64().and_then(|slot| u32::try_from(slot).ok());
    let found = slot_number.and_then(|slot| outputs.get(slot as usize).map(|output| (slot, output)));
    let Some((slot_number, output)) = found else {
        return Err(broken("IndexError", "tuple index out of range".into()));
    };
    let received = match output.matches {
        Some(_) => output_socket(graph, nodes, (index, slot_number as usize)),
        None => &output.socket,
    };
    // What a link brings is not known yet, and without a choice neither are the inputs that it brings.
    if !is_compatible(received, &input.socket) || !input.dynamic_options().is_empty() {
        return Err(Problem::Input(Box::new(type_mismatch(input, received, json!(pair)))));
    }
    Ok((index, Link { node: id, slot: slot_number }))
}

/// How many nodes are followed to find the type of an output; beyond, any type that the output allows is let through.
const MAX_NODES_FOLLOWED: usize = 100;

/// The type of an output. One that takes on the type of an input has that of what is linked there.
pub(super) fn output_socket<'a>(
    graph: &ApiGraph,
    nodes: &'a [Known<'_>],
    (mut index, mut slot): (usize, usize),
) -> &'a str {
    let mut socket = "*";
    for _ in 0..MAX_NODES_FOLLOWED {
        let Known { api, class, inputs } = &nodes[index];
        let Some(output) = class.spec.outputs.get(slot) else { return socket };
        socket = &output.socket;
        let Some(name) = &output.matches else { return socket };
        let linked = inputs.iter().filter(|input| input.matches.as_ref() == Some(name)).find_map(|input| {
            let pair = api.inputs.get(&input.name)?.as_array()?;
            let source = graph.nodes.get_index_of(&NodeId::from(pair.first()?.as_str()?))?;
            Some((source, usize::try_from(pair.get(1)?.as_u64()?).ok()?))
        });
        let Some(source) = linked else { return socket };
        (index, slot) = source;
    }
    socket
}

/// Whether an output may be linked to an input: one of the types is `*`, or they have a type in common.
pub(crate) fn is_compatible(output: &str, input: &str) -> bool {
    output == "*"
        || input == "*"
        || output.split(',').any(|from| input.split(',').any(|to| from.trim() == to.trim()))
}

fn missing(input: &InputSpec) -> NodeError {
    NodeError::new("required_input_missing", "Required input is missing", &input.name)
        .with("input_name", input.name.as_str())
}

fn type_mismatch(input: &InputSpec, received: &str, link: Value) -> NodeError {
    let details = format!("{}, received_type({received}) mismatch input_type({})", input.name, input.socket);
    NodeError::new("return_type_mismatch", "Return type mismatch between linked nodes", details)
        .with("input_name", input.name.as_str())
        .with("input_config", shown_config(input))
        .with("received_type", received)
        .with("linked_node", link)
}

fn broken(nodes: &[Known<'_>], consumer: Option<Consumer>, exception: &str, text: &str) -> NodeError {
    let Some(Consumer { node, input }) = consumer else {
        return NodeError::new("exception_during_validation", "Exception when validating node", text)
            .with("exception_type", exception)
            .with("traceback", json!([]));
    };
    let Known { api, inputs, .. } = &nodes[node];
    let input = &inputs[input];
    let message = "Exception when validating inner node";
    NodeError::new("exception_during_inner_validation", message, text)
        .with("input_name", input.name.as_str())
        .with("input_config", shown_config(input))
        .with("exception_message", text)
        .with("exception_type", exception)
        .with("traceback", json!([]))
        .with("linked_node", api.inputs.get(&input.name).cloned().unwrap_or_default())
}

/// How many nodes of a cycle its error names.
const CYCLE_NODES_NAMED: usize = 20;

/// Says that a node depends on itself, and through which nodes.
pub(super) fn cycle_error<'a>(id: &str, members: impl ExactSizeIterator<Item = &'a str>) -> NodeError {
    let count = members.len();
    let mut names: Vec<&str> = members.take(CYCLE_NODES_NAMED).collect();
    if count > CYCLE_NODES_NAMED {
        names.push("...");
    }
    let details = format!("node {id} depends on itself; the cycle is made of nodes {}", names.join(", "));
    NodeError::new("exception_during_validation", "Exception when validating node", details)
        .with("exception_type", "graph.DependencyCycleError")
        .with("traceback", json!([]))
}

/// Everything besides inputs that decides the results of a node, or `None` when that cannot be known.
pub(crate) fn fingerprint(
    class: &CatalogNode,
    inputs: &IndexMap<String, Input>,
    id: Option<&NodeId>,
) -> Option<BTreeMap<String, String>> {
    let spec = &class.spec;
    if spec.not_cacheable {
        return None;
    }
    let mut parts = BTreeMap::from([
        ("version".to_owned(), spec.version.to_string()),
        ("stage".to_owned(), class.stage_fingerprint.clone()),
    ]);
    let chosen = |name: &str| match inputs.get(name) {
        Some(Input::Literal(Literal::Text(key))) => Some(key.as_str()),
        _ => None,
    };
    for input in spec.live_inputs(chosen).iter() {
        if input.group == InputGroup::Hidden && input.socket == "UNIQUE_ID" {
            parts.insert("node_id".into(), id?.to_string());
        }
        if let Some(Widget::Text { mentions: Some(mentions), .. }) = &input.widget {
            let files: Vec<&ComboOption> = match inputs.get(&input.name) {
                None => Vec::new(),
                Some(Input::Literal(Literal::Text(text))) => mentions.in_text(text).collect(),
                // The text is not known yet, so any of them may be named.
                Some(_) => mentions.files.iter().collect(),
            };
            if !files.is_empty() {
                parts.insert(format!("files {}", input.name), all_of(&files)?);
            }
        }
        let Some(Widget::Combo { options, folder: Some(_), .. }) = &input.widget else { continue };
        match inputs.get(&input.name) {
            None => {}
            Some(Input::Literal(Literal::Text(chosen))) => {
                // A file that is not listed may change unseen, so what comes of it is not reused.
                let is_chosen = |name: &str| name == chosen || name == listed_name(chosen);
                let option = options.iter().find(|option| is_chosen(&option.value))?;
                parts.insert(format!("file {}", input.name), option.fingerprint.clone()?);
            }
            Some(_) => return None,
        }
    }
    Some(parts)
}

/// One fingerprint for several files, or `None` when one of them has none.
fn all_of(files: &[&ComboOption]) -> Option<String> {
    let mut text = String::new();
    for file in files {
        text.push_str(&format!("{}\0{}\0", file.value, file.fingerprint.as_ref()?));
    }
    Some(Digest::of(text.as_bytes()).to_string())
}
