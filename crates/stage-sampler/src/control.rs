//! Control networks of a prompt: what links and conditionings carry, and what the engine is given.

use crate::model_folders::CONTROLNETS;
use crate::recipe::{Part, Recipe};
use crate::state::SamplerState;
use crate::{error, tensors};
use comfy_artifacts::HostTensor;
use comfy_diffusion::DiffusionModel;
use comfy_diffusion::control::{ControlOptions, ControlUse};
use comfy_diffusion::sampling::ConditioningEntry;
use comfy_stage::{Conditioning, NodeError};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;

/// What a CONTROL_NET link carries: how to make a control network, never its weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ControlRecipe {
    /// A file of the folder of control networks.
    pub control_net: String,
    /// Tells if the file was replaced since the loader ran.
    pub fingerprint: String,
    /// The model whose weights the file's differences are added to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Recipe>,
    /// Which kind of picture a union ControlNet is told to look at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<usize>,
}

impl ControlRecipe {
    /// Reads a link's recipe.
    ///
    /// # Errors
    /// When the link carries something else.
    pub(crate) fn read(link: &serde_json::Value) -> Result<Self, NodeError> {
        Self::deserialize(link).map_err(|error| {
            NodeError::invalid(format!("the link does not carry a control network: {error}"))
        })
    }

    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("a recipe is plain JSON")
    }

    /// Whether only the mean of every feature map counts, which no file says but by its name.
    fn mean_only(&self) -> bool {
        let stem =
            Path::new(&self.control_net).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        stem.ends_with("_shuffle") || stem.ends_with("_shuffle_fp16")
    }
}

/// A control network that a prompt is steered by, without the pictures it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ControlStep {
    pub network: ControlRecipe,
    pub strength: f64,
    pub start_percent: f64,
    pub end_percent: f64,
}

/// The extra with the [`ControlStep`]s of a prompt, in order.
const STEPS: &str = "control";
/// The extra that makes them count for the other sides too.
const FOR_ALL: &str = "control_for_all";
/// The pictures of each step, by its place.
const PICTURES: &str = "control_pictures_";

/// Whether an extra or tensor of a conditioning belongs to its control networks.
pub(crate) fn is_extra(name: &str) -> bool {
    name == STEPS || name == FOR_ALL || name.starts_with(PICTURES)
}

fn steps(entry: &comfy_stage::ConditioningEntry) -> Result<Vec<ControlStep>, NodeError> {
    let Some(steps) = entry.extras.get(STEPS) else { return Ok(Vec::new()) };
    Vec::deserialize(steps).map_err(|error| {
        NodeError::invalid(format!("the control networks of a prompt cannot be read: {error}"))
    })
}

/// Steers a prompt by one more control network.
///
/// # Errors
/// When the networks it has cannot be read.
pub(crate) fn add(
    entry: &mut comfy_stage::ConditioningEntry,
    step: &ControlStep,
    pictures: &HostTensor,
    for_all: bool,
) -> Result<(), NodeError> {
    let mut steps = steps(entry)?;
    entry.tensors.insert(format!("{PICTURES}{}", steps.len()), pictures.clone());
    steps.push(step.clone());
    entry.extras.insert(STEPS.into(), serde_json::to_value(steps).expect("steps are plain JSON"));
    entry.extras.insert(FOR_ALL.into(), for_all.into());
    Ok(())
}

/// Loads the control networks of a run. The same step of several prompts becomes one, so that these can share the
/// calls of the network.
pub(crate) struct Controls<'a> {
    state: &'a SamplerState,
    model: &'a DiffusionModel,
    /// The MODEL link, whose weights control-LoRAs change.
    link: &'a serde_json::Value,
    made: Vec<(ControlStep, HostTensor, Arc<ControlUse>)>,
}

impl<'a> Controls<'a> {
    pub(crate) fn new(
        state: &'a SamplerState,
        model: &'a DiffusionModel,
        link: &'a serde_json::Value,
    ) -> Self {
        Self { state, model, link, made: Vec::new() }
    }

    /// Gives a side's entries their control networks. `given` are the entries as the link has them.
    ///
    /// # Errors
    /// When a network cannot be loaded or is for another kind of model.
    pub(crate) fn add(
        &mut self,
        entries: &mut [ConditioningEntry],
        given: &Conditioning,
    ) -> Result<(), NodeError> {
        for (entry, given) in entries.iter_mut().zip(given) {
            for (i, step) in steps(given)?.iter().enumerate() {
                let pictures = given.tensors.get(&format!("{PICTURES}{i}"));
                let pictures =
                    pictures.ok_or_else(|| NodeError::invalid("a control network has no picture"))?;
                entry.controls.push(self.make(step, pictures)?);
            }
            entry.control_for_all =
                given.extras.get(FOR_ALL).and_then(serde_json::Value::as_bool).unwrap_or(false);
        }
        Ok(())
    }

    fn make(&mut self, step: &ControlStep, pictures: &HostTensor) -> Result<Arc<ControlUse>, NodeError> {
        if let Some((_, _, made)) = self.made.iter().find(|(s, p, _)| s == step && p == pictures) {
            return Ok(made.clone());
        }
        let network = self.state.control_network(&step.network, &Recipe::read(self.link, Part::Model)?)?;
        let named = |e: comfy_diffusion::Error| {
            let reason = error::engine(e);
            NodeError { message: format!("`{}`: {}", step.network.control_net, reason.message), ..reason }
        };
        self.model.check_control(&network).map_err(named)?;
        let options = ControlOptions {
            strength: step.strength,
            start_percent: step.start_percent,
            end_percent: step.end_percent,
            kind: step.network.kind,
            mean_only: step.network.mean_only(),
        };
        let planes = tensors::to_device(pictures, &self.state.device)?;
        if planes.rank() != 4 {
            return Err(NodeError::invalid(format!("an image has 4 dimensions, got {:?}", planes.dims())));
        }
        let planes = planes.permute((0, 3, 1, 2)).and_then(|t| t.contiguous()).map_err(error::tensor)?;
        let made = Arc::new(ControlUse::new(network, &planes, options).map_err(named)?);
        self.made.push((step.clone(), pictures.clone(), made.clone()));
        Ok(made)
    }
}

/// The recipe of a file of the folder of control networks.
///
/// # Errors
/// When there is no such file or it cannot be used.
pub(crate) fn found(
    name: &str,
    base: Option<Recipe>,
    ctx: &comfy_stage::Ctx<'_, SamplerState>,
) -> Result<ControlRecipe, NodeError> {
    let fingerprint = ctx.state.files.find(CONTROLNETS, name, &|| ctx.check_cancelled())?.fingerprint;
    Ok(ControlRecipe { control_net: name.into(), fingerprint, base, kind: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(name: &str) -> ControlRecipe {
        ControlRecipe { control_net: name.into(), fingerprint: "1".into(), base: None, kind: Some(3) }
    }

    #[test]
    fn recipes_survive_their_text_and_are_not_mixed_up() {
        let text = recipe("a.safetensors").to_json().to_string();
        assert_eq!(
            ControlRecipe::read(&serde_json::from_str(&text).unwrap()).unwrap(),
            recipe("a.safetensors")
        );
        let model = Recipe::new("checkpoints", "a", "1".into(), Part::Model).to_json();
        assert!(ControlRecipe::read(&model).unwrap_err().message.contains("control network"));
        assert!(Recipe::read(&recipe("a").to_json(), Part::Model).is_err());
    }

    #[test]
    fn some_networks_are_known_by_name() {
        for (name, expected) in [
            ("control_v11e_sd15_shuffle.pth", true),
            ("sub/control_v11e_sd15_shuffle_fp16.safetensors", true),
            ("shuffle_of_mine.safetensors", false),
            ("control_v11p_sd15_canny.pth", false),
        ] {
            assert_eq!(recipe(name).mean_only(), expected, "{name}");
        }
    }
}
