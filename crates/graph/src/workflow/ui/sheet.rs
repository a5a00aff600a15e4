//! One level of a UI-format workflow: the root graph, or the definition of a subgraph.

use crate::workflow::WorkflowError;
use indexmap::IndexMap;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};

/// Most inputs or outputs that a node or a subgraph may have.
const MAX_SLOTS: usize = 500;

/// Longest node id; ids are repeated in every link and in every node of a subgraph.
const MAX_ID_BYTES: usize = 128;

/// Nodes and links that lie on one canvas.
pub(super) struct Sheet<'a> {
    pub nodes: IndexMap<String, UiNode<'a>>,
    pub links: HashMap<String, UiLink>,
    /// Names of the inputs of a subgraph.
    pub inputs: Vec<&'a str>,
    /// Those of `inputs` that fill a widget inside, in order.
    pub widget_inputs: Vec<&'a str>,
    /// The id that stands for the inputs of a subgraph as the origin of links.
    pub input_node: Option<String>,
    /// The link that feeds each output of a subgraph.
    pub output_links: HashMap<usize, String>,
}

/// A node as the page saves it.
pub(super) struct UiNode<'a> {
    pub kind: &'a str,
    pub mode: Mode,
    pub inputs: Vec<UiInput<'a>>,
    /// Socket types of the outputs.
    pub outputs: Vec<&'a str>,
    pub json: &'a Value,
}

/// What the page does with a node when it runs the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Run,
    Mute,
    Bypass,
}

pub(super) struct UiInput<'a> {
    pub name: &'a str,
    pub socket: &'a str,
    pub has_widget: bool,
    pub link: Option<String>,
}

/// The origin of a link; its target is found by the inputs that name it.
pub(super) struct UiLink {
    pub origin: String,
    pub slot: usize,
}

impl<'a> Sheet<'a> {
    pub fn read(json: &'a Value) -> Result<Self, WorkflowError> {
        let mut nodes = IndexMap::new();
        for node in list(json, "nodes") {
            let id = node.get("id").and_then(id_text);
            let id = id.ok_or(WorkflowError::BadNode { node: String::new(), problem: "has no id" })?;
            if id.len() > MAX_ID_BYTES {
                let node = id.chars().take(20).collect();
                return Err(WorkflowError::BadNode { node, problem: "has an id longer than 128 bytes" });
            }
            let node = UiNode::read(&id, node)?;
            if nodes.contains_key(&id) {
                return Err(WorkflowError::DuplicateNode { node: id });
            }
            nodes.insert(id, node);
        }
        let edge_node = |key: &str| json.get(key).and_then(|node| node.get("id")).and_then(id_text);
        let output_node = edge_node("outputNode");
        let mut links = HashMap::new();
        let mut output_links = HashMap::new();
        for (index, link) in link_entries(json).enumerate().filter(|(_, link)| !link.is_null()) {
            let ends = LinkEnds::read(link).ok_or(WorkflowError::BadLink { index })?;
            if output_node.is_some() && ends.target == output_node {
                output_links.insert(ends.target_slot, ends.id.clone());
            }
            links.insert(ends.id, UiLink { origin: ends.origin, slot: ends.slot });
        }
        let inputs = list(json, "inputs").take(MAX_SLOTS).map(|input| text(input, "name")).collect();
        let input_node = edge_node("inputNode");
        let mut sheet = Self { nodes, links, inputs, widget_inputs: Vec::new(), input_node, output_links };
        sheet.widget_inputs = sheet.find_widget_inputs();
        Ok(sheet)
    }

    fn find_widget_inputs(&self) -> Vec<&'a str> {
        let inside = self.nodes.values().flat_map(|node| &node.inputs).filter(|input| input.has_widget);
        let links = inside.filter_map(|input| self.links.get(input.link.as_deref()?));
        let from_input = links.filter(|link| Some(&link.origin) == self.input_node.as_ref());
        let slots: BTreeSet<usize> = from_input.map(|link| link.slot).collect();
        slots.into_iter().filter_map(|slot| self.inputs.get(slot).copied()).collect()
    }
}

impl<'a> UiNode<'a> {
    fn read(id: &str, json: &'a Value) -> Result<Self, WorkflowError> {
        let bad = |problem| WorkflowError::BadNode { node: id.to_owned(), problem };
        let kind = json.get("type").and_then(Value::as_str).ok_or_else(|| bad("has no type"))?;
        if list(json, "inputs").len().max(list(json, "outputs").len()) > MAX_SLOTS {
            return Err(bad("has more than 500 inputs or outputs"));
        }
        let mode = match json.get("mode").and_then(Value::as_i64) {
            Some(2) => Mode::Mute,
            Some(4) => Mode::Bypass,
            _ => Mode::Run,
        };
        let input = |json: &'a Value| UiInput {
            name: text(json, "name"),
            socket: socket(json),
            has_widget: json.get("widget").is_some_and(|widget| !widget.is_null()),
            link: json.get("link").and_then(id_text),
        };
        let inputs = list(json, "inputs").map(input).collect();
        let outputs = list(json, "outputs").map(socket).collect();
        Ok(Self { kind, mode, inputs, outputs, json })
    }
}

struct LinkEnds {
    id: String,
    origin: String,
    slot: usize,
    target: Option<String>,
    target_slot: usize,
}

impl LinkEnds {
    /// Reads `[id, origin, slot, target, slot, type]` or an object with the same fields.
    fn read(json: &Value) -> Option<Self> {
        let keys = ["id", "origin_id", "origin_slot", "target_id", "target_slot"];
        let field = |index: usize| match json {
            Value::Array(fields) => fields.get(index),
            _ => json.get(keys[index]),
        };
        let slot = |index| field(index).and_then(Value::as_u64).and_then(|slot| usize::try_from(slot).ok());
        Some(Self {
            id: id_text(field(0)?)?,
            origin: id_text(field(1)?)?,
            slot: slot(2)?,
            target: field(3).and_then(id_text),
            target_slot: slot(4).unwrap_or(usize::MAX),
        })
    }
}

/// The links of a sheet: a list, or an object by link id.
fn link_entries(json: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match json.get("links") {
        Some(Value::Array(links)) => Box::new(links.iter()),
        Some(Value::Object(links)) => Box::new(links.values()),
        _ => Box::new(std::iter::empty()),
    }
}

fn list<'a>(json: &'a Value, key: &str) -> std::slice::Iter<'a, Value> {
    json.get(key).and_then(Value::as_array).map_or(&[][..], |list| &list[..]).iter()
}

fn text<'a>(json: &'a Value, key: &str) -> &'a str {
    json.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// A socket type. Old files write the options of a combo in its place, and numbers for any type.
fn socket(json: &Value) -> &str {
    match json.get("type") {
        Some(Value::String(socket)) => socket,
        Some(Value::Array(_)) => "COMBO",
        _ => "*",
    }
}

/// An id as text: the page writes numbers, API ids are texts.
fn id_text(json: &Value) -> Option<String> {
    match json {
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        Value::String(id) => Some(id.clone()),
        _ => None,
    }
}
