//! Nodes that put a model and its prompts together.

use super::super::sampling::cfg;
use super::{model, spec};
use crate::recipe::{Part, Recipe};
use crate::state::SamplerState;
use comfy_diffusion::sampling::{DualStyle, GuidanceRule};
use comfy_graph::{InputSpec, NodeSpec};
use comfy_stage::{Conditioning, Ctx, Data, Guider, Inputs, Node, NodeError, Outputs};
use serde::{Deserialize, Serialize};

/// What a GUIDER link says besides its prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct GuiderRecipe {
    /// The MODEL link's recipe.
    pub model: serde_json::Value,
    rule: Rule,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Rule {
    Single { cfg: f64 },
    Dual { cfg_conds: f64, cfg_cond2_negative: f64, nested: bool },
    Perpendicular { cfg: f64, neg_scale: f64 },
}

/// Prompts that steer, those that are led away from last.
pub(super) const SINGLE_SIDES: [&str; 2] = ["positive", "negative"];
const DUAL_SIDES: [&str; 3] = ["cond1", "cond2", "negative"];
const PERPENDICULAR_SIDES: [&str; 3] = ["positive", "negative", "empty"];

impl GuiderRecipe {
    /// Reads a GUIDER link.
    ///
    /// # Errors
    /// When it carries something else.
    pub(super) fn read(guider: &Guider) -> Result<Self, NodeError> {
        Self::deserialize(&guider.recipe)
            .map_err(|error| NodeError::invalid(format!("the guider cannot be read: {error}")))
    }

    pub(super) fn rule(&self) -> GuidanceRule {
        match self.rule {
            Rule::Single { cfg } => GuidanceRule::Single { cfg },
            Rule::Dual { cfg_conds, cfg_cond2_negative, nested } => {
                let style = if nested { DualStyle::Nested } else { DualStyle::Regular };
                GuidanceRule::Dual { cfg_conds, cfg_cond2_negative, style }
            }
            Rule::Perpendicular { cfg, neg_scale } => GuidanceRule::Perpendicular { cfg, neg_scale },
        }
    }

    /// The names of the sides that the rule joins, in its order.
    pub(super) fn sides(&self) -> &'static [&'static str] {
        match self.rule {
            Rule::Single { .. } => &SINGLE_SIDES,
            Rule::Dual { .. } => &DUAL_SIDES,
            Rule::Perpendicular { .. } => &PERPENDICULAR_SIDES,
        }
    }
}

fn guider_spec(class: &str, description: &str, more: Vec<InputSpec>) -> NodeSpec {
    spec(class, "guiders", "GUIDER", description, [model()].into_iter().chain(more).collect())
}

fn prompt(name: &str) -> InputSpec {
    InputSpec::socket(name, "CONDITIONING")
}

fn guider(inputs: &Inputs, rule: Rule, sides: &[(&str, &Conditioning)]) -> Result<Outputs, NodeError> {
    let link = inputs.recipe("model")?;
    Recipe::read(link, Part::Model)?;
    let recipe = GuiderRecipe { model: link.clone(), rule };
    let recipe = serde_json::to_value(recipe).expect("a guider recipe is plain JSON");
    let sides = sides.iter().map(|(name, entries)| ((*name).to_owned(), (*entries).clone())).collect();
    Ok(Outputs::one(Data::Guider(Guider { recipe, sides })))
}

pub(super) struct BasicGuider;

impl Node<SamplerState> for BasicGuider {
    fn spec(&self) -> NodeSpec {
        let inputs = vec![prompt("conditioning").tooltip("What to draw.")];
        guider_spec("BasicGuider", "Follows a prompt without a negative one.", inputs)
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let positive = inputs.conditioning("conditioning")?;
        guider(inputs, Rule::Single { cfg: 1.0 }, &[("positive", positive)])
    }
}

pub(super) struct CfgGuider;

impl Node<SamplerState> for CfgGuider {
    fn spec(&self) -> NodeSpec {
        let inputs = vec![
            prompt("positive").tooltip("What to draw."),
            prompt("negative").tooltip("What to stay away from."),
            cfg(),
        ];
        guider_spec("CFGGuider", "Follows one prompt and stays away from another.", inputs)
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let (positive, negative) = (inputs.conditioning("positive")?, inputs.conditioning("negative")?);
        let rule = Rule::Single { cfg: inputs.float("cfg")? };
        guider(inputs, rule, &[("positive", positive), ("negative", negative)])
    }
}

pub(super) struct DualCfgGuider;

impl Node<SamplerState> for DualCfgGuider {
    fn spec(&self) -> NodeSpec {
        let strength = |name| InputSpec::float(name, 8.0, (0.0, 100.0), 0.1, Some(0.01));
        let inputs = vec![
            prompt("cond1").tooltip("What to draw."),
            prompt("cond2").tooltip("What the first prompt is measured against."),
            prompt("negative").tooltip("What to stay away from."),
            strength("cfg_conds").tooltip("How strictly to follow the first prompt rather than the second."),
            strength("cfg_cond2_negative").tooltip("How strictly to stay away from the negative prompt."),
            InputSpec::combo("style", &["regular", "nested"]).tooltip("Whether the two are added or nested."),
        ];
        guider_spec("DualCFGGuider", "Follows two prompts, each with its own strength.", inputs)
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let nested = match inputs.text("style")? {
            "regular" => false,
            "nested" => true,
            other => {
                return Err(NodeError::invalid(format!(
                    "input `style` is `{other}`, expected `regular` or `nested`"
                )));
            }
        };
        let (cfg_conds, cfg_cond2_negative) =
            (inputs.float("cfg_conds")?, inputs.float("cfg_cond2_negative")?);
        let rule = Rule::Dual { cfg_conds, cfg_cond2_negative, nested };
        let side = |name| Ok::<_, NodeError>((name, inputs.conditioning(name)?));
        guider(inputs, rule, &[side("cond1")?, side("cond2")?, side("negative")?])
    }
}

pub(super) struct PerpNegGuider;

impl Node<SamplerState> for PerpNegGuider {
    fn spec(&self) -> NodeSpec {
        let inputs = vec![
            prompt("positive").tooltip("What to draw."),
            prompt("negative").tooltip("What to stay away from."),
            prompt("empty_conditioning").tooltip("An empty prompt, which both are measured against."),
            cfg(),
            InputSpec::float("neg_scale", 1.0, (0.0, 100.0), 0.01, None)
                .tooltip("How strictly to stay away from the negative prompt."),
        ];
        let description =
            "Stays away from a prompt without giving up what it has in common with the positive one.";
        let spec = guider_spec("PerpNegGuider", description, inputs);
        NodeSpec { category: "_for_testing".into(), experimental: true, ..spec }
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let rule = Rule::Perpendicular { cfg: inputs.float("cfg")?, neg_scale: inputs.float("neg_scale")? };
        let sides = [
            ("positive", inputs.conditioning("positive")?),
            ("negative", inputs.conditioning("negative")?),
            ("empty", inputs.conditioning("empty_conditioning")?),
        ];
        guider(inputs, rule, &sides)
    }
}
