//! Loaders: they find files and say how to load them; the weights are read by whoever needs them.

use crate::model_patches::ModelPatches;
use crate::recipe::{Part, Recipe};
use crate::state::SamplerState;
use comfy_graph::{InputSpec, NodeSpec, OutputSpec};
use comfy_stage::{Ctx, Data, Inputs, Node, NodeError, Outputs};

pub(super) struct CheckpointLoaderSimple;

impl Node<SamplerState> for CheckpointLoaderSimple {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "CheckpointLoaderSimple".into(),
            display_name: "Load Checkpoint".into(),
            description:
                "Opens a checkpoint file: the diffusion model, its text encoder and its autoencoder.".into(),
            category: "loaders".into(),
            version: 1,
            inputs: vec![
                InputSpec::file("ckpt_name", "checkpoints").tooltip("A file in models/checkpoints."),
            ],
            outputs: vec![OutputSpec::of("MODEL"), OutputSpec::of("CLIP"), OutputSpec::of("VAE")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let parts = [Part::Model, Part::Clip, Part::Vae];
        recipes(inputs.text("ckpt_name")?, "checkpoints", &parts, ctx)
    }
}

pub(super) struct VaeLoader;

impl Node<SamplerState> for VaeLoader {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "VAELoader".into(),
            display_name: "Load VAE".into(),
            description: "Opens an autoencoder that is kept in a file of its own.".into(),
            category: "loaders".into(),
            version: 1,
            inputs: vec![InputSpec::file("vae_name", "vae").tooltip("A file in models/vae.")],
            outputs: vec![OutputSpec::of("VAE")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        recipes(inputs.text("vae_name")?, "vae", &[Part::Vae], ctx)
    }
}

fn recipes(
    name: &str,
    folder: &str,
    parts: &[Part],
    ctx: &Ctx<'_, SamplerState>,
) -> Result<Outputs, NodeError> {
    let fingerprint = ctx.state.files.find(folder, name)?.fingerprint;
    let recipe = |&part: &Part| {
        let (folder, file, fingerprint) = (folder.into(), name.into(), fingerprint.clone());
        Data::Recipe(
            Recipe { folder, file, fingerprint, part, clip_skip: None, patches: ModelPatches::default() }
                .to_json(),
        )
    };
    Ok(Outputs::many(parts.iter().map(recipe).collect()))
}
