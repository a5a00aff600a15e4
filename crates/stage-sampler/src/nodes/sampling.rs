//! The samplers: from a latent and prompts to a denoised latent.

use super::{gligen, regions};
use crate::control::{self, Controls};
use crate::model_patches::PatchedModel;
use crate::state::SamplerState;
use crate::{error, memory, model_inputs, preview, tensors};
use candle_core::{DType, Device, Tensor};
use comfy_diffusion::families::{Side, Start};
use comfy_diffusion::sampling::preview::LatentColours;
use comfy_diffusion::sampling::{
    ConditioningEntry, Hooks, ModelInputs, NoisePredictor, SAMPLERS, SCHEDULERS, SampleRequest,
    SamplingError, StepInfo, sample,
};
use comfy_diffusion::{DeepShrink, DiffusionModel, MiddleAttention, UnetChanges};
use comfy_graph::{InputSpec, NodeSpec, OutputSpec};
use comfy_stage::{Conditioning, Ctx, Data, Inputs, Latent, Node, NodeError, Outputs};
use std::cell::Cell;
use std::time::{Duration, Instant};

pub(super) const MAX_STEPS: i128 = 10_000;
/// Previews more often than this are not worth their cost.
const PREVIEW_INTERVAL: Duration = Duration::from_millis(200);
/// Feature maps of the UNet's full-size level that are alive at once, in multiples of its first width.
const COPIES_ALIVE: usize = 12;

pub(super) fn sampler_names() -> InputSpec {
    InputSpec::combo("sampler_name", &SAMPLERS.iter().map(|s| s.name).collect::<Vec<_>>())
        .tooltip("How the noise is removed.")
}

pub(super) fn scheduler_names() -> InputSpec {
    InputSpec::combo("scheduler", &SCHEDULERS.iter().map(|s| s.name).collect::<Vec<_>>())
        .tooltip("How much noise is left after each step.")
}

pub(super) fn cfg() -> InputSpec {
    InputSpec::float("cfg", 8.0, (0.0, 100.0), 0.1, Some(0.01))
        .tooltip("How strictly to follow the prompt. High values overdo it.")
}

pub(super) struct KSampler;

impl Node<SamplerState> for KSampler {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "KSampler".into(),
            display_name: "KSampler".into(),
            description: "Draws: adds noise to a latent and removes it step by step, guided by the prompts."
                .into(),
            category: "sampling".into(),
            version: 1,
            inputs: vec![
                InputSpec::socket("model", "MODEL").tooltip("The diffusion model."),
                InputSpec::seed("seed").tooltip("The same seed gives the same picture."),
                InputSpec::int("steps", 20, (1, MAX_STEPS), 1)
                    .tooltip("More steps take longer and may draw finer."),
                cfg(),
                sampler_names(),
                scheduler_names(),
                InputSpec::socket("positive", "CONDITIONING").tooltip("What to draw."),
                InputSpec::socket("negative", "CONDITIONING").tooltip("What to stay away from."),
                InputSpec::socket("latent_image", "LATENT").tooltip("Where to start."),
                InputSpec::float("denoise", 1.0, (0.0, 1.0), 0.01, None)
                    .tooltip("How much to change; below 1 keeps some of the latent."),
            ],
            outputs: vec![OutputSpec::of("LATENT")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let denoise = inputs.float("denoise")?;
        run_sampler(inputs, "seed", ctx, |request| request.denoise = denoise)
    }
}

pub(super) struct KSamplerAdvanced;

impl Node<SamplerState> for KSamplerAdvanced {
    fn spec(&self) -> NodeSpec {
        let switch = |name| InputSpec::combo(name, &["enable", "disable"]);
        let seed = InputSpec::seed("noise_seed");
        NodeSpec {
            class: "KSamplerAdvanced".into(),
            display_name: "KSampler (Advanced)".into(),
            description: "A sampler that can run a part of its steps, to hand over to another one.".into(),
            category: "sampling".into(),
            version: 1,
            inputs: vec![
                InputSpec::socket("model", "MODEL"),
                switch("add_noise"),
                seed,
                InputSpec::int("steps", 20, (1, MAX_STEPS), 1),
                cfg(),
                sampler_names(),
                scheduler_names(),
                InputSpec::socket("positive", "CONDITIONING"),
                InputSpec::socket("negative", "CONDITIONING"),
                InputSpec::socket("latent_image", "LATENT"),
                InputSpec::int("start_at_step", 0, (0, MAX_STEPS), 1),
                InputSpec::int("end_at_step", MAX_STEPS, (0, MAX_STEPS), 1),
                InputSpec::combo("return_with_leftover_noise", &["disable", "enable"]),
            ],
            outputs: vec![OutputSpec::of("LATENT")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let add_noise = switch(inputs, "add_noise")?;
        let leftover = switch(inputs, "return_with_leftover_noise")?;
        let (start, end) = (inputs.int_as("start_at_step")?, inputs.int_as("end_at_step")?);
        run_sampler(inputs, "noise_seed", ctx, |request| {
            request.add_noise = add_noise;
            request.force_full_denoise = !leftover;
            request.start_step = Some(start);
            request.end_step = Some(end);
        })
    }
}

fn switch(inputs: &Inputs, name: &str) -> Result<bool, NodeError> {
    match inputs.text(name)? {
        "enable" => Ok(true),
        "disable" => Ok(false),
        other => {
            Err(NodeError::invalid(format!("input `{name}` is `{other}`, expected `enable` or `disable`")))
        }
    }
}

/// Lets the sampling half of the engine call a loaded network.
pub(crate) struct Predictor<'a> {
    pub model: &'a DiffusionModel,
    pub changes: UnetChanges<'a>,
    /// Where features are shrunk, and from which noise level down to which.
    pub deep_shrink: &'a [(DeepShrink, [f64; 2])],
}

impl NoisePredictor for Predictor<'_> {
    fn predict(&self, x: &Tensor, timestep: &Tensor, inputs: &ModelInputs) -> Result<Tensor, SamplingError> {
        self.predict_watched(x, timestep, inputs, MiddleAttention::Plain)
    }

    fn predict_watched(
        &self,
        x: &Tensor,
        timestep: &Tensor,
        inputs: &ModelInputs,
        middle: MiddleAttention<'_>,
    ) -> Result<Tensor, SamplingError> {
        let counts =
            |[start, end]: [f64; 2]| inputs.sigma.is_some_and(|sigma| sigma <= start && sigma >= end);
        let deep_shrink: Vec<DeepShrink> =
            self.deep_shrink.iter().filter(|(_, range)| counts(*range)).map(|(shrink, _)| *shrink).collect();
        let changes = UnetChanges { middle, deep_shrink: &deep_shrink, ..self.changes };
        self.model.forward_with(x, timestep, inputs, changes).map_err(|error| match error {
            comfy_diffusion::Error::Tensor(error) => SamplingError::Tensor(error),
            other => SamplingError::Invalid { field: "model", reason: other.to_string() },
        })
    }
}

/// What both samplers do; `adjust` sets what differs.
fn run_sampler(
    inputs: &Inputs,
    seed_input: &str,
    ctx: &Ctx<'_, SamplerState>,
    adjust: impl FnOnce(&mut SampleRequest<'_>),
) -> Result<Outputs, NodeError> {
    let device = &ctx.state.device;
    let patched = PatchedModel::open(ctx.state, inputs.recipe("model")?)?;
    let model = &patched.model;
    let latent = inputs.latent("latent_image")?;
    let samples = tensors::to_device(&latent.samples, device)?;
    require_memory(model, &samples)?;
    let noise_mask = latent.noise_mask.as_ref().map(|mask| tensors::to_device(mask, device)).transpose()?;
    let batch_index =
        latent.batch_index.as_ref().map(|index| index.iter().map(|&i| i as usize).collect::<Vec<_>>());
    let seed = inputs.int_as(seed_input)?;
    let start = Start { latent: &samples, noise_mask: noise_mask.as_ref(), seed };
    let given = (inputs.conditioning("positive")?, inputs.conditioning("negative")?);
    let mut positive = side(given.0, Side::Positive, ctx.state, model, &start)?;
    let mut negative = side(given.1, Side::Negative, ctx.state, model, &start)?;
    let mut controls = Controls::new(ctx.state, model, inputs.recipe("model")?);
    controls.add(&mut positive, given.0)?;
    controls.add(&mut negative, given.1)?;

    let mut request = SampleRequest::new(&samples, &positive, &negative);
    request.noise_mask = noise_mask.as_ref();
    request.batch_index = batch_index.as_deref();
    request.seed = seed;
    request.steps = inputs.int_as("steps")?;
    request.cfg = inputs.float("cfg")?;
    request.sampler = inputs.text("sampler_name")?;
    request.scheduler = inputs.text("scheduler")?;
    adjust(&mut request);

    let predictor = patched.predictor();
    let sampling = patched.sampling(&predictor);
    let colours = LatentColours::of(model.family());
    let last_preview = Cell::new(None::<Instant>);
    let mut on_step = |info: &StepInfo<'_>| report(ctx, info, &colours, &last_preview);
    let cancelled = || ctx.check_cancelled().is_err();
    let hooks = Hooks { on_step: Some(&mut on_step), cancelled: Some(&cancelled) };
    let result = sample(&sampling, &request, hooks).map_err(error::sampling)?;
    Ok(Outputs::one(Data::Latent(Latent { samples: tensors::to_host(&result)?, ..latent.clone() })))
}

pub(super) fn report(
    ctx: &Ctx<'_, SamplerState>,
    info: &StepInfo<'_>,
    colours: &LatentColours,
    last_preview: &Cell<Option<Instant>>,
) {
    let due = last_preview.get().is_none_or(|at| at.elapsed() >= PREVIEW_INTERVAL);
    if ctx.previews
        && due
        && let Some(jpeg) = preview::jpeg(info.denoised, colours)
    {
        ctx.preview("image/jpeg", jpeg);
        last_preview.set(Some(Instant::now()));
    }
    ctx.progress(info.step as u64 + 1, info.total as u64);
}

pub(super) fn require_memory(model: &DiffusionModel, samples: &Tensor) -> Result<(), NodeError> {
    require_memory_of(model, samples.dims())
}

/// Refuses a latent of a shape that the model cannot take or the memory cannot hold.
pub(super) fn require_memory_of(model: &DiffusionModel, shape: &[usize]) -> Result<(), NodeError> {
    let &[batch, channels, height, width] = shape else {
        return Err(NodeError::invalid(format!("a latent has 4 dimensions, got {shape:?}")));
    };
    let config = model.unet().config();
    if channels != model.latent_channels() {
        let want = model.latent_channels();
        return Err(NodeError::invalid(format!(
            "the latent has {channels} channels, this model works on {want}"
        )));
    }
    // Conditional and unconditional halves run as one batch.
    let pixels = batch.saturating_mul(2).saturating_mul(height.saturating_mul(width));
    memory::require("sampling at this size", memory::activations(pixels, config.model_channels, COPIES_ALIVE))
}

/// Brings a side's entries to the device and adds what the model takes besides the text.
pub(super) fn side(
    conditioning: &Conditioning,
    side: Side,
    state: &SamplerState,
    model: &DiffusionModel,
    start: &Start<'_>,
) -> Result<Vec<ConditioningEntry>, NodeError> {
    let mut entries = entries(conditioning, start.latent.device())?;
    for (entry, given) in entries.iter_mut().zip(conditioning) {
        entry.grounding = gligen::grounding(given, state, start.latent.device())?;
    }
    model_inputs::complete(&mut entries, conditioning, side, model, start)?;
    Ok(entries)
}

/// Brings a side's entries to the device.
fn entries(conditioning: &Conditioning, device: &Device) -> Result<Vec<ConditioningEntry>, NodeError> {
    let number = |entry: &comfy_stage::ConditioningEntry, name: &str, default: f64| {
        entry.extras.get(name).and_then(serde_json::Value::as_f64).unwrap_or(default)
    };
    conditioning
        .iter()
        .map(|entry| {
            // What this engine does not apply must not be dropped in silence.
            let known = |name: &&str| {
                regions::APPLIED.contains(name)
                    || model_inputs::NUMBERS.contains(name)
                    || control::is_extra(name)
                    || gligen::APPLIED.contains(name)
                    || [model_inputs::CONCAT_LATENT, model_inputs::CONCAT_MASK, model_inputs::SEEN]
                        .contains(name)
                    || name.starts_with(model_inputs::SEEN_EMBEDS)
            };
            let mut names = entry.extras.keys().chain(entry.tensors.keys()).map(String::as_str);
            if let Some(name) = names.find(|name| !known(name)) {
                return Err(NodeError::invalid(format!(
                    "conditioning with `{name}` is not supported by this sampler"
                )));
            }
            let embedding =
                tensors::to_device(&entry.embedding, device)?.to_dtype(DType::F32).map_err(error::tensor)?;
            Ok(ConditioningEntry {
                area: regions::area(entry)?,
                mask: regions::mask(entry, device)?,
                strength: number(entry, "strength", 1.0),
                start_percent: number(entry, "start_percent", 0.0),
                end_percent: number(entry, "end_percent", 1.0),
                ..ConditioningEntry::new(embedding)
            })
        })
        .collect()
}
