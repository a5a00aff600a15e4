//! Prompts for Stable Diffusion XL with what its networks want to know about the picture.

use super::MAX_SIDE;
use super::conditioning::{clip, embeddings, entry, prompt};
use crate::error;
use crate::state::SamplerState;
use comfy_graph::{InputSpec, NodeSpec, OutputSpec};
use comfy_stage::{Ctx, Data, Inputs, Node, NodeError, Outputs};
use serde_json::json;

fn pixels(name: &str, default: i128) -> InputSpec {
    InputSpec::int(name, default, (0, MAX_SIDE), 1)
}

pub(super) struct ClipTextEncodeSdxl;

impl Node<SamplerState> for ClipTextEncodeSdxl {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "CLIPTextEncodeSDXL".into(),
            display_name: "CLIPTextEncodeSDXL".into(),
            description: "Encodes a prompt for each of the two text encoders of SDXL, with the size of the picture that the model should imagine and the part of it to draw.".into(),
            category: "advanced/conditioning".into(),
            version: 1,
            inputs: vec![
                InputSpec::socket("clip", "CLIP"),
                pixels("width", 1024).tooltip("Width of the imagined original. Small values give a coarse look."),
                pixels("height", 1024).tooltip("Height of the imagined original."),
                pixels("crop_w", 0).tooltip("How far left of the picture the original goes on."),
                pixels("crop_h", 0).tooltip("How far above the picture the original goes on."),
                pixels("target_width", 1024).tooltip("Width of the picture."),
                pixels("target_height", 1024).tooltip("Height of the picture."),
                prompt("text_g").tooltip("For the larger encoder."),
                prompt("text_l").tooltip("For the smaller encoder."),
            ],
            outputs: vec![OutputSpec::of("CONDITIONING")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let (clip, skip) = clip(inputs, ctx)?;
        let texts = [inputs.text("text_l")?, inputs.text("text_g")?];
        let encoding = clip.encode_pair(texts, skip, &embeddings(&texts, ctx)?).map_err(error::engine)?;
        let mut entry = entry(&encoding, ctx)?;
        for name in ["width", "height", "crop_w", "crop_h", "target_width", "target_height"] {
            entry.extras.insert(name.into(), json!(inputs.int_as::<u32>(name)?));
        }
        Ok(Outputs::one(Data::Conditioning(vec![entry])))
    }
}

pub(super) struct ClipTextEncodeSdxlRefiner;

impl Node<SamplerState> for ClipTextEncodeSdxlRefiner {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "CLIPTextEncodeSDXLRefiner".into(),
            display_name: "CLIPTextEncodeSDXLRefiner".into(),
            description: "Encodes a prompt for the SDXL refiner, with the size of the picture and how pleasing it should be.".into(),
            category: "advanced/conditioning".into(),
            version: 1,
            inputs: vec![
                InputSpec::float("ascore", 6.0, (0.0, 1000.0), 0.01, None)
                    .tooltip("Aesthetic score: about 6 for what to draw, 2.5 for what to stay away from."),
                pixels("width", 1024),
                pixels("height", 1024),
                prompt("text"),
                InputSpec::socket("clip", "CLIP"),
            ],
            outputs: vec![OutputSpec::of("CONDITIONING")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let (clip, skip) = clip(inputs, ctx)?;
        let text = inputs.text("text")?;
        let encoding = clip.encode_with(text, skip, &embeddings(&[text], ctx)?).map_err(error::engine)?;
        let mut entry = entry(&encoding, ctx)?;
        entry.extras.insert("aesthetic_score".into(), json!(inputs.float("ascore")?));
        for name in ["width", "height"] {
            entry.extras.insert(name.into(), json!(inputs.int_as::<u32>(name)?));
        }
        Ok(Outputs::one(Data::Conditioning(vec![entry])))
    }
}
