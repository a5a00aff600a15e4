//! Nodes that change how estimates are guided.

use super::model_sampling::{patch, spec};
use crate::state::SamplerState;
use comfy_diffusion::sampling::AfterGuidance;
use comfy_graph::{InputSpec, NodeSpec};
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
