//! Nodes that change how estimates are guided.

use super::model_sampling::{patch, spec};
use crate::state::SamplerState;
use comfy_diffusion::sampling::{AfterGuidance, BeforeGuidance};
use comfy_graph::{InputSpec, NodeSpec, OutputSpec};
use comfy_stage::{Ctx, Inputs, Node, NodeError, Outputs};

pub(super) struct PerturbedAttentionGuidance;

impl Node<SamplerState> for PerturbedAttentionGuidance {
    fn spec(&self) -> NodeSpec {
        let scale = InputSpec::float("scale", 3.0, (0.0, 100.0), 0.01, Some(0.01))
            .tooltip("How far to lead away; 0 leaves the model as it is.");
        let description = "Draws sounder structures by leading away from what the model makes of the prompt when its middle layers do not look around. Costs one more call of the model per step.";
        let class = "PerturbedAttentionGuidance";
        spec(class, class, "model_patches/unet", description, vec![scale])
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let scale = inputs.float("scale")?;
        patch(inputs, |patches| patches.after_guidance.push(AfterGuidance::PerturbedAttention { scale }))
    }
}

pub(super) struct SelfAttentionGuidance;

impl Node<SamplerState> for SelfAttentionGuidance {
    fn spec(&self) -> NodeSpec {
        let inputs = vec![
            InputSpec::float("scale", 0.5, (-2.0, 5.0), 0.01, None).tooltip("How far to lead away."),
            InputSpec::float("blur_sigma", 2.0, (0.0, 10.0), 0.1, None)
                .tooltip("How much to blur the places that the model looks at."),
        ];
        let description = "Draws finer by leading away from what the model makes of the picture when the places it looks at are blurred. Costs one more call of the model per step.";
        let spec =
            spec("SelfAttentionGuidance", "Self-Attention Guidance", "_for_testing", description, inputs);
        NodeSpec { experimental: true, ..spec }
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let (scale, blur_sigma) = (inputs.float("scale")?, inputs.float("blur_sigma")?);
        patch(inputs, |patches| {
            patches.after_guidance.push(AfterGuidance::SelfAttention { scale, blur_sigma });
        })
    }
}

pub(super) struct EpsilonScaling;

impl Node<SamplerState> for EpsilonScaling {
    fn spec(&self) -> NodeSpec {
        let factor = InputSpec::float("scaling_factor", 1.005, (0.5, 1.5), 0.001, None)
            .tooltip("Above 1 a little less noise is taken away in every step.");
        let description =
            "Makes up for errors that add up over the steps by taking away less noise than estimated.";
        spec("Epsilon Scaling", "Epsilon Scaling", "model_patches/unet", description, vec![factor])
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let factor = inputs.float("scaling_factor")?;
        patch(inputs, |patches| patches.after_guidance.push(AfterGuidance::ScaledNoise { factor }))
    }
}

pub(super) struct AdaptiveProjectedGuidance;

impl Node<SamplerState> for AdaptiveProjectedGuidance {
    fn spec(&self) -> NodeSpec {
        let number = |name, default, range, step| InputSpec::float(name, default, range, step, None);
        let inputs = vec![
            number("eta", 1.0, (-10.0, 10.0), 0.01)
                .tooltip("Weight of the guidance along the prompt's own estimate; 1 is that of plain cfg."),
            number("norm_threshold", 5.0, (0.0, 50.0), 0.1).tooltip("Longest guidance; 0 sets no limit."),
            number("momentum", 0.0, (-5.0, 1.0), 0.01)
                .tooltip("Share of the steps before; below 0 the guidance turns away from them."),
        ];
        let description = "Allows a high cfg without colours that burn out.";
        spec("APG", "Adaptive Projected Guidance", "sampling/custom_sampling", description, inputs)
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let (eta, norm_threshold) = (inputs.float("eta")?, inputs.float("norm_threshold")?);
        let projected =
            BeforeGuidance::Projected { eta, norm_threshold, momentum: inputs.float("momentum")? };
        patch(inputs, |patches| patches.before_guidance.push(projected))
    }
}

pub(super) struct FreSca;

impl Node<SamplerState> for FreSca {
    fn spec(&self) -> NodeSpec {
        let factor = |name, default| InputSpec::float(name, default, (0.0, 10.0), 0.01, None);
        let inputs = vec![
            factor("scale_low", 1.0).tooltip("Factor of the slow waves: large shapes."),
            factor("scale_high", 1.25).tooltip("Factor of the fast waves: fine detail."),
            InputSpec::int("freq_cutoff", 20, (1, 10000), 1).tooltip("How many waves count as slow."),
        ];
        let spec =
            spec("FreSca", "FreSca", "_for_testing", "Guides large shapes and fine detail apart.", inputs);
        NodeSpec { experimental: true, ..spec }
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let (low, high) = (inputs.float("scale_low")?, inputs.float("scale_high")?);
        let frequencies = BeforeGuidance::Frequencies { low, high, cutoff: inputs.int_as("freq_cutoff")? };
        patch(inputs, |patches| patches.before_guidance.push(frequencies))
    }
}

/// A node without settings whose output is called `patched_model`.
pub(super) struct PlainPatch {
    class: &'static str,
    name: &'static str,
    category: &'static str,
    experimental: bool,
    description: &'static str,
    kind: PatchKind,
}

enum PatchKind {
    Before(BeforeGuidance),
    After(AfterGuidance),
}

pub(super) static CFG_ZERO_STAR: PlainPatch = PlainPatch {
    class: "CFGZeroStar",
    name: "CFGZeroStar",
    category: "advanced/guidance",
    experimental: false,
    description: "Scales the negative prompt's estimate by how much of the positive one it explains.",
    kind: PatchKind::After(AfterGuidance::ZeroStar),
};

pub(super) static TANGENTIAL_DAMPING: PlainPatch = PlainPatch {
    class: "TCFG",
    name: "Tangential Damping CFG",
    category: "advanced/guidance",
    experimental: false,
    description: "Keeps of the negative prompt's estimate what lies in the direction of both prompts.",
    kind: PatchKind::Before(BeforeGuidance::Tangential),
};

pub(super) static MAHIRO: PlainPatch = PlainPatch {
    class: "Mahiro",
    name: "Mahiro is so cute that she deserves a better guidance function!! (。・ω・。)",
    category: "_for_testing",
    experimental: true,
    description: "Follows where the positive prompt points more than how it differs from the negative one.",
    kind: PatchKind::After(AfterGuidance::Direction),
};

impl Node<SamplerState> for PlainPatch {
    fn spec(&self) -> NodeSpec {
        let spec = spec(self.class, self.name, self.category, self.description, Vec::new());
        let outputs = vec![OutputSpec::new("patched_model", "MODEL")];
        NodeSpec { experimental: self.experimental, outputs, ..spec }
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        patch(inputs, |patches| match self.kind {
            PatchKind::Before(before) => patches.before_guidance.push(before),
            PatchKind::After(after) => patches.after_guidance.push(after),
        })
    }
}
