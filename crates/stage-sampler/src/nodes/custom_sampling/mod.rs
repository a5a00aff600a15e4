//! Sampling put together from parts: sampler, noise levels, noise and guide each from their own node.

mod guiders;
mod links;
mod noise;
mod run;
mod samplers;
mod schedulers;
mod sigmas;

use crate::state::SamplerState;
use comfy_graph::{InputSpec, NodeSpec, OutputSpec};
use comfy_stage::Node;

/// Every node of this group.
pub(super) static NODES: &[&dyn Node<SamplerState>] = &[
    &run::SamplerCustom,
    &run::SamplerCustomAdvanced,
    &guiders::BasicGuider,
    &guiders::CfgGuider,
    &guiders::DualCfgGuider,
    &guiders::PerpNegGuider,
    &noise::RandomNoise,
    &noise::DisableNoise,
    &noise::AddNoise,
    &samplers::KSamplerSelect,
    &samplers::SamplerEulerAncestral,
    &samplers::SamplerEulerAncestralCfgPp,
    &samplers::SamplerEulerCfgPp,
    &samplers::SamplerLms,
    &samplers::SamplerDpmpp3mSde,
    &samplers::SamplerDpmpp2mSde,
    &samplers::SamplerDpmppSde,
    &samplers::SamplerDpmpp2sAncestral,
    &samplers::SamplerDpmAdaptive,
    &samplers::SamplerErSde,
    &samplers::SamplerSaSolver,
    &samplers::SamplerLcmUpscale,
    &schedulers::BasicScheduler,
    &schedulers::KarrasScheduler,
    &schedulers::ExponentialScheduler,
    &schedulers::PolyexponentialScheduler,
    &schedulers::LaplaceScheduler,
    &schedulers::VpScheduler,
    &schedulers::BetaSamplingScheduler,
    &schedulers::SdTurboScheduler,
    &schedulers::AlignYourStepsScheduler,
    &schedulers::GitsScheduler,
    &sigmas::SplitSigmas,
    &sigmas::SplitSigmasDenoise,
    &sigmas::FlipSigmas,
    &sigmas::SetFirstSigma,
    &sigmas::ExtendIntermediateSigmas,
    &sigmas::SamplingPercentToSigma,
];

/// The spec of a node with one output that is named after its type.
fn spec(class: &str, kind: &str, output: &str, description: &str, inputs: Vec<InputSpec>) -> NodeSpec {
    NodeSpec {
        class: class.into(),
        display_name: class.into(),
        description: description.into(),
        category: format!("sampling/custom_sampling/{kind}"),
        version: 1,
        inputs,
        outputs: vec![OutputSpec::of(output)],
        ..NodeSpec::default()
    }
}

fn model() -> InputSpec {
    InputSpec::socket("model", "MODEL").tooltip("The diffusion model.")
}
