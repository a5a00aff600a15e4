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
}
