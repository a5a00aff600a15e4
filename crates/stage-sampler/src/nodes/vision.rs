//! Looking at pictures: image encoders, and what prompts are given of what they saw.

use super::loaders::PartLoader;
use crate::model_folders::{CLIP_VISION, STYLE_MODELS};
use crate::model_inputs::{Seen, add_seen};
use crate::recipe::Part;
use crate::state::SamplerState;
use crate::{error, tensors};
use candle_core::Tensor;
use comfy_artifacts::HostTensor;
use comfy_diffusion::vision::{PictureCrop, preprocess};
use comfy_graph::{InputSpec, NodeSpec, OutputSpec};
use comfy_stage::{ClipVisionOutput, ConditioningEntry, Ctx, Data, Inputs, Node, NodeError, Outputs};

const CROPS: [&str; 2] = ["center", "none"];
const STRENGTH_TYPES: [&str; 2] = ["multiply", "attn_bias"];

pub(super) static CLIP_VISION_LOADER: PartLoader = PartLoader {
    class: "CLIPVisionLoader",
    display_name: "Load CLIP Vision",
    description: "Opens a network that looks at pictures.",
    input: "clip_name",
    tooltip: "A file in models/clip_vision.",
    folder: CLIP_VISION,
    output: "CLIP_VISION",
    part: Part::ClipVision,
};

pub(super) struct ClipVisionEncode;

impl Node<SamplerState> for ClipVisionEncode {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "CLIPVisionEncode".into(),
            display_name: "CLIP Vision Encode".into(),
            description: "Looks at pictures: says in numbers what is on them.".into(),
            category: "conditioning".into(),
            version: 1,
            inputs: vec![
                InputSpec::socket("clip_vision", "CLIP_VISION"),
                InputSpec::socket("image", "IMAGE"),
                InputSpec::combo("crop", &CROPS)
                    .tooltip("The network sees a square: the middle of the picture, or all of it, squeezed."),
            ],
            outputs: vec![OutputSpec::of("CLIP_VISION_OUTPUT")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let crop = match inputs.text("crop")? {
            "center" => PictureCrop::Center,
            "none" => PictureCrop::None,
            other => return Err(error::unknown("crop", other, &CROPS)),
        };
        let vision = ctx.state.clip_vision(inputs.recipe("clip_vision")?)?;
        let image = inputs.image("image")?;
        let &[batch, height, width, channels] = image.shape() else {
            return Err(NodeError::invalid(format!("an image has 4 dimensions, got {:?}", image.shape())));
        };
        if channels < 3 || batch * height * width == 0 {
            let shape = image.shape();
            return Err(NodeError::invalid(format!("cannot look at an image of shape {shape:?}")));
        }
        let pictures = tensors::to_device(image, vision.device())?
            .narrow(3, 0, 3)
            .and_then(|t| t.permute((0, 3, 1, 2)))
            .and_then(|t| t.contiguous())
            .map_err(error::tensor)?;
        let mut seen: [Vec<Tensor>; 3] = Default::default();
        for i in 0..batch {
            ctx.check_cancelled()?;
            let one = pictures.narrow(0, i, 1).map_err(error::tensor)?;
            let pixels = preprocess(&one, vision.config().picture_px, crop).map_err(error::engine)?;
            let output = vision.encode(&pixels).map_err(error::engine)?;
            seen[0].push(output.last_hidden_state);
            seen[1].push(output.penultimate_hidden_states);
            seen[2].push(output.image_embeds);
        }
        let joined = |parts: &[Tensor]| -> Result<HostTensor, NodeError> {
            tensors::to_host(&Tensor::cat(parts, 0).map_err(error::tensor)?)
        };
        Ok(Outputs::one(Data::ClipVisionOutput(ClipVisionOutput {
            last_hidden_state: joined(&seen[0])?,
            penultimate_hidden_states: joined(&seen[1])?,
            image_embeds: joined(&seen[2])?,
        })))
    }
}

pub(super) struct UnclipConditioning;

impl Node<SamplerState> for UnclipConditioning {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "unCLIPConditioning".into(),
            display_name: "unCLIPConditioning".into(),
            description: "Shows pictures to a model that draws variations of what it is shown.".into(),
            category: "conditioning".into(),
            version: 1,
            inputs: vec![
                InputSpec::socket("conditioning", "CONDITIONING"),
                InputSpec::socket("clip_vision_output", "CLIP_VISION_OUTPUT"),
                InputSpec::float("strength", 1.0, (-10.0, 10.0), 0.01, None)
                    .tooltip("How much the picture counts; 0 leaves it out."),
                InputSpec::float("noise_augmentation", 0.0, (0.0, 1.0), 0.01, None)
                    .tooltip("Blurs what was seen: higher values vary more."),
            ],
            outputs: vec![OutputSpec::of("CONDITIONING")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let mut conditioning = inputs.conditioning("conditioning")?.clone();
        let seen = Seen {
            strength: inputs.float("strength")?,
            noise_augmentation: inputs.float("noise_augmentation")?,
        };
        let embeds = &inputs.clip_vision_output("clip_vision_output")?.image_embeds;
        if seen.strength != 0.0 {
            conditioning.iter_mut().try_for_each(|entry| add_seen(entry, seen, embeds))?;
        }
        Ok(Outputs::one(Data::Conditioning(conditioning)))
    }
}

pub(super) static STYLE_MODEL_LOADER: PartLoader = PartLoader {
    class: "StyleModelLoader",
    display_name: "Load Style Model",
    description: "Opens a style adapter: it tells a model the style of a picture.",
    input: "style_model_name",
    tooltip: "A file in models/style_models.",
    folder: STYLE_MODELS,
    output: "STYLE_MODEL",
    part: Part::StyleModel,
};

pub(super) struct StyleModelApply;

impl Node<SamplerState> for StyleModelApply {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "StyleModelApply".into(),
            display_name: "Apply Style Model".into(),
            description: "Adds the style of pictures to a prompt, as if it had been described behind it.".into(),
            category: "conditioning/style_model".into(),
            version: 1,
            inputs: vec![
                InputSpec::socket("conditioning", "CONDITIONING"),
                InputSpec::socket("style_model", "STYLE_MODEL"),
                InputSpec::socket("clip_vision_output", "CLIP_VISION_OUTPUT"),
                InputSpec::float("strength", 1.0, (0.0, 10.0), 0.001, None)
                    .tooltip("How much the style counts."),
                InputSpec::combo("strength_type", &STRENGTH_TYPES).tooltip(
                    "`multiply` scales what is added. `attn_bias` is for models that weigh it themselves, which Stable Diffusion does not do.",
                ),
            ],
            outputs: vec![OutputSpec::of("CONDITIONING")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        // The networks of this stage take no bias on their attention, so the other kind adds the style unscaled.
        let strength = match inputs.text("strength_type")? {
            "multiply" => inputs.float("strength")?,
            "attn_bias" => 1.0,
            other => return Err(error::unknown("strength_type", other, &STRENGTH_TYPES)),
        };
        let style = ctx.state.style_model(inputs.recipe("style_model")?)?;
        let seen = &inputs.clip_vision_output("clip_vision_output")?.last_hidden_state;
        let tokens = style.tokens(&tensors::to_device(seen, style.device())?).map_err(error::engine)?;
        let (batch, length, width) = tokens.dims3().map_err(error::tensor)?;
        // The words of all pictures stand behind each other.
        let tokens = tokens
            .reshape((1, batch * length, width))
            .and_then(|tokens| tokens.affine(strength, 0.0))
            .map_err(error::tensor)?;
        let add = |entry: &ConditioningEntry| {
            let text = tensors::to_device(&entry.embedding, tokens.device())?;
            if !matches!(*text.dims(), [1, _, w] if w == width) {
                return Err(NodeError::invalid(format!(
                    "the style model makes text of shape [1, T, {width}], the prompt has {:?}",
                    text.dims()
                )));
            }
            let embedding = tensors::to_host(&Tensor::cat(&[&text, &tokens], 1).map_err(error::tensor)?)?;
            Ok(ConditioningEntry { embedding, ..entry.clone() })
        };
        let entries = inputs.conditioning("conditioning")?.iter().map(add).collect::<Result<_, _>>()?;
        Ok(Outputs::one(Data::Conditioning(entries)))
    }
}
