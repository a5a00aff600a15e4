//! Adapters: they change what a model or text encoder is loaded with.

use crate::model_folders::LORAS;
use crate::recipe::{LoraUse, Part, Recipe, WeightChange};
use crate::state::SamplerState;
use comfy_graph::{InputSpec, NodeSpec, OutputSpec};
use comfy_stage::{Ctx, Data, Inputs, Node, NodeError, Outputs};

fn lora_name() -> InputSpec {
    InputSpec::file("lora_name", LORAS).tooltip("A file in models/loras.")
}

fn strength(name: &str) -> InputSpec {
    InputSpec::float(name, 1.0, (-100.0, 100.0), 0.01, None)
        .tooltip("How much of the change to apply. Below zero it works against it, at zero it is left out.")
}

pub(super) struct LoraLoader;

impl Node<SamplerState> for LoraLoader {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "LoraLoader".into(),
            display_name: "Load LoRA".into(),
            description: "Changes a model and its text encoder by a LoRA or one of its kin. Several can follow each other."
                .into(),
            category: "loaders".into(),
            version: 1,
            inputs: vec![
                InputSpec::socket("model", "MODEL"),
                InputSpec::socket("clip", "CLIP"),
                lora_name(),
                strength("strength_model"),
                strength("strength_clip"),
            ],
            outputs: vec![OutputSpec::of("MODEL"), OutputSpec::of("CLIP")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let model = with_lora(inputs, "model", Part::Model, "strength_model", ctx)?;
        let clip = with_lora(inputs, "clip", Part::Clip, "strength_clip", ctx)?;
        Ok(Outputs::many(vec![model, clip]))
    }
}

pub(super) struct LoraLoaderModelOnly;

impl Node<SamplerState> for LoraLoaderModelOnly {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "LoraLoaderModelOnly".into(),
            display_name: "LoraLoaderModelOnly".into(),
            description: "Changes a model by a LoRA or one of its kin and leaves the text encoder alone."
                .into(),
            category: "loaders".into(),
            version: 1,
            inputs: vec![InputSpec::socket("model", "MODEL"), lora_name(), strength("strength_model")],
            outputs: vec![OutputSpec::of("MODEL")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        Ok(Outputs::one(with_lora(inputs, "model", Part::Model, "strength_model", ctx)?))
    }
}

fn with_lora(
    inputs: &Inputs,
    link: &str,
    part: Part,
    strength: &str,
    ctx: &Ctx<'_, SamplerState>,
) -> Result<Data, NodeError> {
    let mut recipe = Recipe::read(inputs.recipe(link)?, part)?;
    let (file, strength) = (inputs.text("lora_name")?, inputs.float(strength)?);
    let fingerprint = ctx.state.files.find(LORAS, file, &|| ctx.check_cancelled())?.fingerprint;
    if strength != 0.0 {
        recipe.changes.push(WeightChange::Lora(LoraUse { file: file.into(), fingerprint, strength }));
    }
    Ok(Data::Recipe(recipe.to_json()))
}
