//! Nodes that choose a sampler and its options.

use super::super::sampling::sampler_names;
use super::{links, model, spec};
use crate::model_patches::PatchedModel;
use crate::state::SamplerState;
use comfy_diffusion::sampling::{
    CfgPlusPlusForm, NoiseScale, ResizeMethod, SaSolverOptions, SamplerOptions, StepControl, Upscale,
};
use comfy_graph::{InputSpec, NodeSpec};
use comfy_stage::{Ctx, Inputs, Node, NodeError, Outputs};

fn sampler_spec(class: &str, description: &str, inputs: Vec<InputSpec>) -> NodeSpec {
    spec(class, "samplers", "SAMPLER", description, inputs)
}

fn one(name: &str, options: SamplerOptions) -> Result<Outputs, NodeError> {
    Ok(Outputs::one(links::sampler(name, options)?))
}

/// A factor from 0 to `max` that the page shows as it is.
fn factor(name: &str, default: f64, max: f64) -> InputSpec {
    InputSpec::exact_float(name, default, (0.0, max), 0.01)
}

fn eta() -> InputSpec {
    factor("eta", 1.0, 100.0).tooltip("Share of the noise that every step replaces.")
}

fn s_noise() -> InputSpec {
    factor("s_noise", 1.0, 100.0).tooltip("Factor of the noise that is added.")
}

fn noise_device() -> InputSpec {
    InputSpec::combo("noise_device", &["gpu", "cpu"])
        .tooltip("Kept for old workflows: the noise is always the CPU's, so that a seed means one picture.")
}

/// Reads `eta` and `s_noise`.
fn noisy(inputs: &Inputs) -> Result<SamplerOptions, NodeError> {
    Ok(SamplerOptions::noisy(inputs.float("eta")?, inputs.float("s_noise")?))
}

pub(super) struct KSamplerSelect;

impl Node<SamplerState> for KSamplerSelect {
    fn spec(&self) -> NodeSpec {
        sampler_spec("KSamplerSelect", "Chooses a sampler by name.", vec![sampler_names()])
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        one(inputs.text("sampler_name")?, SamplerOptions::default())
    }
}

pub(super) struct SamplerEulerAncestral;

impl Node<SamplerState> for SamplerEulerAncestral {
    fn spec(&self) -> NodeSpec {
        let description = "Euler steps that add fresh noise, with a say in how much.";
        sampler_spec("SamplerEulerAncestral", description, vec![eta(), s_noise()])
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        one("euler_ancestral", noisy(inputs)?)
    }
}

pub(super) struct SamplerEulerAncestralCfgPp;

impl Node<SamplerState> for SamplerEulerAncestralCfgPp {
    fn spec(&self) -> NodeSpec {
        let inputs = vec![factor("eta", 1.0, 1.0), factor("s_noise", 1.0, 10.0)];
        let description = "CFG++ Euler steps that add fresh noise, with a say in how much.";
        let spec = sampler_spec("SamplerEulerAncestralCFGPP", description, inputs);
        NodeSpec { display_name: "SamplerEulerAncestralCFG++".into(), ..spec }
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        one("euler_ancestral_cfg_pp", noisy(inputs)?)
    }
}

pub(super) struct SamplerEulerCfgPp;

impl Node<SamplerState> for SamplerEulerCfgPp {
    fn spec(&self) -> NodeSpec {
        let inputs = vec![InputSpec::combo("version", &["regular", "alternative"])];
        let spec = sampler_spec("SamplerEulerCFGpp", "CFG++ Euler steps in one of two forms.", inputs);
        NodeSpec {
            display_name: "SamplerEulerCFG++".into(),
            category: "_for_testing".into(),
            experimental: true,
            ..spec
        }
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let euler_cfg_pp = match inputs.text("version")? {
            "regular" => CfgPlusPlusForm::Regular,
            "alternative" => CfgPlusPlusForm::Alternative,
            other => {
                return Err(NodeError::invalid(format!(
                    "input `version` is `{other}`, expected `regular` or `alternative`"
                )));
            }
        };
        one("euler_cfg_pp", SamplerOptions { euler_cfg_pp, ..SamplerOptions::default() })
    }
}

pub(super) struct SamplerLms;

impl Node<SamplerState> for SamplerLms {
    fn spec(&self) -> NodeSpec {
        let order = InputSpec::int("order", 4, (1, 100), 1).tooltip("How many steps are remembered.");
        sampler_spec("SamplerLMS", "A linear multistep sampler of a chosen order.", vec![order])
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        one("lms", SamplerOptions { order: Some(inputs.int_as("order")?), ..SamplerOptions::default() })
    }
}

pub(super) struct SamplerDpmpp3mSde;

impl Node<SamplerState> for SamplerDpmpp3mSde {
    fn spec(&self) -> NodeSpec {
        let description = "DPM++ 3M SDE with a say in its noise.";
        sampler_spec("SamplerDPMPP_3M_SDE", description, vec![eta(), s_noise(), noise_device()])
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        one("dpmpp_3m_sde", noisy(inputs)?)
    }
}

pub(super) struct SamplerDpmpp2mSde;

impl Node<SamplerState> for SamplerDpmpp2mSde {
    fn spec(&self) -> NodeSpec {
        let solver = InputSpec::combo("solver_type", &["midpoint", "heun"]);
        let description = "DPM++ 2M SDE with a say in its noise.";
        sampler_spec("SamplerDPMPP_2M_SDE", description, vec![solver, eta(), s_noise(), noise_device()])
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let name = match inputs.text("solver_type")? {
            "midpoint" => "dpmpp_2m_sde",
            "heun" => "dpmpp_2m_sde_heun",
            other => {
                return Err(NodeError::invalid(format!(
                    "input `solver_type` is `{other}`, expected `midpoint` or `heun`"
                )));
            }
        };
        one(name, noisy(inputs)?)
    }
}

pub(super) struct SamplerDpmppSde;

impl Node<SamplerState> for SamplerDpmppSde {
    fn spec(&self) -> NodeSpec {
        let r = factor("r", 0.5, 100.0).tooltip("Where in a step the model is asked again.");
        let description = "DPM++ SDE with a say in its noise.";
        sampler_spec("SamplerDPMPP_SDE", description, vec![eta(), s_noise(), r, noise_device()])
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        one("dpmpp_sde", SamplerOptions { r: Some(inputs.float("r")?), ..noisy(inputs)? })
    }
}

pub(super) struct SamplerDpmpp2sAncestral;

impl Node<SamplerState> for SamplerDpmpp2sAncestral {
    fn spec(&self) -> NodeSpec {
        let description = "DPM++ 2S ancestral with a say in its noise.";
        sampler_spec("SamplerDPMPP_2S_Ancestral", description, vec![eta(), s_noise()])
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        one("dpmpp_2s_ancestral", noisy(inputs)?)
    }
}

pub(super) struct SamplerDpmAdaptive;

impl Node<SamplerState> for SamplerDpmAdaptive {
    fn spec(&self) -> NodeSpec {
        let inputs = vec![
            InputSpec::int("order", 3, (2, 3), 1),
            factor("rtol", 0.05, 100.0).tooltip("Error allowed per step, relative to the latent."),
            factor("atol", 0.0078, 100.0).tooltip("Error allowed per step."),
            factor("h_init", 0.05, 100.0).tooltip("Length of the first step."),
            factor("pcoeff", 0.0, 100.0).tooltip("Weight of the last error in the step length."),
            factor("icoeff", 1.0, 100.0).tooltip("Weight of the summed errors in the step length."),
            factor("dcoeff", 0.0, 100.0).tooltip("Weight of the change of the error in the step length."),
            factor("accept_safety", 0.81, 100.0)
                .tooltip("Steps that would shorten more than this are redone."),
            factor("eta", 0.0, 100.0).tooltip("Share of the noise that every step replaces."),
            s_noise(),
        ];
        let description = "DPM-Solver that chooses its own steps; only the ends of the noise levels count.";
        sampler_spec("SamplerDPMAdaptative", description, inputs)
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let step_control = StepControl {
            relative_tolerance: inputs.float("rtol")?,
            absolute_tolerance: inputs.float("atol")?,
            first_length: inputs.float("h_init")?,
            proportional: inputs.float("pcoeff")?,
            integral: inputs.float("icoeff")?,
            derivative: inputs.float("dcoeff")?,
            accept_from: inputs.float("accept_safety")?,
        };
        let order = Some(inputs.int_as("order")?);
        one("dpm_adaptive", SamplerOptions { order, step_control, ..noisy(inputs)? })
    }
}

pub(super) struct SamplerErSde;

const ER_SDE: &str = "ER-SDE";
const REVERSE_TIME: &str = "Reverse-time SDE";
const ODE: &str = "ODE";

impl Node<SamplerState> for SamplerErSde {
    fn spec(&self) -> NodeSpec {
        let inputs = vec![
            InputSpec::combo("solver_type", &[ER_SDE, REVERSE_TIME, ODE]),
            InputSpec::int("max_stage", 3, (1, 3), 1).tooltip("Highest order of a step."),
            factor("eta", 1.0, 100.0)
                .tooltip("How much noise the reverse-time equation adds. The other kinds do not use it."),
            s_noise(),
        ];
        sampler_spec("SamplerER_SDE", "Extended reverse-time solver in one of three kinds.", inputs)
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let (eta, s_noise) = (inputs.float("eta")?, inputs.float("s_noise")?);
        let (noise_scale, s_noise) = match inputs.text("solver_type")? {
            ER_SDE => (NoiseScale::Extended, s_noise),
            REVERSE_TIME if eta > 0.0 => (NoiseScale::ReverseTime { eta }, s_noise),
            REVERSE_TIME | ODE => (NoiseScale::ReverseTime { eta: 0.0 }, 0.0),
            other => {
                return Err(NodeError::invalid(format!(
                    "input `solver_type` is `{other}`, expected `{ER_SDE}`, `{REVERSE_TIME}` or `{ODE}`"
                )));
            }
        };
        let order = Some(inputs.int_as("max_stage")?);
        let options =
            SamplerOptions { order, noise_scale, s_noise: Some(s_noise), ..SamplerOptions::default() };
        one("er_sde", options)
    }
}

pub(super) struct SamplerSaSolver;

impl Node<SamplerState> for SamplerSaSolver {
    fn spec(&self) -> NodeSpec {
        let share = |name, default| InputSpec::float(name, default, (0.0, 1.0), 0.001, None);
        let inputs = vec![
            model(),
            factor("eta", 1.0, 10.0).tooltip("How much noise is added."),
            share("sde_start_percent", 0.2).tooltip("Share of the sampling at which noise begins."),
            share("sde_end_percent", 0.8).tooltip("Share of the sampling at which noise ends."),
            s_noise(),
            InputSpec::int("predictor_order", 3, (1, 6), 1),
            InputSpec::int("corrector_order", 4, (0, 6), 1).tooltip("0 leaves the corrector out."),
            InputSpec::boolean("use_pece", false).tooltip("Ask the model again after every correction."),
            InputSpec::boolean("simple_order_2", false).tooltip("Simpler weights where the order is 2."),
        ];
        sampler_spec("SamplerSASolver", "Stochastic Adams solver with its orders and noise.", inputs)
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let model = PatchedModel::open(ctx.state, inputs.recipe("model")?)?;
        let level = |name| Ok::<_, NodeError>(model.schedule.percent_to_sigma(inputs.float(name)?));
        let sa_solver = SaSolverOptions {
            noisy: Some((level("sde_start_percent")?, level("sde_end_percent")?)),
            predictor_order: inputs.int_as("predictor_order")?,
            corrector_order: inputs.int_as("corrector_order")?,
            evaluate_corrected: inputs.boolean("use_pece")?,
            simple_order_2: inputs.boolean("simple_order_2")?,
        };
        one("sa_solver", SamplerOptions { sa_solver, ..noisy(inputs)? })
    }
}

pub(super) struct SamplerLcmUpscale;

impl Node<SamplerState> for SamplerLcmUpscale {
    fn spec(&self) -> NodeSpec {
        const METHODS: [ResizeMethod; 5] = [
            ResizeMethod::Bislerp,
            ResizeMethod::NearestExact,
            ResizeMethod::Bilinear,
            ResizeMethod::Area,
            ResizeMethod::Bicubic,
        ];
        let inputs = vec![
            InputSpec::float("scale_ratio", 1.0, (0.1, 20.0), 0.01, None)
                .tooltip("Factor of the sides at the end."),
            InputSpec::int("scale_steps", -1, (-1, 1000), 1)
                .tooltip("In how many steps to grow; -1 takes half of the sampling."),
            InputSpec::combo("upscale_method", &METHODS.map(ResizeMethod::name)),
        ];
        sampler_spec("SamplerLCMUpscale", "Sampling of consistency models that grows the picture.", inputs)
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let steps = inputs.int_as::<i64>("scale_steps")?;
        let upscale = Upscale {
            factor: inputs.float("scale_ratio")?,
            steps: usize::try_from(steps).ok(),
            method: inputs.text("upscale_method")?.parse().map_err(crate::error::sampling)?,
        };
        one("lcm", SamplerOptions { upscale: Some(upscale), ..SamplerOptions::default() })
    }
}
