//! The samplers that take their parts from other nodes.

use super::super::sampling::{cfg, report, require_memory, side};
use super::guiders::{GuiderRecipe, SINGLE_SIDES};
use super::{links, model, noise};
use crate::control::Controls;
use crate::model_patches::PatchedModel;
use crate::state::SamplerState;
use crate::{error, tensors};
use candle_core::Tensor;
use comfy_diffusion::families::{Side, Start};
use comfy_diffusion::sampling::preview::LatentColours;
use comfy_diffusion::sampling::{
    CustomRequest, GuidanceRule, Hooks, Sampler, SamplerOptions, StepInfo, sample_custom,
};
use comfy_graph::{InputSpec, NodeSpec, OutputSpec};
use comfy_stage::{Conditioning, Ctx, Data, Inputs, Latent, Node, NodeError, Outputs};
use std::cell::Cell;
use std::time::Instant;

/// The outputs of both nodes.
fn outputs() -> Vec<OutputSpec> {
    ["output", "denoised_output"].map(|name| OutputSpec::new(name, "LATENT")).to_vec()
}

fn parts() -> [InputSpec; 3] {
    [
        InputSpec::socket("sampler", "SAMPLER").tooltip("How the noise is removed."),
        InputSpec::socket("sigmas", "SIGMAS").tooltip("How much noise is left after each step."),
        InputSpec::socket("latent_image", "LATENT").tooltip("Where to start."),
    ]
}

pub(super) struct SamplerCustom;

impl Node<SamplerState> for SamplerCustom {
    fn spec(&self) -> NodeSpec {
        let inputs = [
            model(),
            InputSpec::boolean("add_noise", true)
                .tooltip("Whether the latent gets noise before it is sampled."),
            InputSpec::seed("noise_seed").tooltip("The same seed gives the same picture."),
            cfg(),
            InputSpec::socket("positive", "CONDITIONING").tooltip("What to draw."),
            InputSpec::socket("negative", "CONDITIONING").tooltip("What to stay away from."),
        ];
        NodeSpec {
            class: "SamplerCustom".into(),
            display_name: "SamplerCustom".into(),
            description: "Samples with a sampler and noise levels from other nodes.".into(),
            category: "sampling/custom_sampling".into(),
            version: 1,
            inputs: inputs.into_iter().chain(parts()).collect(),
            outputs: outputs(),
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let (positive, negative) = (inputs.conditioning("positive")?, inputs.conditioning("negative")?);
        let seed = inputs.int_as("noise_seed")?;
        let noise = inputs.boolean("add_noise")?.then_some(seed);
        let guide = Guide {
            model: inputs.recipe("model")?,
            rule: GuidanceRule::Single { cfg: inputs.float("cfg")? },
            sides: vec![(SINGLE_SIDES[0], positive), (SINGLE_SIDES[1], negative)],
        };
        run(inputs, ctx, &guide, noise, seed)
    }
}

pub(super) struct SamplerCustomAdvanced;

impl Node<SamplerState> for SamplerCustomAdvanced {
    fn spec(&self) -> NodeSpec {
        let inputs = [
            InputSpec::socket("noise", "NOISE").tooltip("What the latent is hidden in."),
            InputSpec::socket("guider", "GUIDER").tooltip("The model and the prompts that steer it."),
        ];
        NodeSpec {
            class: "SamplerCustomAdvanced".into(),
            display_name: "SamplerCustomAdvanced".into(),
            description: "Samples with every part from another node.".into(),
            category: "sampling/custom_sampling".into(),
            version: 1,
            inputs: inputs.into_iter().chain(parts()).collect(),
            outputs: outputs(),
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let guider = inputs.guider("guider")?;
        let recipe = GuiderRecipe::read(guider)?;
        let none = Conditioning::new();
        let sides =
            recipe.sides().iter().map(|name| (*name, guider.sides.get(*name).unwrap_or(&none))).collect();
        let guide = Guide { model: &recipe.model, rule: recipe.rule(), sides };
        let seed = links::read_noise(inputs, "noise")?;
        run(inputs, ctx, &guide, seed, seed.unwrap_or(0))
    }
}

/// A model and what steers it.
struct Guide<'a> {
    model: &'a serde_json::Value,
    rule: GuidanceRule,
    /// Prompts by the name of their side, in the order of the rule.
    sides: Vec<(&'a str, &'a Conditioning)>,
}

/// What both nodes do. The seed is also that of the noise drawn on the way, where the latent itself gets none.
fn run(
    inputs: &Inputs,
    ctx: &Ctx<'_, SamplerState>,
    guide: &Guide<'_>,
    noise_seed: Option<u64>,
    seed: u64,
) -> Result<Outputs, NodeError> {
    let (sampler, options) = links::read_sampler(inputs, "sampler")?;
    let sigmas = links::read_sigmas(inputs, "sigmas")?;
    let latent = inputs.latent("latent_image")?;
    let patched = PatchedModel::open(ctx.state, guide.model)?;
    let device = &ctx.state.device;
    let samples = tensors::to_device(&latent.samples, device)?;
    require_memory(&patched.model, &samples)?;
    require_grown(&patched, &samples, sampler, &options)?;
    let noise_mask = latent.noise_mask.as_ref().map(|mask| tensors::to_device(mask, device)).transpose()?;
    let start = Start { latent: &samples, noise_mask: noise_mask.as_ref(), seed };
    let mut controls = Controls::new(ctx.state, &patched.model, guide.model);
    let sides = guide
        .sides
        .iter()
        .enumerate()
        // Every prompt but the first is one to be led away from.
        .map(|(place, (_, conditioning))| {
            let role = if place == 0 { Side::Positive } else { Side::Negative };
            let mut entries = side(conditioning, role, ctx.state, &patched.model, &start)?;
            controls.add(&mut entries, conditioning)?;
            Ok(entries)
        })
        .collect::<Result<Vec<_>, NodeError>>()?;
    let sides: Vec<_> = sides.iter().map(Vec::as_slice).collect();

    let predictor = patched.predictor();
    let sampling = patched.sampling(&predictor);
    let guide = sampling.guide(&sides, guide.rule).map_err(error::sampling)?;
    let request = CustomRequest {
        latent: &samples,
        noise_mask: noise_mask.as_ref(),
        noise: &noise::generate(noise_seed, latent, &samples)?,
        seed,
        sampler,
        options,
        sigmas: &sigmas,
    };
    let colours = LatentColours::of(patched.model.family());
    let last_preview = Cell::new(None::<Instant>);
    let mut denoised = None::<Tensor>;
    let mut on_step = |info: &StepInfo<'_>| {
        denoised = Some(info.denoised.clone());
        report(ctx, info, &colours, &last_preview);
    };
    let cancelled = || ctx.check_cancelled().is_err();
    let hooks = Hooks { on_step: Some(&mut on_step), cancelled: Some(&cancelled) };
    let result = sample_custom(&sampling, &guide, &request, hooks).map_err(error::sampling)?;
    let output = Latent { samples: tensors::to_host(&result)?, ..latent.clone() };
    let denoised = match denoised {
        // Without a step there is no estimate but the latent itself.
        None => output.clone(),
        Some(denoised) => {
            let scaled = denoised.affine(1.0 / sampling.latent_scale, 0.0).map_err(error::tensor)?;
            Latent { samples: tensors::to_host(&scaled)?, ..latent.clone() }
        }
    };
    Ok(Outputs::many(vec![Data::Latent(output), Data::Latent(denoised)]))
}

/// Refuses a run whose latent would grow beyond the memory.
fn require_grown(
    patched: &PatchedModel,
    samples: &Tensor,
    sampler: &Sampler,
    options: &SamplerOptions,
) -> Result<(), NodeError> {
    let Some(upscale) = options.upscale.filter(|_| sampler.name == "lcm") else { return Ok(()) };
    let side =
        |i: usize| samples.dims().get(i).map_or(0, |side| (*side as f64 * upscale.factor).ceil() as usize);
    let (batch, channels) = (samples.dims().first().copied().unwrap_or(0), samples.dims().get(1).copied());
    let grown = [batch, channels.unwrap_or(0), side(2), side(3)];
    super::super::sampling::require_memory_of(&patched.model, &grown)
}
