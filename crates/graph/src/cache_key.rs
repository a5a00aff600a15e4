//! Content keys of node results, so that equal work is found again whatever its nodes are called.

use crate::{Digest, Input, Literal, NodeId, ValidGraph, ValidNode};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Says that two nodes give the same results: class, version, chosen files, constants and everything upstream.
///
/// Node ids and the order of inputs are left out, so a key survives renaming and restarts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CacheKey(pub Digest);

impl CacheKey {
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl std::fmt::Display for CacheKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Changes whenever the bytes below change, so that old keys cannot be taken for new ones.
const DOMAIN: &str = "comfy-services node result, format 1";

/// Computes the key of every node. `None` means that the result must not be reused; it passes to everything
/// downstream.
pub fn cache_keys(graph: &ValidGraph) -> IndexMap<NodeId, Option<CacheKey>> {
    let mut keys: IndexMap<NodeId, Option<CacheKey>> = IndexMap::with_capacity(graph.nodes.len());
    let mut digests: HashMap<&NodeId, Digest> = HashMap::new();
    for (id, node) in &graph.nodes {
        let digest = node_digest(node, &digests);
        if let Some(digest) = &digest {
            digests.insert(id, digest.clone());
        }
        keys.insert(id.clone(), digest.map(CacheKey));
    }
    keys
}

fn node_digest(node: &ValidNode, upstream: &HashMap<&NodeId, Digest>) -> Option<Digest> {
    let mut bytes = Encoder::default();
    bytes.text(DOMAIN);
    bytes.text(&node.class);
    let fingerprint = node.fingerprint.as_ref()?;
    bytes.count(fingerprint.len());
    for (name, value) in fingerprint {
        bytes.text(name);
        bytes.text(value);
    }
    let mut inputs: Vec<(&String, &Input)> = node.inputs.iter().collect();
    inputs.sort_unstable_by_key(|(name, _)| *name);
    bytes.count(inputs.len());
    for (name, input) in inputs {
        bytes.text(name);
        match input {
            Input::Literal(literal) => bytes.literal(literal),
            Input::Value(value) => {
                bytes.tag(b'V');
                bytes.text(&serde_json::to_string(value).ok()?);
            }
            Input::Link(link) => {
                bytes.tag(b'L');
                bytes.text(upstream.get(&link.node)?.as_str());
                bytes.0.extend_from_slice(&link.slot.to_le_bytes());
            }
        }
    }
    Some(Digest::of(&bytes.0))
}

/// Writes values so that no two sequences of values give the same bytes.
#[derive(Default)]
struct Encoder(Vec<u8>);

impl Encoder {
    fn tag(&mut self, tag: u8) {
        self.0.push(tag);
    }

    fn count(&mut self, count: usize) {
        self.0.extend_from_slice(&(count as u64).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    fn literal(&mut self, literal: &Literal) {
        match literal {
            Literal::Bool(value) => {
                self.tag(b'b');
                self.tag(u8::from(*value));
            }
            Literal::Int(value) => {
                self.tag(b'i');
                self.0.extend_from_slice(&value.to_le_bytes());
            }
            // Bits, because 0.0 and -0.0 are equal as numbers and give different images.
            Literal::Float(value) => {
                self.tag(b'f');
                self.0.extend_from_slice(&value.to_bits().to_le_bytes());
            }
            Literal::Text(value) => {
                self.tag(b't');
                self.text(value);
            }
        }
    }
}
