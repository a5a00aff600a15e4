//! Saving models with everything that was changed about them.

use crate::error;
use crate::recipe::{Part, Recipe};
use crate::state::SamplerState;
use comfy_artifacts::saves::Series;
use comfy_artifacts::{FilePrefix, Folder, NamedFile, SaveKey, workflow_texts};
use comfy_diffusion::SavedFile;
use comfy_graph::{InputSpec, NodeSpec};
use comfy_stage::{Ctx, Inputs, Node, NodeError, Outputs};
use serde_json::json;

/// The parts that a node saves, by the names of its inputs.
pub(super) struct SaveNode {
    class: &'static str,
    display_name: &'static str,
    description: &'static str,
    prefix: &'static str,
    inputs: &'static [(&'static str, &'static str)],
    files: fn(&Inputs, &SamplerState) -> Result<Vec<NamedPart>, NodeError>,
}

/// What is written to one file, and what is put behind the prefix of its name.
type NamedPart = (&'static str, SavedFile);

pub(super) static CHECKPOINT: SaveNode = SaveNode {
    class: "CheckpointSave",
    display_name: "Save Checkpoint",
    description: "Writes a model, its text encoders and its autoencoder to one file, as they are now.",
    prefix: "checkpoints/ComfyUI",
    inputs: &[("model", "MODEL"), ("clip", "CLIP"), ("vae", "VAE")],
    files: |inputs, state| {
        let (model, text) = (recipe(inputs, "model", Part::Model)?, recipe(inputs, "clip", Part::Clip)?);
        let vae = state.vae_file(&recipe(inputs, "vae", Part::Vae)?)?;
        let (model, text) = (state.model_source(&model)?, state.text_source(&text)?);
        Ok(vec![("", SavedFile::checkpoint(&model, &text, &vae).map_err(error::engine)?)])
    },
};
pub(super) static MODEL: SaveNode = SaveNode {
    class: "ModelSave",
    display_name: "ModelSave",
    description: "Writes a diffusion model to a file, as it is now.",
    prefix: "diffusion_models/ComfyUI",
    inputs: &[("model", "MODEL")],
    files: |inputs, state| {
        let model = state.model_source(&recipe(inputs, "model", Part::Model)?)?;
        Ok(vec![("", SavedFile::model(&model).map_err(error::engine)?)])
    },
};
pub(super) static CLIP: SaveNode = SaveNode {
    class: "CLIPSave",
    display_name: "CLIPSave",
    description: "Writes each text encoder to a file of its own, as it is now.",
    prefix: "clip/ComfyUI",
    inputs: &[("clip", "CLIP")],
    files: |inputs, state| {
        let text = state.text_source(&recipe(inputs, "clip", Part::Clip)?)?;
        SavedFile::text_encoders(&text).map_err(error::engine)
    },
};
pub(super) static VAE: SaveNode = SaveNode {
    class: "VAESave",
    display_name: "VAESave",
    description: "Writes an autoencoder to a file.",
    prefix: "vae/ComfyUI_vae",
    inputs: &[("vae", "VAE")],
    files: |inputs, state| {
        let vae = state.vae_file(&recipe(inputs, "vae", Part::Vae)?)?;
        Ok(vec![("", SavedFile::vae(&vae).map_err(error::engine)?)])
    },
};

fn recipe(inputs: &Inputs, name: &str, part: Part) -> Result<Recipe, NodeError> {
    Recipe::read(inputs.recipe(name)?, part)
}

impl Node<SamplerState> for SaveNode {
    fn spec(&self) -> NodeSpec {
        let sockets = self.inputs.iter().map(|(name, socket)| InputSpec::socket(name, socket));
        let prefix = InputSpec::text("filename_prefix", self.prefix)
            .tooltip("Beginning of the file's name within the output folder. May hold subfolders and the date: %year%, %month%, %day%, %hour%, %minute%, %second%.");
        let hidden =
            [("prompt", "PROMPT"), ("extra_pnginfo", "EXTRA_PNGINFO")].map(|(n, s)| InputSpec::hidden(n, s));
        NodeSpec {
            class: self.class.into(),
            display_name: self.display_name.into(),
            description: self.description.into(),
            category: "advanced/model_merging".into(),
            version: 1,
            inputs: sockets.chain([prefix]).chain(hidden).collect(),
            output_node: true,
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let prefix = inputs.text("filename_prefix")?;
        // A model has no size in pixels.
        let prefix = FilePrefix::new(prefix, (0, 0), &chrono::Local::now()).of_picture(0);
        let texts = workflow_texts(ctx.prompt_json, ctx.extra_pnginfo_json)
            .map_err(|error| NodeError::invalid(error.to_string()))?;
        let mut saved = Vec::new();
        for (name, mut file) in (self.files)(inputs, ctx.state)? {
            file.metadata(texts.iter().cloned());
            let prefix = if name.is_empty() { prefix.clone() } else { format!("{prefix}_{name}") };
            saved.push(save(&file, name, &prefix, ctx)?);
        }
        Ok(Outputs::ui(json!({ "files": saved })))
    }
}

/// Writes a file beside its place and then gives it its name. Running it again for the same job adds no file.
fn save(
    file: &SavedFile,
    part: &str,
    prefix: &str,
    ctx: &Ctx<'_, SamplerState>,
) -> Result<NamedFile, NodeError> {
    let saves = ctx.state.saves()?;
    let series = Series { folder: Folder::Output, prefix, suffix: "_.safetensors" };
    let scratch = saves.scratch(&series)?;
    let written = file.write(scratch.path(), &mut |done, total| {
        ctx.progress(done, total);
        ctx.check_cancelled().map_err(Stopped::Node)
    });
    written.map_err(|stopped| match stopped {
        Stopped::Engine(error) => error::engine(error),
        Stopped::Node(error) => error,
    })?;
    tracing::info!(node = ctx.node_id, prefix, bytes = file.bytes(), "model written");
    // A node may save several files, each of them once; the prefix may hold the time, which another attempt changes.
    let SaveKey { job, node } = ctx.save_key();
    Ok(saves.save_file(&SaveKey { job, node: format!("{node}#{part}") }, &series, scratch)?)
}

/// Why writing ended early.
enum Stopped {
    Engine(comfy_diffusion::Error),
    Node(NodeError),
}

impl From<comfy_diffusion::Error> for Stopped {
    fn from(error: comfy_diffusion::Error) -> Self {
        Self::Engine(error)
    }
}
