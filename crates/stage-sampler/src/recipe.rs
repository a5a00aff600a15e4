//! What MODEL, CLIP and VAE links carry: how to make the part, never its weights.

use crate::model_patches::ModelPatches;
use comfy_diffusion::changes::{AttentionFactors, AttentionKind, Shares};
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
    /// A second file of the same folder that the part is made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub also: Option<OtherFile>,
    /// What to change about the weights, in this order.
    #[serde(default, alias = "loras", skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<WeightChange>,
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

/// A further file of the same folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OtherFile {
    pub file: String,
    pub fingerprint: String,
}

/// A change to weights as they are read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum WeightChange {
    Lora(LoraUse),
    Merge(MergeUse),
    Attention(AttentionUse),
}

/// Another part to merge with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MergeUse {
    pub merge: Box<Recipe>,
    pub own: f64,
    pub other: f64,
    /// Other shares, own and other, by the beginning of tensor names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_prefix: Vec<(String, f64, f64)>,
}

impl MergeUse {
    pub(crate) fn shares(&self) -> Shares {
        Shares { own: self.own, other: self.other }
    }

    pub(crate) fn shares_by_prefix(&self) -> Vec<(String, Shares)> {
        let shares =
            |(prefix, own, other): &(String, f64, f64)| (prefix.clone(), Shares { own: *own, other: *other });
        self.by_prefix.iter().map(shares).collect()
    }
}

/// Factors on the layers of attention.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct AttentionUse {
    pub attention: AttentionName,
    pub q: f64,
    pub k: f64,
    pub v: f64,
    pub out: f64,
}

/// Which attention of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AttentionName {
    UnetSelf,
    UnetCross,
    Text,
}

impl AttentionUse {
    pub(crate) fn factors(self) -> AttentionFactors {
        let kind = match self.attention {
            AttentionName::UnetSelf => AttentionKind::UnetSelf,
            AttentionName::UnetCross => AttentionKind::UnetCross,
            AttentionName::Text => AttentionKind::Text,
        };
        AttentionFactors { kind, q: self.q, k: self.k, v: self.v, out: self.out }
    }
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
    Control,
    ClipVision,
    StyleModel,
}

impl Recipe {
    /// A part as its file has it.
    pub(crate) fn new(folder: &str, file: &str, fingerprint: String, part: Part) -> Self {
        let (folder, file) = (folder.into(), file.into());
        Self {
            folder,
            file,
            fingerprint,
            part,
            clip_skip: None,
            also: None,
            changes: Vec::new(),
            weight_dtype: None,
            patches: ModelPatches::default(),
        }
    }

    /// The recipe without what does not change weights.
    pub(crate) fn of_weights(&self) -> Self {
        Self { clip_skip: None, patches: ModelPatches::default(), ..self.clone() }
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Recipes of before there were other changes than adapters are kept in databases.
    #[test]
    fn adapters_of_older_recipes_are_read() {
        let old = json!({
            "folder": "checkpoints", "file": "a.safetensors", "fingerprint": "f", "part": "clip",
            "loras": [{"file": "b.safetensors", "fingerprint": "g", "strength": 0.5}],
        });
        let recipe = Recipe::read(&old, Part::Clip).unwrap();
        let lora = LoraUse { file: "b.safetensors".into(), fingerprint: "g".into(), strength: 0.5 };
        assert_eq!(recipe.changes, [WeightChange::Lora(lora)]);
    }

    #[test]
    fn changes_survive_a_link() {
        let mut recipe = Recipe::new("checkpoints", "a.safetensors", "f".into(), Part::Model);
        let other = Recipe::new("checkpoints", "b.safetensors", "g".into(), Part::Model);
        let by_prefix = vec![("out".to_owned(), 0.25, 0.75)];
        recipe.changes.push(WeightChange::Merge(MergeUse {
            merge: Box::new(other),
            own: 0.5,
            other: 0.5,
            by_prefix,
        }));
        let attention = AttentionName::UnetCross;
        recipe.changes.push(WeightChange::Attention(AttentionUse {
            attention,
            q: 1.0,
            k: 2.0,
            v: 3.0,
            out: 4.0,
        }));
        assert_eq!(Recipe::read(&recipe.to_json(), Part::Model).unwrap(), recipe);
    }
}
