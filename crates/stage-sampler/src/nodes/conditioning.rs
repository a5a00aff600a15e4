//! Prompts to conditioning.

use crate::model_folders::EMBEDDINGS;
use crate::recipe::{Part, Recipe};
use crate::state::SamplerState;
use crate::{error, tensors};
use comfy_diffusion::text::{
    ClipSkip, ClipTextEncoder, Embedding, EmbeddingSet, TextEncoding, embedding_names,
};
use comfy_graph::{ErrorCode, InputSpec, NodeSpec, OutputSpec};
use comfy_stage::{ConditioningEntry, Ctx, Data, Inputs, Node, NodeError, Outputs};
use std::sync::Arc;

pub(super) struct ClipTextEncode;

impl Node<SamplerState> for ClipTextEncode {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "CLIPTextEncode".into(),
            display_name: "CLIP Text Encode (Prompt)".into(),
            description: "Turns a prompt into the conditioning that steers the sampler. Write `(word:1.2)` to stress a part.".into(),
            category: "conditioning".into(),
            version: 1,
            inputs: vec![
                prompt("text").tooltip("What to draw, or what to stay away from."),
                InputSpec::socket("clip", "CLIP").tooltip("The text encoder of the checkpoint."),
            ],
            outputs: vec![OutputSpec::of("CONDITIONING")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let (clip, skip) = clip(inputs, ctx)?;
        let text = inputs.text("text")?;
        let embeddings = embeddings(&[text], ctx)?;
        let encoding = clip.encode_with(text, skip, &embeddings).map_err(error::engine)?;
        Ok(Outputs::one(Data::Conditioning(vec![entry(&encoding, ctx)?])))
    }
}

/// The text encoder of the input `clip` and where it stops.
pub(super) fn clip(
    inputs: &Inputs,
    ctx: &Ctx<'_, SamplerState>,
) -> Result<(Arc<ClipTextEncoder>, ClipSkip), NodeError> {
    let (clip, skip) = ctx.state.clip(inputs.recipe("clip")?)?;
    Ok((clip, skip.map_or(Ok(ClipSkip::DEFAULT), ClipSkip::new).map_err(error::engine)?))
}

/// A text area for a prompt, which may name embeddings.
pub(super) fn prompt(name: &str) -> InputSpec {
    InputSpec::prompt(name).mentioning("embedding:", EMBEDDINGS)
}

/// The embeddings that prompts name, as far as there are usable files of these names.
///
/// # Errors
/// When the job is no longer wanted, or a file cannot be read for a reason that is not its own.
pub(super) fn embeddings(prompts: &[&str], ctx: &Ctx<'_, SamplerState>) -> Result<EmbeddingSet, NodeError> {
    let mut found = EmbeddingSet::new();
    for name in prompts.iter().flat_map(|prompt| embedding_names(prompt)) {
        let files = &ctx.state.files;
        let Some(file) = files.embedding_file(&name) else { continue };
        let opened = files
            .find(EMBEDDINGS, &file, &|| ctx.check_cancelled())
            .and_then(|file| Embedding::open(&file.path).map_err(error::engine));
        match opened {
            Ok(embedding) => {
                found.insert(name, Arc::new(embedding));
            }
            // A prompt works without a file that is no embedding, as one whose file is missing does. What may be mended
            // without touching the file must not be taken for the result of this prompt.
            Err(error) if !matches!(error.code, ErrorCode::InvalidArgument | ErrorCode::NotFound) => {
                return Err(error);
            }
            Err(error) => tracing::warn!(node = ctx.node_id, file, %error, "an embedding cannot be read"),
        }
    }
    Ok(found)
}

/// An encoded prompt as it goes on a link.
pub(super) fn entry(
    encoding: &TextEncoding,
    ctx: &Ctx<'_, SamplerState>,
) -> Result<ConditioningEntry, NodeError> {
    for warning in &encoding.warnings {
        tracing::warn!(node = ctx.node_id, ?warning, "part of a prompt was left out");
    }
    let pooled = tensors::to_host(&encoding.pooled)?;
    Ok(ConditioningEntry::new(tensors::to_host(&encoding.embedding)?, Some(pooled)))
}

pub(super) struct ClipSetLastLayer;

impl Node<SamplerState> for ClipSetLastLayer {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "CLIPSetLastLayer".into(),
            display_name: "CLIP Set Last Layer".into(),
            description:
                "Stops the text encoder before its last layers (\"clip skip\"); -1 uses all of them.".into(),
            category: "conditioning".into(),
            version: 1,
            inputs: vec![
                InputSpec::socket("clip", "CLIP"),
                InputSpec::int("stop_at_clip_layer", -1, (-24, -1), 1),
            ],
            outputs: vec![OutputSpec::of("CLIP")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let mut recipe = Recipe::read(inputs.recipe("clip")?, Part::Clip)?;
        let layer = inputs.int_as::<i64>("stop_at_clip_layer")?;
        ClipSkip::new(layer).map_err(error::engine)?;
        recipe.clip_skip = Some(layer);
        Ok(Outputs::one(Data::Recipe(recipe.to_json())))
    }
}
