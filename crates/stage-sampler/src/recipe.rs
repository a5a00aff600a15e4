//! What MODEL, CLIP and VAE links carry: how to make the part, never its weights.

use crate::model_patches::ModelPatches;
use comfy_diffusion::checkpoint::Float8;
use comfy_stage::NodeError;
use serde::{Deserialize, Serialize};

/// A part of a model file and what to change about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Recipe {
    pub folder: String,
    pub file: String,
    /// Tells if the file was replaced since the loader ran.
    pub fingerprint: String,
    pub part: Part,
    /// Where the text encoder stops, counted from the end as -1, -2, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_skip: Option<i64>,
    /// Adapters to apply, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loras: Vec<LoraUse>,
    /// What the weights are rounded to before they are used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_dtype: Option<WeightDtype>,
    /// Changes to how the diffusion model is sampled.
    #[serde(default, skip_serializing_if = "is_default")]
    pub patches: ModelPatches,
}

fn is_default(patches: &ModelPatches) -> bool {
    *patches == ModelPatches::default()
}

/// An adapter file and how much of it to apply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LoraUse {
    pub file: String,
    pub fingerprint: String,
    pub strength: f64,
}

/// A number format with fewer digits than the file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WeightDtype {
    Fp8E4m3fn,
    Fp8E5m2,
}

impl WeightDtype {
    pub(crate) fn format(self) -> Float8 {
        match self {
            Self::Fp8E4m3fn => Float8::E4m3,
            Self::Fp8E5m2 => Float8::E5m2,
        }
    }
}

/// Which part of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Part {
    Model,
    Clip,
    Vae,
    Upscaler,
    Hypernetwork,
    Gligen,
}

impl Recipe {
    /// A part as its file has it.
    pub(crate) fn new(folder: &str, file: &str, fingerprint: String, part: Part) -> Self {
        let (folder, file) = (folder.into(), file.into());
        let (loras, patches) = (Vec::new(), ModelPatches::default());
        Self { folder, file, fingerprint, part, clip_skip: None, loras, weight_dtype: None, patches }
    }

    /// Reads a link's recipe and checks that it is for the expected part.
    ///
    /// # Errors
    /// When it is for another part or is not a recipe.
    pub(crate) fn read(json: &serde_json::Value, part: Part) -> Result<Self, NodeError> {
        let recipe = Self::deserialize(json).map_err(|error| {
            NodeError::invalid(format!("the link does not carry a model recipe: {error}"))
        })?;
        if recipe.part == part {
            Ok(recipe)
        } else {
            Err(NodeError::invalid(format!(
                "expected the {part:?} part of a model, the link carries {:?}",
                recipe.part
            )))
        }
    }

    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("a recipe is plain JSON")
    }
}
