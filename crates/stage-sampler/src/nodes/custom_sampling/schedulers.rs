//! Nodes that make noise levels.

use super::super::sampling::{MAX_STEPS, scheduler_names};
use super::{links, model, spec};
use crate::error;
use crate::model_patches::PatchedModel;
use crate::state::SamplerState;
use comfy_diffusion::sampling::sigmas::{self, AlignedModel};
use comfy_diffusion::sampling::{SamplingError, find_scheduler};
use comfy_graph::{InputSpec, NodeSpec};
use comfy_stage::{Ctx, Inputs, Node, NodeError, Outputs};

fn scheduler_spec(class: &str, description: &str, inputs: Vec<InputSpec>) -> NodeSpec {
    spec(class, "schedulers", "SIGMAS", description, inputs)
}

fn one(levels: Result<Vec<f64>, SamplingError>) -> Result<Outputs, NodeError> {
    Ok(Outputs::one(links::sigmas(levels.map_err(error::sampling)?)))
}

fn steps(default: i128, range: (i128, i128)) -> InputSpec {
    InputSpec::int("steps", default, range, 1).tooltip("More steps take longer and may draw finer.")
}

fn denoise() -> InputSpec {
    InputSpec::float("denoise", 1.0, (0.0, 1.0), 0.01, None)
        .tooltip("How much to change; below 1 only the last part of the levels is kept.")
}

/// The ends that are preset to those of Stable Diffusion.
fn ends() -> [InputSpec; 2] {
    let level = |name, default| InputSpec::exact_float(name, default, (0.0, 5000.0), 0.01);
    [
        level("sigma_max", 14.614642).tooltip("The highest noise level."),
        level("sigma_min", 0.0291675).tooltip("The lowest noise level above 0."),
    ]
}

/// The spec of a scheduler that takes steps, ends and a few more figures.
fn figures(class: &str, description: &str, more: Vec<InputSpec>) -> NodeSpec {
    let inputs = [steps(20, (1, MAX_STEPS))].into_iter().chain(ends()).chain(more).collect();
    scheduler_spec(class, description, inputs)
}

fn read_ends(inputs: &Inputs) -> Result<(usize, f64, f64), NodeError> {
    Ok((inputs.int_as("steps")?, inputs.float("sigma_max")?, inputs.float("sigma_min")?))
}

pub(super) struct BasicScheduler;

impl Node<SamplerState> for BasicScheduler {
    fn spec(&self) -> NodeSpec {
        let inputs = vec![model(), scheduler_names(), steps(20, (1, MAX_STEPS)), denoise()];
        scheduler_spec("BasicScheduler", "The noise levels that a KSampler would take.", inputs)
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let scheduler = find_scheduler(inputs.text("scheduler")?).map_err(error::sampling)?;
        let model = PatchedModel::open(ctx.state, inputs.recipe("model")?)?;
        one(sigmas::basic(&model.schedule, scheduler, inputs.int_as("steps")?, inputs.float("denoise")?))
    }
}

pub(super) struct KarrasScheduler;

impl Node<SamplerState> for KarrasScheduler {
    fn spec(&self) -> NodeSpec {
        let rho = InputSpec::exact_float("rho", 7.0, (0.0, 100.0), 0.01).tooltip("Degree of the root.");
        figures("KarrasScheduler", "Levels whose root is evenly spaced.", vec![rho])
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let (steps, max, min) = read_ends(inputs)?;
        one(sigmas::karras(steps, max, min, inputs.float("rho")?))
    }
}

pub(super) struct ExponentialScheduler;

impl Node<SamplerState> for ExponentialScheduler {
    fn spec(&self) -> NodeSpec {
        figures("ExponentialScheduler", "Levels whose logarithm is evenly spaced.", vec![])
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let (steps, max, min) = read_ends(inputs)?;
        one(sigmas::exponential(steps, max, min))
    }
}

pub(super) struct PolyexponentialScheduler;

impl Node<SamplerState> for PolyexponentialScheduler {
    fn spec(&self) -> NodeSpec {
        let rho = InputSpec::exact_float("rho", 1.0, (0.0, 100.0), 0.01).tooltip("Power of the spacing.");
        figures("PolyexponentialScheduler", "Levels whose logarithm follows a power.", vec![rho])
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let (steps, max, min) = read_ends(inputs)?;
        one(sigmas::polyexponential(steps, max, min, inputs.float("rho")?))
    }
}

pub(super) struct LaplaceScheduler;

impl Node<SamplerState> for LaplaceScheduler {
    fn spec(&self) -> NodeSpec {
        let more = vec![
            InputSpec::exact_float("mu", 0.0, (-10.0, 10.0), 0.1).tooltip("Where levels are densest."),
            InputSpec::exact_float("beta", 0.5, (0.0, 10.0), 0.1).tooltip("How far levels spread."),
        ];
        figures("LaplaceScheduler", "Levels that are dense around one of them; they do not end at 0.", more)
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let (steps, max, min) = read_ends(inputs)?;
        one(sigmas::laplace(steps, max, min, inputs.float("mu")?, inputs.float("beta")?))
    }
}

pub(super) struct VpScheduler;

impl Node<SamplerState> for VpScheduler {
    fn spec(&self) -> NodeSpec {
        let inputs = vec![
            steps(20, (1, MAX_STEPS)),
            InputSpec::exact_float("beta_d", 19.9, (0.0, 5000.0), 0.01).tooltip("How fast beta rises."),
            InputSpec::exact_float("beta_min", 0.1, (0.0, 5000.0), 0.01).tooltip("Where beta starts."),
            InputSpec::exact_float("eps_s", 0.001, (0.0, 1.0), 0.0001).tooltip("The earliest time."),
        ];
        scheduler_spec("VPScheduler", "Levels of a variance-preserving process.", inputs)
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let (beta_d, beta_min) = (inputs.float("beta_d")?, inputs.float("beta_min")?);
        one(sigmas::variance_preserving(inputs.int_as("steps")?, beta_d, beta_min, inputs.float("eps_s")?))
    }
}

pub(super) struct BetaSamplingScheduler;

impl Node<SamplerState> for BetaSamplingScheduler {
    fn spec(&self) -> NodeSpec {
        let shape = |name| InputSpec::exact_float(name, 0.6, (0.0, 50.0), 0.01);
        let inputs = vec![
            model(),
            steps(20, (1, MAX_STEPS)),
            shape("alpha").tooltip("Below 1, levels gather at the low end."),
            shape("beta").tooltip("Below 1, levels gather at the high end."),
        ];
        scheduler_spec("BetaSamplingScheduler", "Levels spread by a beta distribution.", inputs)
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let model = PatchedModel::open(ctx.state, inputs.recipe("model")?)?;
        let (alpha, beta) = (inputs.float("alpha")?, inputs.float("beta")?);
        one(sigmas::beta(&model.schedule, inputs.int_as("steps")?, alpha, beta))
    }
}

pub(super) struct SdTurboScheduler;

impl Node<SamplerState> for SdTurboScheduler {
    fn spec(&self) -> NodeSpec {
        let inputs = vec![model(), steps(1, (1, 10)), denoise()];
        scheduler_spec("SDTurboScheduler", "The levels that turbo models were distilled to.", inputs)
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let model = PatchedModel::open(ctx.state, inputs.recipe("model")?)?;
        one(sigmas::turbo(&model.schedule, inputs.int_as("steps")?, inputs.float("denoise")?))
    }
}

pub(super) struct AlignYourStepsScheduler;

impl Node<SamplerState> for AlignYourStepsScheduler {
    fn spec(&self) -> NodeSpec {
        let models = AlignedModel::ALL.map(AlignedModel::name);
        let inputs = vec![
            InputSpec::combo("model_type", &models).tooltip("The family the levels were optimised for."),
            steps(10, (1, MAX_STEPS)),
            denoise(),
        ];
        scheduler_spec("AlignYourStepsScheduler", "Levels optimised for few steps.", inputs)
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let model: AlignedModel = inputs.text("model_type")?.parse().map_err(error::sampling)?;
        one(sigmas::align_your_steps(model, inputs.int_as("steps")?, inputs.float("denoise")?))
    }
}

pub(super) struct GitsScheduler;

impl Node<SamplerState> for GitsScheduler {
    fn spec(&self) -> NodeSpec {
        let coefficient = InputSpec::float("coeff", 1.2, (0.8, 1.5), 0.05, None).tooltip(
            "Which search the levels are from: low puts the steps at high noise, high at low noise.",
        );
        let inputs = vec![coefficient, steps(10, (2, 1000)), denoise()];
        scheduler_spec("GITSScheduler", "Levels found by a search for the best few steps.", inputs)
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        one(sigmas::gits(inputs.float("coeff")?, inputs.int_as("steps")?, inputs.float("denoise")?))
    }
}
