//! Checks a workflow against the catalog and turns what can run into a [`ValidGraph`].
//!
//! Everything that is wrong is reported at once, in ComfyUI's words and JSON shapes. Nothing here recurses: the
//! depth of a workflow is bounded only by its size.

mod check;
mod components;
mod error;
mod files;
mod literal;
mod order;
mod python;

pub(crate) use check::{fingerprint, is_compatible};
pub use error::{MAX_DEPENDENT_OUTPUTS, NodeError, NodeErrors, PromptError, Validation};

use crate::workflow::{ApiGraph, ApiNode};
use crate::{Catalog, CatalogNode, InputSpec, NodeId, ValidGraph, ValidNode};
use check::{CheckedNode, check_node, output_socket};
use components::{Components, components};
use indexmap::IndexMap;
use order::execution_order;
use serde_json::Value;
use std::borrow::Cow;

/// How many unknown classes one answer names.
const MAX_PROBLEMS_NAMED: usize = 50;

/// Checks `graph`, or only what the output nodes `targets` need when there are any.
///
/// An output that depends on a faulty node is dropped; the others still run.
///
/// # Source
/// Error types, messages and `extra_info` match ComfyUI 0.3.64. Different on purpose: no Python tracebacks; a cycle
/// is reported on its nodes; a node without `inputs` lacks its required inputs; an unknown target is an error;
/// constants on sockets and floats that are not finite are refused; `dependent_outputs` are the outputs that really
/// depend on the node.
pub fn validate(graph: &ApiGraph, catalog: &Catalog, targets: &[NodeId]) -> Validation {
    let refused = |error: Box<PromptError>| Validation { error: Some(*error), ..Validation::default() };
    let nodes = match known_nodes(graph, catalog) {
        Ok(nodes) => nodes,
        Err(error) => return refused(error),
    };
    let outputs = match selected_outputs(graph, &nodes, targets) {
        Ok(outputs) => outputs,
        Err(error) => return refused(error),
    };
    let mut checked = check_needed(graph, &nodes, &outputs);
    let components = components(&checked);
    report_cycles(graph, &mut checked, &components);
    let is_valid = validity(&checked, &components);
    let good: Vec<usize> = outputs.iter().copied().filter(|output| is_valid[*output]).collect();
    let bad: Vec<usize> = outputs.iter().copied().filter(|output| !is_valid[*output]).collect();
    let error = good.is_empty().then(|| outputs_failed(&checked, &bad));
    let dependents = dependent_outputs(&checked, &components, &bad);
    let node_errors = node_errors(graph, &nodes, &mut checked, &components, &dependents);
    let graph = error.is_none().then(|| valid_graph(graph, &nodes, checked, &good));
    Validation { graph, error, node_errors }
}

/// A node with the class it names.
struct Known<'a> {
    api: &'a ApiNode,
    class: &'a CatalogNode,
    /// The inputs of the class with those that the node's choices bring.
    inputs: Cow<'a, [InputSpec]>,
}

impl<'a> Known<'a> {
    fn new(api: &'a ApiNode, class: &'a CatalogNode) -> Self {
        let constant = |value: &'a Value| value.get("__value__").unwrap_or(value);
        let inputs = class.spec.live_inputs(|name| api.inputs.get(name).map(constant)?.as_str());
        Self { api, class, inputs }
    }
}

fn known_nodes<'a>(graph: &'a ApiGraph, catalog: &'a Catalog) -> Result<Vec<Known<'a>>, Box<PromptError>> {
    let mut known = Vec::with_capacity(graph.nodes.len());
    let mut problems = Vec::new();
    for (id, api) in &graph.nodes {
        match api.class_type.as_deref() {
            None => problems.push((id, "a node is missing the class_type property".to_owned())),
            Some(name) => match catalog.get(name) {
                Some(class) => known.push(Known::new(api, class)),
                None => problems.push((id, format!("node {name} does not exist"))),
            },
        }
    }
    let Some(((id, problem), others)) = problems.split_first() else { return Ok(known) };
    let mut details = format!("Node ID '#{id}'");
    for (id, problem) in others.iter().take(MAX_PROBLEMS_NAMED) {
        details += &format!("\nNode ID '#{id}': {problem}");
    }
    if let Some(more) = others.len().checked_sub(MAX_PROBLEMS_NAMED).filter(|more| *more > 0) {
        details += &format!("\nand {more} more");
    }
    Err(Box::new(PromptError::new("invalid_prompt", format!("Cannot execute because {problem}."), details)))
}

fn selected_outputs(
    graph: &ApiGraph,
    nodes: &[Known<'_>],
    targets: &[NodeId],
) -> Result<Vec<usize>, Box<PromptError>> {
    let mut wanted = vec![targets.is_empty(); nodes.len()];
    for target in targets {
        let problem = match graph.nodes.get_index_of(target) {
            None => "does not exist",
            Some(index) if !nodes[index].class.spec.output_node => "is not an output node",
            Some(index) => {
                wanted[index] = true;
                continue;
            }
        };
        let message = format!("Cannot execute because target node {target} {problem}.");
        return Err(Box::new(PromptError::new("invalid_prompt", message, format!("Node ID '#{target}'"))));
    }
    let outputs: Vec<usize> =
        (0..nodes.len()).filter(|&index| wanted[index] && nodes[index].class.spec.output_node).collect();
    if outputs.is_empty() {
        return Err(Box::new(PromptError::new("prompt_no_outputs", "Prompt has no outputs", "")));
    }
    Ok(outputs)
}

/// Checks every node that the outputs reach over sound links; the others stay `None`.
fn check_needed(graph: &ApiGraph, nodes: &[Known<'_>], outputs: &[usize]) -> Vec<Option<CheckedNode>> {
    let mut checked: Vec<Option<CheckedNode>> = nodes.iter().map(|_| None).collect();
    let mut consumers: Vec<Option<check::Consumer>> = nodes.iter().map(|_| None).collect();
    for &output in outputs {
        let mut stack = vec![output];
        while let Some(index) = stack.pop() {
            if checked[index].is_some() {
                continue;
            }
            let node = check_node(graph, nodes, index, consumers[index].take());
            for edge in node.edges.iter().rev() {
                if checked[edge.source].is_none() {
                    consumers[edge.source] = Some(check::Consumer { node: index, input: edge.input });
                    stack.push(edge.source);
                }
            }
            checked[index] = Some(node);
        }
    }
    checked
}

fn report_cycles(graph: &ApiGraph, checked: &mut [Option<CheckedNode>], components: &Components) {
    for members in components.cycles() {
        let name = |index: &usize| graph.nodes.get_index(*index).map_or("", |(id, _)| id.as_str());
        for index in members {
            if let Some(node) = &mut checked[*index] {
                node.errors.push(check::cycle_error(name(index), members.iter().map(name)));
            }
        }
    }
}

/// Whether each node is sound itself and all it needs is.
fn validity(checked: &[Option<CheckedNode>], components: &Components) -> Vec<bool> {
    let mut is_valid = vec![false; checked.len()];
    for index in components.sources_first() {
        is_valid[index] = checked[index].as_ref().is_some_and(|node| {
            node.errors.is_empty() && node.edges.iter().all(|edge| is_valid[edge.source])
        });
    }
    is_valid
}

fn outputs_failed(checked: &[Option<CheckedNode>], bad: &[usize]) -> PromptError {
    let own_errors = bad.iter().filter_map(|index| checked[*index].as_ref()).flat_map(|node| &node.errors);
    let lines: Vec<String> =
        own_errors.map(|error| format!("{}: {}", error.message, error.details)).collect();
    let message = "Prompt outputs failed validation";
    PromptError::new("prompt_outputs_failed_validation", message, lines.join("\n"))
}

/// The failed outputs downstream of each node, in graph order.
fn dependent_outputs(
    checked: &[Option<CheckedNode>],
    components: &Components,
    bad: &[usize],
) -> Vec<Vec<usize>> {
    let mut dependents = vec![Vec::new(); components.count()];
    for &output in bad {
        dependents[components.of(output)].push(output);
    }
    // Consumers come before what they need, so each set is complete when it is passed on.
    for component in (0..components.count()).rev() {
        let own = std::mem::take(&mut dependents[component]);
        let sources = components.members(component).iter().filter_map(|index| checked[*index].as_ref());
        for edge in sources.flat_map(|node| &node.edges) {
            let source = components.of(edge.source);
            if source != component {
                merge(&mut dependents[source], &own);
            }
        }
        dependents[component] = own;
    }
    dependents
}

fn merge(into: &mut Vec<usize>, other: &[usize]) {
    if other.is_empty() {
        return;
    }
    into.extend_from_slice(other);
    into.sort_unstable();
    into.dedup();
    into.truncate(MAX_DEPENDENT_OUTPUTS);
}

fn node_errors(
    graph: &ApiGraph,
    nodes: &[Known<'_>],
    checked: &mut [Option<CheckedNode>],
    components: &Components,
    dependents: &[Vec<usize>],
) -> IndexMap<NodeId, NodeErrors> {
    let mut found = IndexMap::new();
    let id_of = |index: usize| graph.nodes.get_index(index).map(|(id, _)| id.clone());
    for index in components.sources_first() {
        let Some(node) = checked[index].as_mut().filter(|node| !node.errors.is_empty()) else { continue };
        let Some(id) = id_of(index) else { continue };
        let outputs = &dependents[components.of(index)];
        let errors = NodeErrors {
            errors: std::mem::take(&mut node.errors),
            dependent_outputs: outputs.iter().filter_map(|output| id_of(*output)).collect(),
            class_type: nodes[index].class.spec.class.clone(),
        };
        found.insert(id, errors);
    }
    found
}

fn valid_graph(
    graph: &ApiGraph,
    nodes: &[Known<'_>],
    mut checked: Vec<Option<CheckedNode>>,
    good: &[usize],
) -> ValidGraph {
    let id_of = |index: usize| graph.nodes.get_index(index).map(|(id, _)| id.clone());
    let order = execution_order(&checked, good, |index| nodes[index].class.spec.output_node);
    let outputs = good.iter().filter_map(|output| id_of(*output)).collect();
    let mut valid = ValidGraph { nodes: IndexMap::with_capacity(order.len()), outputs };
    for index in order {
        let (Some(id), Some(node)) = (id_of(index), checked[index].take()) else { continue };
        let class = nodes[index].class;
        let output_type = |slot| output_socket(graph, nodes, (index, slot)).to_owned();
        let output_types = (0..class.spec.outputs.len()).map(output_type).collect();
        let node = ValidNode::new(class, &nodes[index].inputs, node.inputs, output_types, node.fingerprint);
        valid.nodes.insert(id, node);
    }
    valid
}
