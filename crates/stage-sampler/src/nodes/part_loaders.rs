//! Loaders of files that hold one part of a model.

use super::loaders::{recipe, recipes};
use crate::error;
use crate::model_folders::{DIFFUSION_MODELS, TEXT_ENCODERS};
use crate::recipe::{OtherFile, Part, WeightDtype};
use crate::state::SamplerState;
use comfy_graph::{InputSpec, NodeSpec, OutputSpec};
use comfy_stage::{Ctx, Data, Inputs, Node, NodeError, Outputs};

const WEIGHT_DTYPES: [&str; 4] = ["default", "fp8_e4m3fn", "fp8_e4m3fn_fast", "fp8_e5m2"];
/// The kinds of text encoder that can be run.
const CLIP_TYPES: [&str; 1] = ["stable_diffusion"];
/// The pairs of text encoders that can be run.
const DUAL_CLIP_TYPES: [&str; 1] = ["sdxl"];
const DEVICES: [&str; 2] = ["default", "cpu"];

pub(super) struct UnetLoader;

impl Node<SamplerState> for UnetLoader {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "UNETLoader".into(),
            display_name: "Load Diffusion Model".into(),
            description: "Opens a diffusion model that is kept in a file of its own.".into(),
            category: "advanced/loaders".into(),
            version: 1,
            inputs: vec![
                InputSpec::file("unet_name", DIFFUSION_MODELS)
                    .tooltip("A file in models/diffusion_models or models/unet."),
                InputSpec::combo("weight_dtype", &WEIGHT_DTYPES).tooltip(
                    "The 8-bit formats round the weights as a smaller file would; `default` uses them as they are.",
                ),
            ],
            outputs: vec![OutputSpec::of("MODEL")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        // The fast kind differs only in how a graphics card multiplies.
        let weight_dtype = match inputs.text("weight_dtype")? {
            "default" => None,
            "fp8_e4m3fn" | "fp8_e4m3fn_fast" => Some(WeightDtype::Fp8E4m3fn),
            "fp8_e5m2" => Some(WeightDtype::Fp8E5m2),
            other => return Err(error::unknown("weight_dtype", other, &WEIGHT_DTYPES)),
        };
        let name = inputs.text("unet_name")?;
        let mut recipe = recipe(name, DIFFUSION_MODELS, Part::Model, ctx)?;
        recipe.weight_dtype = weight_dtype;
        Ok(Outputs::one(Data::Recipe(recipe.to_json())))
    }
}

pub(super) struct ClipLoader;

impl Node<SamplerState> for ClipLoader {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "CLIPLoader".into(),
            display_name: "Load CLIP".into(),
            description: "Opens a text encoder that is kept in a file of its own: CLIP-L for Stable Diffusion 1, CLIP-H for 2, CLIP-G for the refiner of XL."
                .into(),
            category: "advanced/loaders".into(),
            version: 1,
            inputs: vec![
                InputSpec::file("clip_name", TEXT_ENCODERS)
                    .tooltip("A file in models/text_encoders or models/clip."),
                InputSpec::combo("type", &CLIP_TYPES).tooltip("The kind of model that the encoder is for."),
                InputSpec::combo("device", &DEVICES)
                    .optional()
                    .tooltip("Where to encode; text encoders of this stage run on the CPU either way."),
            ],
            outputs: vec![OutputSpec::of("CLIP")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let kind = inputs.text("type")?;
        if !CLIP_TYPES.contains(&kind) {
            return Err(error::unknown("type", kind, &CLIP_TYPES));
        }
        recipes(inputs.text("clip_name")?, TEXT_ENCODERS, &[Part::Clip], ctx)
    }
}

pub(super) struct DualClipLoader;

impl Node<SamplerState> for DualClipLoader {
    fn spec(&self) -> NodeSpec {
        let file =
            |name| InputSpec::file(name, TEXT_ENCODERS).tooltip("One of CLIP-L and CLIP-G, in any order.");
        NodeSpec {
            class: "DualCLIPLoader".into(),
            display_name: "DualCLIPLoader".into(),
            description: "Opens the two text encoders of Stable Diffusion XL, kept in files of their own."
                .into(),
            category: "advanced/loaders".into(),
            version: 1,
            inputs: vec![
                file("clip_name1"),
                file("clip_name2"),
                InputSpec::combo("type", &DUAL_CLIP_TYPES)
                    .tooltip("The kind of model that the encoders are for."),
                InputSpec::combo("device", &DEVICES)
                    .optional()
                    .tooltip("Where to encode; text encoders of this stage run on the CPU either way."),
            ],
            outputs: vec![OutputSpec::of("CLIP")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let kind = inputs.text("type")?;
        if !DUAL_CLIP_TYPES.contains(&kind) {
            return Err(error::unknown("type", kind, &DUAL_CLIP_TYPES));
        }
        let mut first = recipe(inputs.text("clip_name1")?, TEXT_ENCODERS, Part::Clip, ctx)?;
        let second = recipe(inputs.text("clip_name2")?, TEXT_ENCODERS, Part::Clip, ctx)?;
        first.also = Some(OtherFile { file: second.file, fingerprint: second.fingerprint });
        Ok(Outputs::one(Data::Recipe(first.to_json())))
    }
}
