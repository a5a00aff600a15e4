//! Lays subgraphs out: every instance of a definition becomes a scope of its own.

use super::sheet::{Mode, Sheet, UiNode};
use crate::workflow::{MAX_NODES, MAX_SUBGRAPH_DEPTH, WorkflowError};
use serde_json::Value;
use std::collections::HashMap;

/// A sheet in its place: the root graph, or one instance of a subgraph.
pub(super) struct Scope<'a> {
    pub sheet: &'a Sheet<'a>,
    /// The scope and the node that this is an instance for.
    pub parent: Option<(usize, &'a UiNode<'a>)>,
    /// The scopes of the instances on this sheet, by node id.
    pub children: HashMap<&'a str, usize>,
    /// Widget values that the instance sets on inner nodes, by inner node id and widget.
    pub overrides: HashMap<(&'a str, &'a str), &'a Value>,
    /// Values that the instance gives for unlinked inputs of the subgraph.
    pub input_values: HashMap<&'a str, &'a Value>,
    prefix: String,
    depth: usize,
}

impl<'a> Scope<'a> {
    fn new(sheet: &'a Sheet<'a>) -> Self {
        Self {
            sheet,
            parent: None,
            children: HashMap::new(),
            overrides: HashMap::new(),
            input_values: HashMap::new(),
            prefix: String::new(),
            depth: 0,
        }
    }

    /// The id of a node of this scope within the whole workflow.
    pub fn full_id(&self, id: &str) -> String {
        format!("{}{id}", self.prefix)
    }

    /// A scope for the instance `id` on this sheet.
    fn instance(&self, own: usize, id: &'a str, node: &'a UiNode<'a>, sheet: &'a Sheet<'a>) -> Scope<'a> {
        let mut scope = Scope::new(sheet);
        scope.parent = Some((own, node));
        scope.prefix = format!("{}{id}:", self.prefix);
        scope.depth = self.depth + 1;
        for promoted in promoted_values(node, sheet) {
            // The sheet around the instance may in turn set what the instance shows.
            let value = self.overrides.get(&(id, promoted.name)).copied().or(promoted.value);
            let Some(value) = value else { continue };
            match promoted.inner_node {
                Some(inner) => scope.overrides.insert((inner, promoted.name), value),
                None => scope.input_values.insert(promoted.name, value),
            };
        }
        scope
    }
}

pub(super) fn lay_out<'a>(
    root: &'a Sheet<'a>,
    definitions: &'a HashMap<&str, Sheet<'a>>,
) -> Result<Vec<Scope<'a>>, WorkflowError> {
    let mut scopes = vec![Scope::new(root)];
    let mut node_count = 0;
    let mut next = 0;
    while next < scopes.len() {
        let sheet = scopes[next].sheet;
        node_count += sheet.nodes.len().max(1);
        if node_count > MAX_NODES {
            return Err(WorkflowError::TooManyNodes);
        }
        for (id, node) in sheet.nodes.iter().filter(|(_, node)| node.mode == Mode::Run) {
            let Some(definition) = definitions.get(node.kind) else { continue };
            if scopes[next].depth == MAX_SUBGRAPH_DEPTH {
                return Err(WorkflowError::SubgraphTooDeep { id: node.kind.to_owned() });
            }
            let child = scopes[next].instance(next, id, node, definition);
            let place = scopes.len();
            scopes[next].children.insert(id, place);
            scopes.push(child);
        }
        next += 1;
    }
    Ok(scopes)
}

/// A widget that an instance shows for something inside its subgraph.
#[derive(Clone, Copy)]
struct Promoted<'a> {
    /// The inner node it belongs to, or `None` for an input of the subgraph.
    inner_node: Option<&'a str>,
    name: &'a str,
    value: Option<&'a Value>,
}

/// The widgets of an instance: those of its inputs, and those that `proxyWidgets` names.
fn promoted_values<'a>(node: &'a UiNode<'a>, definition: &Sheet<'a>) -> Vec<Promoted<'a>> {
    let proxies: Vec<Promoted<'_>> = proxy_widgets(node).collect();
    let of_input = |name| Promoted { inner_node: None, name, value: None };
    let inputs = node.inputs.iter().filter(|input| input.has_widget);
    let inputs: Vec<Promoted<'_>> = inputs.map(|input| of_input(input.name)).collect();
    let defined: Vec<Promoted<'_>> = definition.widget_inputs.iter().map(|name| of_input(*name)).collect();
    let all = [&inputs[..], &proxies].concat();
    let saved = node.json.get("widgets_values");
    let named = node.json.get("widgets_values_named").or(saved).filter(|values| values.is_object());
    if let Some(named) = named {
        return all.into_iter().map(|widget| Promoted { value: named.get(widget.name), ..widget }).collect();
    }
    let saved = saved.and_then(Value::as_array).map_or(&[][..], |values| &values[..]);
    // Versions of the page differ in which of them they save; without names only the number tells.
    let widgets = [proxies, inputs, all, defined].into_iter().find(|widgets| widgets.len() == saved.len());
    let with_value = |(widget, value)| Promoted { value: Some(value), ..widget };
    widgets.unwrap_or_default().into_iter().zip(saved).map(with_value).collect()
}

fn proxy_widgets<'a>(node: &'a UiNode<'a>) -> impl Iterator<Item = Promoted<'a>> {
    let list = node.json.get("properties").and_then(|properties| properties.get("proxyWidgets"));
    let entries = list.and_then(Value::as_array).map_or(&[][..], |list| &list[..]);
    entries.iter().filter_map(|entry| {
        let inner = entry.get(0)?.as_str()?;
        let inner_node = (inner != "-1").then_some(inner);
        Some(Promoted { inner_node, name: entry.get(1)?.as_str()?, value: None })
    })
}
