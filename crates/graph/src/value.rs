//! What travels along links between stages.

use crate::{ArtifactRef, Literal};
use serde::{Deserialize, Serialize};

/// The value of one output slot as services exchange it: small enough for a message, tensors by reference.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    Literal(Literal),
    Artifact(ArtifactRef),
    /// How to make a MODEL, CLIP or VAE (checkpoint, part, patches). Never weights.
    Recipe(serde_json::Value),
    /// Several values in order, never lists themselves: what a node that makes lists gives, or one that ran once per
    /// element. Never of length one, which is the value itself.
    List(Vec<Value>),
    /// No value: nodes that take it are not run. The text, if any, is told to the person once.
    Blocked(Option<String>),
}

impl Value {
    /// The blobs that the value refers to.
    pub fn artifacts(&self) -> Vec<&ArtifactRef> {
        match self {
            Value::Artifact(artifact) => vec![artifact],
            Value::List(values) => values.iter().flat_map(Value::artifacts).collect(),
            Value::Literal(_) | Value::Recipe(_) | Value::Blocked(_) => Vec::new(),
        }
    }
}
