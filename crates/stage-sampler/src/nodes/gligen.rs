//! Texts that belong to boxes of the picture.

use super::conditioning::{clip, embeddings, prompt};
use super::loaders::PartLoader;
use crate::model_folders::GLIGEN;
use crate::recipe::{Part, Recipe};
use crate::state::SamplerState;
use crate::{error, tensors};
use candle_core::{Device, Tensor};
use comfy_diffusion::sampling::{BoxPlace, GroundedText};
use comfy_graph::{InputSpec, NodeSpec, OutputSpec};
use comfy_stage::{ConditioningEntry, Ctx, Data, Inputs, Node, NodeError, Outputs};
use serde::{Deserialize, Serialize};

/// The model and the boxes of a prompt.
const BOXES: &str = "gligen";
/// Pooled texts of the boxes, a row each.
const TEXTS: &str = "gligen_texts";
/// What [`grounding`] reads.
pub(super) const APPLIED: [&str; 2] = [BOXES, TEXTS];
/// Pixels per place of the latent.
const LATENT_FACTOR: u32 = 8;

#[derive(Debug, Serialize, Deserialize)]
struct Boxes {
    model: serde_json::Value,
    boxes: Vec<Place>,
}

/// A rectangle of the latent.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Place {
    x: u32,
    y: u32,
    width: u32,
    height: u32,
}

pub(super) static GLIGEN_LOADER: PartLoader = PartLoader {
    class: "GLIGENLoader",
    display_name: "GLIGENLoader",
    description: "Opens a GLIGEN model, which puts texts into boxes of the picture.",
    input: "gligen_name",
    tooltip: "A file in models/gligen.",
    folder: GLIGEN,
    output: "GLIGEN",
    part: Part::Gligen,
};

pub(super) struct GligenTextBoxApply;

impl Node<SamplerState> for GligenTextBoxApply {
    fn spec(&self) -> NodeSpec {
        let side = |name, default, least| InputSpec::int(name, default, (least, 16384), 8);
        NodeSpec {
            class: "GLIGENTextBoxApply".into(),
            display_name: "GLIGENTextBoxApply".into(),
            description: "Says what a box of the picture shows. Several boxes follow each other.".into(),
            category: "conditioning/gligen".into(),
            version: 1,
            inputs: vec![
                InputSpec::socket("conditioning_to", "CONDITIONING")
                    .tooltip("The prompt of the whole picture."),
                InputSpec::socket("clip", "CLIP"),
                InputSpec::socket("gligen_textbox_model", "GLIGEN"),
                prompt("text").tooltip("What the box shows; also a part of the prompt, as a rule."),
                side("width", 64, 8).tooltip("Pixels."),
                side("height", 64, 8).tooltip("Pixels."),
                side("x", 0, 0).tooltip("Pixels from the left."),
                side("y", 0, 0).tooltip("Pixels from the top."),
            ],
            outputs: vec![OutputSpec::of("CONDITIONING")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let model = inputs.recipe("gligen_textbox_model")?;
        Recipe::read(model, Part::Gligen)?;
        let (clip, skip) = clip(inputs, ctx)?;
        let prompt = inputs.text("text")?;
        let encoding = clip.encode_with(prompt, skip, &embeddings(&[prompt], ctx)?).map_err(error::engine)?;
        for warning in &encoding.warnings {
            tracing::warn!(node = ctx.node_id, ?warning, "part of a prompt was left out");
        }
        let text = encoding.unprojected;
        let latent = |name: &str| Ok::<u32, NodeError>(inputs.int_as::<u32>(name)? / LATENT_FACTOR);
        let place =
            Place { x: latent("x")?, y: latent("y")?, width: latent("width")?, height: latent("height")? };
        let mut conditioning = inputs.conditioning("conditioning_to")?.clone();
        for entry in &mut conditioning {
            let mut boxes = read(entry)?.map_or_else(Vec::new, |before| before.boxes);
            boxes.push(place);
            let texts = match entry.tensors.get(TEXTS) {
                None => text.clone(),
                Some(before) => {
                    let before = tensors::to_device(before, text.device())?;
                    Tensor::cat(&[&before, &text], 0).map_err(|_| mixed_encoders())?
                }
            };
            let boxes = Boxes { model: model.clone(), boxes };
            let boxes = serde_json::to_value(boxes).expect("boxes are plain JSON");
            entry.extras.insert(BOXES.into(), boxes);
            entry.tensors.insert(TEXTS.into(), tensors::to_host(&texts)?);
        }
        Ok(Outputs::one(Data::Conditioning(conditioning)))
    }
}

fn mixed_encoders() -> NodeError {
    NodeError::invalid("the texts of the boxes were encoded by different text encoders")
}

fn read(entry: &ConditioningEntry) -> Result<Option<Boxes>, NodeError> {
    let Some(boxes) = entry.extras.get(BOXES) else { return Ok(None) };
    let boxes = Boxes::deserialize(boxes).map_err(|error| {
        NodeError::invalid(format!("the boxes of the conditioning cannot be read: {error}"))
    })?;
    Ok(Some(boxes))
}

/// Returns the boxes of a prompt, with the model that they need.
///
/// # Errors
/// When the model cannot be loaded or the boxes are damaged.
pub(super) fn grounding(
    entry: &ConditioningEntry,
    state: &SamplerState,
    device: &Device,
) -> Result<Option<GroundedText>, NodeError> {
    let Some(Boxes { model, boxes }) = read(entry)? else { return Ok(None) };
    let texts = entry.tensors.get(TEXTS).ok_or_else(|| NodeError::invalid("the boxes have no texts"))?;
    let texts = tensors::to_device(texts, device)?;
    if texts.dims().first() != Some(&boxes.len()) {
        return Err(NodeError::invalid("there are not as many texts as boxes"));
    }
    let place = |(i, place): (usize, &Place)| {
        let text = texts.narrow(0, i, 1).map_err(error::tensor)?;
        let Place { x, y, width, height } = *place;
        Ok(BoxPlace { text, x, y, width, height })
    };
    let boxes = boxes.iter().enumerate().map(place).collect::<Result<_, NodeError>>()?;
    Ok(Some(GroundedText { gligen: state.gligen(&model)?, boxes }))
}
