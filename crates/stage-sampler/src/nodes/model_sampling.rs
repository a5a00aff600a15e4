//! Nodes that change how a model is sampled.

use crate::model_patches::{self, CONTINUOUS, DISCRETE, ModelPatches, PatchTime, SamplingPatch};
use crate::recipe::{Part, Recipe};
use crate::state::SamplerState;
use comfy_diffusion::FreeU;
use comfy_graph::{InputSpec, NodeSpec, OutputSpec};
use comfy_stage::{Ctx, Data, Inputs, Node, NodeError, Outputs};

/// The spec of a node that takes a model and gives it back changed.
pub(super) fn spec(
    class: &str,
    name: &str,
    category: &str,
    description: &str,
    inputs: Vec<InputSpec>,
) -> NodeSpec {
    let model = InputSpec::socket("model", "MODEL").tooltip("The diffusion model.");
    NodeSpec {
        class: class.into(),
        display_name: name.into(),
        description: description.into(),
        category: category.into(),
        version: 1,
        inputs: [model].into_iter().chain(inputs).collect(),
        outputs: vec![OutputSpec::of("MODEL")],
        ..NodeSpec::default()
    }
}

pub(super) fn patch(inputs: &Inputs, change: impl FnOnce(&mut ModelPatches)) -> Result<Outputs, NodeError> {
    let mut recipe = Recipe::read(inputs.recipe("model")?, Part::Model)?;
    change(&mut recipe.patches);
    Ok(Outputs::one(Data::Recipe(recipe.to_json())))
}

pub(super) struct ModelSamplingDiscrete;

impl Node<SamplerState> for ModelSamplingDiscrete {
    fn spec(&self) -> NodeSpec {
        let inputs = vec![
            InputSpec::combo("sampling", &DISCRETE).tooltip("What the network predicts."),
            InputSpec::boolean("zsnr", false).tooltip("Whether it was trained down to pure noise."),
        ];
        let description = "Says what a model predicts, for files that do not say it themselves.";
        spec("ModelSamplingDiscrete", "ModelSamplingDiscrete", "advanced/model", description, inputs)
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let predicts = inputs.text("sampling")?;
        model_patches::prediction(predicts, &DISCRETE)?;
        let zero_terminal_snr = inputs.boolean("zsnr")?;
        let change = SamplingPatch::Discrete { predicts: predicts.into(), zero_terminal_snr };
        patch(inputs, |patches| patches.sampling = Some(change))
    }
}

fn levels(sigma_max: f64, sigma_min: f64) -> [InputSpec; 2] {
    let level = |name, default| InputSpec::exact_float(name, default, (0.0, 1000.0), 0.001);
    [
        level("sigma_max", sigma_max).tooltip("The highest noise level."),
        level("sigma_min", sigma_min).tooltip("The lowest noise level."),
    ]
}

fn continuous(inputs: &Inputs, valid: &[&str], time: PatchTime) -> Result<Outputs, NodeError> {
    let predicts = inputs.text("sampling")?;
    model_patches::prediction(predicts, valid)?;
    let (sigma_min, sigma_max) = (inputs.float("sigma_min")?, inputs.float("sigma_max")?);
    let change = SamplingPatch::Continuous { predicts: predicts.into(), sigma_min, sigma_max, time };
    patch(inputs, |patches| patches.sampling = Some(change))
}

pub(super) struct ModelSamplingContinuousEdm;

impl Node<SamplerState> for ModelSamplingContinuousEdm {
    fn spec(&self) -> NodeSpec {
        let sampling = InputSpec::combo("sampling", &CONTINUOUS).tooltip("What the network predicts.");
        let inputs = [sampling].into_iter().chain(levels(120.0, 0.002)).collect();
        let description = "Samples a model on a continuous range of noise levels, told by their logarithm.";
        let class = "ModelSamplingContinuousEDM";
        spec(class, class, "advanced/model", description, inputs)
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        continuous(inputs, &CONTINUOUS, PatchTime::Edm)
    }
}

pub(super) struct ModelSamplingContinuousV;

const VELOCITY_ONLY: [&str; 1] = ["v_prediction"];

impl Node<SamplerState> for ModelSamplingContinuousV {
    fn spec(&self) -> NodeSpec {
        let sampling = InputSpec::combo("sampling", &VELOCITY_ONLY).tooltip("What the network predicts.");
        let inputs = [sampling].into_iter().chain(levels(500.0, 0.03)).collect();
        let description = "Samples a model on a continuous range of noise levels, told as an angle.";
        let class = "ModelSamplingContinuousV";
        spec(class, class, "advanced/model", description, inputs)
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        continuous(inputs, &VELOCITY_ONLY, PatchTime::Velocity)
    }
}

pub(super) struct RescaleCfg;

impl Node<SamplerState> for RescaleCfg {
    fn spec(&self) -> NodeSpec {
        let multiplier = InputSpec::float("multiplier", 0.7, (0.0, 1.0), 0.01, None)
            .tooltip("How much of the overshoot to take back.");
        let description = "Takes back the contrast that a high cfg adds.";
        spec("RescaleCFG", "RescaleCFG", "advanced/model", description, vec![multiplier])
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let share = inputs.float("multiplier")?;
        patch(inputs, |patches| patches.rescale_cfg = Some(share))
    }
}

pub(super) struct DifferentialDiffusion;

impl Node<SamplerState> for DifferentialDiffusion {
    fn spec(&self) -> NodeSpec {
        let strength = InputSpec::float("strength", 1.0, (0.0, 1.0), 0.01, None)
            .tooltip("How hard the moving edge is.")
            .optional();
        let description = "Reads a soft noise mask as times: the lighter a place, the earlier it changes.";
        let spec = spec(
            "DifferentialDiffusion",
            "Differential Diffusion",
            "_for_testing",
            description,
            vec![strength],
        );
        NodeSpec { experimental: true, ..spec }
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let share = if inputs.get("strength").is_some() { inputs.float("strength")? } else { 1.0 };
        patch(inputs, |patches| patches.differential_diffusion = Some(share))
    }
}

/// `FreeU` and `FreeU_V2`, which differ in their defaults and in what they follow.
pub(super) struct FreeUNode {
    class: &'static str,
    description: &'static str,
    backbone: (f64, f64),
    structured: bool,
}

pub(super) static FREE_U: FreeUNode = FreeUNode {
    class: "FreeU",
    description: "Draws finer by weighing what the network passes on at its two deepest widths.",
    backbone: (1.1, 1.2),
    structured: false,
};

pub(super) static FREE_U_V2: FreeUNode = FreeUNode {
    class: "FreeU_V2",
    description: "FreeU whose weights follow the structure of the picture.",
    backbone: (1.3, 1.4),
    structured: true,
};

impl Node<SamplerState> for FreeUNode {
    fn spec(&self) -> NodeSpec {
        let factor = |name, default| InputSpec::float(name, default, (0.0, 10.0), 0.01, None);
        let inputs = vec![
            factor("b1", self.backbone.0).tooltip("Factor of the features at the deepest width."),
            factor("b2", self.backbone.1).tooltip("Factor of the features at the second width."),
            factor("s1", 0.9).tooltip("Factor of the slow waves skipped to the deepest width."),
            factor("s2", 0.2).tooltip("Factor of the slow waves skipped to the second width."),
        ];
        spec(self.class, self.class, "model_patches/unet", self.description, inputs)
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let pair = |first, second| Ok::<_, NodeError>((inputs.float(first)?, inputs.float(second)?));
        let free_u =
            FreeU { backbone: pair("b1", "b2")?, skip: pair("s1", "s2")?, structured: self.structured };
        patch(inputs, |patches| patches.free_u.push(free_u))
    }
}
