//! Nodes that cut and change noise levels.

use super::super::sampling::MAX_STEPS;
use super::{links, model, spec};
use crate::error;
use crate::model_patches::PatchedModel;
use crate::state::SamplerState;
use comfy_diffusion::sampling::sigmas::{self, Spacing};
use comfy_graph::{InputSpec, Literal, NodeSpec, OutputSpec};
use comfy_stage::{Ctx, Data, Inputs, Node, NodeError, Outputs};

fn sigmas_spec(class: &str, description: &str, more: Vec<InputSpec>) -> NodeSpec {
    let inputs = [InputSpec::socket("sigmas", "SIGMAS")].into_iter().chain(more).collect();
    spec(class, "sigmas", "SIGMAS", description, inputs)
}

/// The spec of a node that gives the high and the low part of its levels.
fn split_spec(class: &str, description: &str, more: Vec<InputSpec>) -> NodeSpec {
    let outputs = ["high_sigmas", "low_sigmas"].map(|name| OutputSpec::new(name, "SIGMAS")).to_vec();
    NodeSpec { outputs, ..sigmas_spec(class, description, more) }
}

fn halves((high, low): (Vec<f64>, Vec<f64>)) -> Result<Outputs, NodeError> {
    Ok(Outputs::many(vec![links::sigmas(high), links::sigmas(low)]))
}

pub(super) struct SplitSigmas;

impl Node<SamplerState> for SplitSigmas {
    fn spec(&self) -> NodeSpec {
        let step = InputSpec::int("step", 0, (0, MAX_STEPS), 1).tooltip("Steps in the first part.");
        split_spec("SplitSigmas", "Splits noise levels after a number of steps.", vec![step])
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        halves(sigmas::split(&links::read_sigmas(inputs, "sigmas")?, inputs.int_as("step")?))
    }
}

pub(super) struct SplitSigmasDenoise;

impl Node<SamplerState> for SplitSigmasDenoise {
    fn spec(&self) -> NodeSpec {
        let denoise = InputSpec::float("denoise", 1.0, (0.0, 1.0), 0.01, None)
            .tooltip("Share of the steps in the second part.");
        split_spec("SplitSigmasDenoise", "Splits off the last share of the noise levels.", vec![denoise])
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        halves(sigmas::split_denoise(&links::read_sigmas(inputs, "sigmas")?, inputs.float("denoise")?))
    }
}

pub(super) struct FlipSigmas;

impl Node<SamplerState> for FlipSigmas {
    fn spec(&self) -> NodeSpec {
        let description = "Turns noise levels around, to put noise back into a picture.";
        sigmas_spec("FlipSigmas", description, vec![])
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        Ok(Outputs::one(links::sigmas(sigmas::flip(&links::read_sigmas(inputs, "sigmas")?))))
    }
}

pub(super) struct SetFirstSigma;

impl Node<SamplerState> for SetFirstSigma {
    fn spec(&self) -> NodeSpec {
        let sigma = InputSpec::exact_float("sigma", 136.0, (0.0, 20000.0), 0.001).tooltip("The new level.");
        sigmas_spec("SetFirstSigma", "Replaces the first noise level.", vec![sigma])
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let mut levels = links::read_sigmas(inputs, "sigmas")?;
        let Some(first) = levels.first_mut() else {
            return Err(NodeError::invalid("input `sigmas` has no levels, so there is no first one to set"));
        };
        *first = inputs.float("sigma")?;
        Ok(Outputs::one(links::sigmas(levels)))
    }
}

pub(super) struct ExtendIntermediateSigmas;

impl Node<SamplerState> for ExtendIntermediateSigmas {
    fn spec(&self) -> NodeSpec {
        let more = vec![
            InputSpec::int("steps", 2, (1, 100), 1).tooltip("How many steps each step becomes."),
            InputSpec::exact_float("start_at_sigma", -1.0, (-1.0, 20000.0), 0.01)
                .tooltip("Steps from higher levels stay whole; -1 for none."),
            InputSpec::exact_float("end_at_sigma", 12.0, (0.0, 20000.0), 0.01)
                .tooltip("Steps from lower levels stay whole."),
            InputSpec::combo("spacing", &Spacing::ALL.map(Spacing::name)),
        ];
        sigmas_spec("ExtendIntermediateSigmas", "Splits steps within a range into smaller ones.", more)
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let levels = links::read_sigmas(inputs, "sigmas")?;
        let start = inputs.float("start_at_sigma")?;
        let high = if start < 0.0 { f64::INFINITY } else { start };
        let spacing: Spacing = inputs.text("spacing")?.parse().map_err(error::sampling)?;
        let within = (inputs.float("end_at_sigma")?, high);
        let extended = sigmas::extend(&levels, inputs.int_as("steps")?, within, spacing);
        Ok(Outputs::one(links::sigmas(extended.map_err(error::sampling)?)))
    }
}

pub(super) struct SamplingPercentToSigma;

impl Node<SamplerState> for SamplingPercentToSigma {
    fn spec(&self) -> NodeSpec {
        let inputs = vec![
            model(),
            InputSpec::float("sampling_percent", 0.0, (0.0, 1.0), 0.0001, None)
                .tooltip("Share of the sampling that is done, 0 to 1."),
            InputSpec::boolean("return_actual_sigma", false)
                .tooltip("At 0 and 1, give the model's own ends instead of figures beyond them."),
        ];
        let description = "The noise level at which a share of the sampling is done.";
        let spec = spec("SamplingPercentToSigma", "sigmas", "FLOAT", description, inputs);
        NodeSpec { outputs: vec![OutputSpec::new("sigma_value", "FLOAT")], ..spec }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let schedule = PatchedModel::open(ctx.state, inputs.recipe("model")?)?.schedule;
        let percent = inputs.float("sampling_percent")?;
        let level = match inputs.boolean("return_actual_sigma")? {
            true if percent == 0.0 => f64::from(schedule.sigma_max()),
            true if percent == 1.0 => f64::from(schedule.sigma_min()),
            _ => schedule.percent_to_sigma(percent),
        };
        Ok(Outputs::one(Data::Literal(Literal::Float(level))))
    }
}
