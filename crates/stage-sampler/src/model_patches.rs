//! Changes to how a model is sampled, carried by MODEL links, and the model they make.

use crate::error;
use crate::nodes::Predictor;
use crate::recipe::{LoraUse, Part, Recipe};
use crate::state::SamplerState;
use comfy_diffusion::sampling::{
    AfterGuidance, BeforeGuidance, ContinuousTime, NoisePredictor, NoiseSchedule, Prediction, SamplingModel,
};
use comfy_diffusion::{
    DeepShrink, DiffusionModel, FreeU, HyperTile, HyperTileRun, UnetChanges, UsedHypernetwork,
};
use comfy_stage::NodeError;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What nodes changed about a model; the last change of a kind counts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ModelPatches {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampling: Option<SamplingPatch>,
    /// Share of every guided estimate that is brought back to the deviation of the positive one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rescale_cfg: Option<f64>,
    /// Share by which a noise mask turns into a moving edge.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub differential_diffusion: Option<f64>,
    /// Weights on the inputs of the ascending half, one after the other.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub free_u: Vec<FreeU>,
    /// Where features are shrunk during a part of the run, one after the other.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deep_shrink: Vec<DeepShrinkPatch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hyper_tile: Option<HyperTile>,
    /// Networks that change what attention looks at, one after the other.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hypernetworks: Vec<LoraUse>,
    /// What is done to every guided estimate, in this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after_guidance: Vec<AfterGuidance>,
    /// What is done to both estimates before they are joined, in this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub before_guidance: Vec<BeforeGuidance>,
}

/// Where features are shrunk, and from which share of the run to which.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeepShrinkPatch {
    pub shrink: DeepShrink,
    pub start_percent: f64,
    pub end_percent: f64,
}

/// Other noise levels and another meaning of the network's output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum SamplingPatch {
    /// The levels the model was trained on, by the name of what it predicts.
    Discrete { predicts: String, zero_terminal_snr: bool },
    /// A continuous range of levels.
    Continuous { predicts: String, sigma_min: f64, sigma_max: f64, time: PatchTime },
}

/// How a continuous level is told to the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PatchTime {
    Edm,
    Velocity,
}

/// Looks up what a network predicts by the name that nodes use.
///
/// # Errors
/// Names the valid choices, or says that a known one cannot be run.
pub(crate) fn prediction(name: &str, valid: &[&str]) -> Result<Prediction, NodeError> {
    match name {
        _ if !valid.contains(&name) => {
            let choices: Vec<String> = valid.iter().map(|v| format!("`{v}`")).collect();
            let choices = choices.join(", ");
            Err(NodeError::invalid(format!("unknown sampling `{name}`, expected one of {choices}")))
        }
        "eps" => Ok(Prediction::Epsilon),
        "v_prediction" => Ok(Prediction::Velocity),
        "lcm" => Ok(Prediction::Consistency),
        "x0" => Ok(Prediction::Sample),
        "img_to_img" => Ok(Prediction::ImageToImage),
        "edm" => Ok(Prediction::Edm),
        _ => Err(NodeError::invalid(format!(
            "the sampling `{name}` is for model families that are not supported"
        ))),
    }
}

/// Choices of `ModelSamplingDiscrete`.
pub(crate) const DISCRETE: [&str; 5] = ["eps", "v_prediction", "lcm", "x0", "img_to_img"];
/// Choices of `ModelSamplingContinuousEDM`, which include that of `ModelSamplingContinuousV`.
pub(crate) const CONTINUOUS: [&str; 5] =
    ["v_prediction", "edm", "edm_playground_v2.5", "eps", "cosmos_rflow"];

impl SamplingPatch {
    /// Returns the levels and the prediction for a model that was trained on `base`.
    ///
    /// # Errors
    /// When the names or figures cannot be used.
    pub(crate) fn apply(&self, base: &NoiseSchedule) -> Result<(NoiseSchedule, Prediction), NodeError> {
        match self {
            Self::Discrete { predicts, zero_terminal_snr } => {
                let prediction = prediction(predicts, &DISCRETE)?;
                let schedule = if *zero_terminal_snr { base.zero_terminal_snr() } else { base.clone() };
                // A consistency model was distilled to a part of the levels.
                let distilled = prediction == Prediction::Consistency;
                Ok((if distilled { schedule.distilled() } else { schedule }, prediction))
            }
            Self::Continuous { predicts, sigma_min, sigma_max, time } => {
                let prediction = prediction(predicts, &CONTINUOUS)?;
                let time = match time {
                    PatchTime::Edm => ContinuousTime::Edm,
                    PatchTime::Velocity => ContinuousTime::Velocity,
                };
                let schedule =
                    NoiseSchedule::continuous(*sigma_min, *sigma_max, time).map_err(error::sampling)?;
                Ok((schedule, prediction))
            }
        }
    }
}

/// A loaded model with the changes of its link.
#[derive(Debug)]
pub(crate) struct PatchedModel {
    pub model: Arc<DiffusionModel>,
    pub schedule: NoiseSchedule,
    prediction: Prediction,
    patches: ModelPatches,
    hyper_tile: Option<HyperTileRun>,
    hypernetworks: Vec<UsedHypernetwork>,
    /// With the noise levels between which each counts.
    deep_shrink: Vec<(DeepShrink, [f64; 2])>,
}

impl PatchedModel {
    /// Loads the model of a MODEL link.
    ///
    /// # Errors
    /// What loading gives, and changes that cannot be used.
    pub(crate) fn open(state: &SamplerState, link: &serde_json::Value) -> Result<Self, NodeError> {
        let patches = Recipe::read(link, Part::Model)?.patches;
        let model = state.model(link)?;
        let (schedule, prediction) = match &patches.sampling {
            None => (model.schedule().clone(), model.prediction()),
            Some(patch) => patch.apply(model.schedule())?,
        };
        let hypernetworks = patches.hypernetworks.iter().map(|used| state.hypernetwork(used));
        let hypernetworks = hypernetworks.collect::<Result<_, NodeError>>()?;
        let hyper_tile = patches.hyper_tile.map(HyperTileRun::new);
        let range = |patch: &DeepShrinkPatch| {
            [patch.start_percent, patch.end_percent].map(|share| schedule.percent_to_sigma(share))
        };
        let deep_shrink = patches.deep_shrink.iter().map(|patch| (patch.shrink, range(patch))).collect();
        Ok(Self { model, schedule, prediction, patches, hyper_tile, hypernetworks, deep_shrink })
    }

    /// Returns the network as the sampling half of the engine calls it.
    pub(crate) fn predictor(&self) -> Predictor<'_> {
        let changes = UnetChanges {
            free_u: &self.patches.free_u,
            hypernetworks: &self.hypernetworks,
            hyper_tile: self.hyper_tile.as_ref(),
            ..UnetChanges::default()
        };
        Predictor { model: &self.model, changes, deep_shrink: &self.deep_shrink }
    }

    /// Says to the sampling half of the engine how to use the network.
    pub(crate) fn sampling<'a>(&'a self, predictor: &'a dyn NoisePredictor) -> SamplingModel<'a> {
        let mut sampling = SamplingModel::new(predictor, &self.schedule, self.model.latent_scale());
        sampling.prediction = self.prediction;
        sampling.rescale_cfg = self.patches.rescale_cfg;
        sampling.differential = self.patches.differential_diffusion;
        sampling.after_guidance = &self.patches.after_guidance;
        sampling.before_guidance = &self.patches.before_guidance;
        sampling
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_change_levels_and_prediction() {
        let base = NoiseSchedule::sd15();
        let apply = |predicts: &str, zero_terminal_snr| {
            SamplingPatch::Discrete { predicts: predicts.into(), zero_terminal_snr }.apply(&base)
        };
        let (levels, prediction) = apply("v_prediction", true).unwrap();
        assert_eq!((levels.sigma_max(), prediction), (4_518.763_7, Prediction::Velocity));
        let (levels, prediction) = apply("lcm", false).unwrap();
        assert_eq!((levels.sigmas().len(), prediction), (50, Prediction::Consistency));
        assert!(apply("edm", false).unwrap_err().message.contains("`v_prediction`"));
        let continuous = |predicts: &str| {
            let (sigma_min, sigma_max, time) = (0.002, 80.0, PatchTime::Edm);
            SamplingPatch::Continuous { predicts: predicts.into(), sigma_min, sigma_max, time }.apply(&base)
        };
        let (levels, prediction) = continuous("edm").unwrap();
        assert!((levels.sigma_max() - 80.0).abs() < 1e-3 && prediction == Prediction::Edm);
        assert!(continuous("cosmos_rflow").unwrap_err().message.contains("not supported"));
    }
}
