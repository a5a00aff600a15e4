//! Nodes that say where noise comes from, and one that adds it.

use super::{links, model, spec};
use crate::model_patches::PatchedModel;
use crate::state::SamplerState;
use crate::{error, memory, tensors};
use candle_core::Tensor;
use comfy_diffusion::sampling::{add_noise, prepare_noise};
use comfy_graph::{InputSpec, NodeSpec, OutputSpec};
use comfy_stage::{Ctx, Data, Inputs, Latent, Node, NodeError, Outputs};

pub(super) struct RandomNoise;

impl Node<SamplerState> for RandomNoise {
    fn spec(&self) -> NodeSpec {
        let seed = InputSpec::seed("noise_seed").tooltip("The same seed gives the same picture.");
        spec("RandomNoise", "noise", "NOISE", "Fresh noise from a seed.", vec![seed])
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        Ok(Outputs::one(links::noise(Some(inputs.int_as("noise_seed")?))))
    }
}

pub(super) struct DisableNoise;

impl Node<SamplerState> for DisableNoise {
    fn spec(&self) -> NodeSpec {
        let description = "No noise: the latent already has some, or shall get none.";
        spec("DisableNoise", "noise", "NOISE", description, vec![])
    }

    fn run(&self, _inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        Ok(Outputs::one(links::noise(None)))
    }
}

/// Draws the noise for a latent; zeros without a seed.
pub(super) fn generate(seed: Option<u64>, latent: &Latent, samples: &Tensor) -> Result<Tensor, NodeError> {
    let Some(seed) = seed else {
        return samples.zeros_like().map_err(error::tensor);
    };
    let places =
        latent.batch_index.as_ref().map(|index| index.iter().map(|&i| i as usize).collect::<Vec<_>>());
    prepare_noise(samples, seed, places.as_deref()).map_err(error::sampling)
}

pub(super) struct AddNoise;

impl Node<SamplerState> for AddNoise {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "AddNoise".into(),
            display_name: "AddNoise".into(),
            description: "Adds the noise of a stretch of levels to a latent.".into(),
            category: "_for_testing/custom_sampling/noise".into(),
            version: 1,
            inputs: vec![
                model(),
                InputSpec::socket("noise", "NOISE"),
                InputSpec::socket("sigmas", "SIGMAS")
                    .tooltip("The noise spans from the first to the last level."),
                InputSpec::socket("latent_image", "LATENT"),
            ],
            outputs: vec![OutputSpec::of("LATENT")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let levels = links::read_sigmas(inputs, "sigmas")?;
        let latent = inputs.latent("latent_image")?;
        let model = PatchedModel::open(ctx.state, inputs.recipe("model")?)?;
        memory::require("noise of this size", memory::activations(latent.samples.data().len(), 1, 4))?;
        let samples = tensors::to_device(&latent.samples, &ctx.state.device)?;
        let noise = generate(links::read_noise(inputs, "noise")?, latent, &samples)?;
        let noisy =
            add_noise(&samples, &noise, &levels, model.model.latent_scale()).map_err(error::sampling)?;
        Ok(Outputs::one(Data::Latent(Latent { samples: tensors::to_host(&noisy)?, ..latent.clone() })))
    }
}
