//! The UI format: what the page saves, turned into what it would send to run.
//!
//! # Source
//! Behaviour of `graphToPrompt` of the ComfyUI page 1.27, by its results: widget inputs first in spec order, a link
//! beats a widget, frontend-only nodes are followed through or dropped, subgraphs are laid out with ids
//! `instance:inner`. Not done here, because the page does it with dice or a clock: `{a|b}` choices, `%date%` texts
//! and changing seeds.

mod layout;
mod resolve;
mod sheet;
mod widgets;

use super::{ApiGraph, ApiNode, MAX_VALUE_BYTES, WorkflowError};
use crate::{Catalog, NodeId};
use indexmap::IndexMap;
use layout::{Scope, lay_out};
use resolve::{Resolver, Source};
use serde_json::{Value, json};
use sheet::{Mode, Sheet, UiNode};
use std::collections::HashMap;

pub(super) fn read(json: &Value, catalog: &Catalog) -> Result<ApiGraph, WorkflowError> {
    let root = Sheet::read(json)?;
    let definitions = read_definitions(json)?;
    let scopes = lay_out(&root, &definitions)?;
    let mut conversion =
        Conversion { catalog, resolver: Resolver::new(&scopes), bytes_left: MAX_VALUE_BYTES };
    let mut nodes = Vec::new();
    for (index, scope) in scopes.iter().enumerate() {
        for (id, node) in &scope.sheet.nodes {
            if node.mode == Mode::Run && !is_page_only(node.kind) && !scope.children.contains_key(id.as_str())
            {
                nodes.push((scope.full_id(id), conversion.node(index, scope, id, node)?));
            }
        }
    }
    // The order of keys in the page's JSON: whole numbers by size, then the rest as they came.
    nodes.sort_by_key(|(id, _)| id.parse::<u32>().map_or(u64::MAX, u64::from));
    Ok(ApiGraph { nodes: nodes.into_iter().map(|(id, node)| (NodeId(id), node)).collect() })
}

/// Nodes that exist only on the page.
fn is_page_only(kind: &str) -> bool {
    matches!(kind, "Reroute" | "PrimitiveNode" | "Note" | "MarkdownNote")
}

fn read_definitions(json: &Value) -> Result<HashMap<&str, Sheet<'_>>, WorkflowError> {
    let list = json.get("definitions").and_then(|definitions| definitions.get("subgraphs"));
    let mut definitions = HashMap::new();
    for definition in list.and_then(Value::as_array).into_iter().flatten() {
        let id = definition.get("id").and_then(Value::as_str);
        let id = id.ok_or_else(|| WorkflowError::BadSubgraph { id: String::new() })?;
        definitions.insert(id, Sheet::read(definition)?);
    }
    Ok(definitions)
}

struct Conversion<'a> {
    catalog: &'a Catalog,
    resolver: Resolver<'a>,
    bytes_left: usize,
}

impl<'a> Conversion<'a> {
    fn node(
        &mut self,
        index: usize,
        scope: &'a Scope<'a>,
        id: &str,
        node: &'a UiNode<'a>,
    ) -> Result<ApiNode, WorkflowError> {
        let class = self.catalog.get(node.kind);
        let mut inputs = IndexMap::new();
        for (name, value) in widgets::values(node, class.map(|class| &class.spec)) {
            let value = scope.overrides.get(&(id, &*name)).map_or(value, |v| std::borrow::Cow::Borrowed(*v));
            self.set(&mut inputs, &name, wrapped(&value))?;
        }
        for input in &node.inputs {
            let Some(link) = &input.link else { continue };
            let source = self.resolver.resolve(index, link).ok_or_else(|| WorkflowError::LinkCircle {
                node: scope.full_id(id),
                input: input.name.to_owned(),
            })?;
            match source {
                Source::Nothing => {}
                Source::Removed => {
                    inputs.shift_remove(input.name);
                }
                Source::Value(value) => self.set(&mut inputs, input.name, wrapped(value))?,
                Source::Output { scope, node, slot } => {
                    let origin = self.resolver.scopes[scope].full_id(node);
                    self.set(&mut inputs, input.name, json!([origin, slot]))?;
                }
            }
        }
        let title = node.json.get("title").and_then(Value::as_str).filter(|title| !title.is_empty());
        let display_name =
            class.map(|class| class.spec.display_name.as_str()).filter(|name| !name.is_empty());
        let title = title.or(display_name).unwrap_or(node.kind);
        self.charge(title.len() + node.kind.len())?;
        Ok(ApiNode { class_type: Some(node.kind.to_owned()), inputs, title: Some(title.to_owned()) })
    }

    fn set(
        &mut self,
        inputs: &mut IndexMap<String, Value>,
        name: &str,
        value: Value,
    ) -> Result<(), WorkflowError> {
        self.charge(name.len() + weight(&value))?;
        inputs.insert(name.to_owned(), value);
        Ok(())
    }

    fn charge(&mut self, bytes: usize) -> Result<(), WorkflowError> {
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or(WorkflowError::TooManyValues)?;
        Ok(())
    }
}

/// Keeps a list from being taken for a link.
fn wrapped(value: &Value) -> Value {
    if value.is_array() { json!({"__value__": value}) } else { value.clone() }
}

/// About how many bytes a value takes.
fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum::<usize>() + items.len(),
        Value::Object(entries) => entries.iter().map(|(key, value)| key.len() + weight(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
    }
}
