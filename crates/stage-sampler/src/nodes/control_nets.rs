//! Loaders of control networks, and what steers prompts by them.

use crate::control::{self, ControlRecipe, ControlStep};
use crate::model_folders::CONTROLNETS;
use crate::recipe::{Part, Recipe};
use crate::state::SamplerState;
use comfy_graph::{InputSpec, NodeSpec, OutputSpec};
use comfy_stage::{Ctx, Data, Inputs, Node, NodeError, Outputs};

const CATEGORY: &str = "conditioning/controlnet";

fn name() -> InputSpec {
    InputSpec::file("control_net_name", CONTROLNETS)
        .tooltip("A file in models/controlnet or models/t2i_adapter.")
}

fn network() -> InputSpec {
    InputSpec::socket("control_net", "CONTROL_NET")
}

fn image() -> InputSpec {
    InputSpec::socket("image", "IMAGE").tooltip("What the network looks at, such as edges, depths or a pose.")
}

fn strength() -> InputSpec {
    InputSpec::float("strength", 1.0, (0.0, 10.0), 0.01, None).tooltip("How much the network counts.")
}

pub(super) struct ControlNetLoader;

impl Node<SamplerState> for ControlNetLoader {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "ControlNetLoader".into(),
            display_name: "Load ControlNet Model".into(),
            description: "Opens a network that tells a model what to draw where: a ControlNet, a control-LoRA or a T2I-adapter.".into(),
            category: "loaders".into(),
            version: 1,
            inputs: vec![name()],
            outputs: vec![OutputSpec::of("CONTROL_NET")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        given(&control::found(inputs.text("control_net_name")?, None, ctx)?)
    }
}

pub(super) struct DiffControlNetLoader;

impl Node<SamplerState> for DiffControlNetLoader {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "DiffControlNetLoader".into(),
            display_name: "Load ControlNet Model (diff)".into(),
            description:
                "Opens a ControlNet whose file holds only the differences to a model, which it adds to."
                    .into(),
            category: "loaders".into(),
            version: 1,
            inputs: vec![
                InputSpec::socket("model", "MODEL").tooltip("The model to add the differences to."),
                name(),
            ],
            outputs: vec![OutputSpec::of("CONTROL_NET")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let base = Recipe::read(inputs.recipe("model")?, Part::Model)?;
        given(&control::found(inputs.text("control_net_name")?, Some(base), ctx)?)
    }
}

fn given(recipe: &ControlRecipe) -> Result<Outputs, NodeError> {
    Ok(Outputs::one(Data::Recipe(recipe.to_json())))
}

pub(super) struct ControlNetApply;

impl Node<SamplerState> for ControlNetApply {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "ControlNetApply".into(),
            display_name: "Apply ControlNet (OLD)".into(),
            description: "Steers a prompt by a picture, and the other prompts of the sampler with it.".into(),
            category: CATEGORY.into(),
            version: 1,
            deprecated: true,
            inputs: vec![InputSpec::socket("conditioning", "CONDITIONING"), network(), image(), strength()],
            outputs: vec![OutputSpec::of("CONDITIONING")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let step = step(inputs, (0.0, 1.0))?;
        Ok(Outputs::one(steered(inputs, "conditioning", &step, true)?))
    }
}

pub(super) struct ControlNetApplyAdvanced;

impl Node<SamplerState> for ControlNetApplyAdvanced {
    fn spec(&self) -> NodeSpec {
        let share = |name, default| InputSpec::float(name, default, (0.0, 1.0), 0.001, None);
        NodeSpec {
            class: "ControlNetApplyAdvanced".into(),
            display_name: "Apply ControlNet".into(),
            description: "Steers both prompts by a picture, for a part of the sampling if wanted. Several can follow each other.".into(),
            category: CATEGORY.into(),
            version: 1,
            inputs: vec![
                InputSpec::socket("positive", "CONDITIONING"),
                InputSpec::socket("negative", "CONDITIONING"),
                network(),
                image(),
                strength(),
                share("start_percent", 0.0).tooltip("Share of the sampling at which it begins to count."),
                share("end_percent", 1.0).tooltip("Share of the sampling at which it ceases to count."),
                InputSpec::socket("vae", "VAE")
                    .optional()
                    .tooltip("For networks that look at latents, which those of Stable Diffusion do not."),
            ],
            outputs: vec![
                OutputSpec::new("positive", "CONDITIONING"),
                OutputSpec::new("negative", "CONDITIONING"),
            ],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let step = step(inputs, (inputs.float("start_percent")?, inputs.float("end_percent")?))?;
        let side = |name| steered(inputs, name, &step, false);
        Ok(Outputs::many(vec![side("positive")?, side("negative")?]))
    }
}

fn step(inputs: &Inputs, (start_percent, end_percent): (f64, f64)) -> Result<ControlStep, NodeError> {
    let network = ControlRecipe::read(inputs.recipe("control_net")?)?;
    Ok(ControlStep { network, strength: inputs.float("strength")?, start_percent, end_percent })
}

/// The conditioning of an input with every entry steered; at strength 0 it stays as it is.
fn steered(inputs: &Inputs, name: &str, step: &ControlStep, for_all: bool) -> Result<Data, NodeError> {
    let (mut conditioning, pictures) = (inputs.conditioning(name)?.clone(), inputs.image("image")?);
    if step.strength != 0.0 {
        conditioning.iter_mut().try_for_each(|entry| control::add(entry, step, pictures, for_all))?;
    }
    Ok(Data::Conditioning(conditioning))
}

pub(super) struct SetUnionControlNetType;

/// The kinds of picture that union ControlNets know, in their order, behind the choice not to say.
const TYPES: [&str; 9] = [
    "auto",
    "openpose",
    "depth",
    "hed/pidi/scribble/ted",
    "canny/lineart/anime_lineart/mlsd",
    "normal",
    "segment",
    "tile",
    "repaint",
];

impl Node<SamplerState> for SetUnionControlNetType {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "SetUnionControlNetType".into(),
            display_name: "SetUnionControlNetType".into(),
            description: "Tells a ControlNet that knows several kinds of picture which of them it is shown."
                .into(),
            category: CATEGORY.into(),
            version: 1,
            inputs: vec![
                network(),
                InputSpec::combo("type", &TYPES)
                    .tooltip("With `auto` it is not told. Other ControlNets take no notice."),
            ],
            outputs: vec![OutputSpec::of("CONTROL_NET")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let mut recipe = ControlRecipe::read(inputs.recipe("control_net")?)?;
        let name = inputs.text("type")?;
        let place = TYPES.iter().position(|kind| *kind == name).ok_or_else(|| {
            let choices = TYPES.map(|kind| format!("`{kind}`")).join(", ");
            NodeError::invalid(format!("input `type` is `{name}`, expected one of {choices}"))
        })?;
        recipe.kind = place.checked_sub(1);
        given(&recipe)
    }
}
