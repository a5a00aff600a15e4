//! Loaders: they find files and say how to load them; the weights are read by whoever needs them.

use crate::model_files::TINY_VAES;
use crate::model_folders::{CHECKPOINTS, VAE_APPROX, VAES};
use crate::recipe::{Part, Recipe};
use crate::state::SamplerState;
use comfy_graph::{InputSpec, NodeSpec, OutputSpec};
use comfy_stage::{Ctx, Data, Inputs, Node, NodeError, Outputs};

fn checkpoint_name() -> InputSpec {
    InputSpec::file("ckpt_name", CHECKPOINTS).tooltip("A file in models/checkpoints.")
}

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
            inputs: vec![checkpoint_name()],
            outputs: vec![OutputSpec::of("MODEL"), OutputSpec::of("CLIP"), OutputSpec::of("VAE")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let parts = [Part::Model, Part::Clip, Part::Vae];
        recipes(inputs.text("ckpt_name")?, CHECKPOINTS, &parts, ctx)
    }
}

pub(super) struct UnclipCheckpointLoader;

impl Node<SamplerState> for UnclipCheckpointLoader {
    fn spec(&self) -> NodeSpec {
        let vision = OutputSpec::of("CLIP_VISION");
        NodeSpec {
            class: "unCLIPCheckpointLoader".into(),
            display_name: "unCLIPCheckpointLoader".into(),
            description:
                "Opens a checkpoint that draws variations of pictures, with the network that looks at them."
                    .into(),
            category: "loaders".into(),
            version: 1,
            inputs: vec![checkpoint_name()],
            outputs: vec![OutputSpec::of("MODEL"), OutputSpec::of("CLIP"), OutputSpec::of("VAE"), vision],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let parts = [Part::Model, Part::Clip, Part::Vae, Part::ClipVision];
        recipes(inputs.text("ckpt_name")?, CHECKPOINTS, &parts, ctx)
    }
}

pub(super) struct ImageOnlyCheckpointLoader;

impl Node<SamplerState> for ImageOnlyCheckpointLoader {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "ImageOnlyCheckpointLoader".into(),
            display_name: "Image Only Checkpoint Loader (img2vid model)".into(),
            description: "Opens a checkpoint that is steered by pictures alone, without its text encoder."
                .into(),
            category: "loaders/video_models".into(),
            version: 1,
            inputs: vec![
                InputSpec::file("ckpt_name", CHECKPOINTS)
                    .tooltip("A file in models/checkpoints. Video models are not supported."),
            ],
            outputs: ["MODEL", "CLIP_VISION", "VAE"].map(OutputSpec::of).to_vec(),
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let parts = [Part::Model, Part::ClipVision, Part::Vae];
        recipes(inputs.text("ckpt_name")?, CHECKPOINTS, &parts, ctx)
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
            inputs: vec![InputSpec::file("vae_name", VAES).tooltip(
                "A file in models/vae; `taesd` and `taesdxl` are small stand-ins whose two halves are in models/vae_approx.",
            )],
            outputs: vec![OutputSpec::of("VAE")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let name = inputs.text("vae_name")?;
        if TINY_VAES.iter().any(|(tiny, _)| *tiny == name) {
            let (_, fingerprint) = ctx.state.files.find_tiny_vae(name, &|| ctx.check_cancelled())?;
            let recipe = Recipe::new(VAE_APPROX, name, fingerprint, Part::Vae);
            return Ok(Outputs::one(Data::Recipe(recipe.to_json())));
        }
        recipes(name, VAES, &[Part::Vae], ctx)
    }
}

/// A node that opens a file with one part of a model, and nothing else.
pub(super) struct PartLoader {
    pub class: &'static str,
    pub display_name: &'static str,
    pub description: &'static str,
    pub input: &'static str,
    pub tooltip: &'static str,
    pub folder: &'static str,
    pub output: &'static str,
    pub part: Part,
}

impl Node<SamplerState> for PartLoader {
    fn spec(&self) -> NodeSpec {
        let file = InputSpec::file(self.input, self.folder).tooltip(self.tooltip);
        NodeSpec::new(self.class, "loaders", vec![file], &[self.output])
            .titled(self.display_name)
            .about(self.description)
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        recipes(inputs.text(self.input)?, self.folder, &[self.part], ctx)
    }
}

/// Says how to load parts of a file, each on an output of its own.
///
/// # Errors
/// When the folder has no such file.
pub(super) fn recipes(
    name: &str,
    folder: &str,
    parts: &[Part],
    ctx: &Ctx<'_, SamplerState>,
) -> Result<Outputs, NodeError> {
    let link = |part: &Part| Ok(Data::Recipe(recipe(name, folder, *part, ctx)?.to_json()));
    Ok(Outputs::many(parts.iter().map(link).collect::<Result<_, NodeError>>()?))
}

/// Says how to load a part of a file.
///
/// # Errors
/// When the folder has no such file.
pub(super) fn recipe(
    name: &str,
    folder: &str,
    part: Part,
    ctx: &Ctx<'_, SamplerState>,
) -> Result<Recipe, NodeError> {
    let fingerprint = ctx.state.files.find(folder, name, &|| ctx.check_cancelled())?.fingerprint;
    Ok(Recipe::new(folder, name, fingerprint, part))
}
