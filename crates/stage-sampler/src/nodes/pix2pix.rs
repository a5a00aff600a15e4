//! Conditioning on a picture that is to be changed by an instruction.

use super::vae::encode;
use crate::model_inputs::{CONCAT_LATENT, attach};
use crate::state::SamplerState;
use comfy_artifacts::HostTensor;
use comfy_graph::{InputSpec, NodeSpec, OutputSpec};
use comfy_stage::{Ctx, Data, Inputs, Latent, Node, NodeError, Outputs};

pub(super) struct InstructPixToPixConditioning;

impl Node<SamplerState> for InstructPixToPixConditioning {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "InstructPixToPixConditioning".into(),
            display_name: "InstructPixToPixConditioning".into(),
            description: "Shows a picture to a model that changes pictures as the prompt says, and makes an empty latent of its size.".into(),
            category: "conditioning/instructpix2pix".into(),
            version: 1,
            inputs: vec![
                InputSpec::socket("positive", "CONDITIONING"),
                InputSpec::socket("negative", "CONDITIONING"),
                InputSpec::socket("vae", "VAE"),
                InputSpec::socket("pixels", "IMAGE"),
            ],
            outputs: vec![
                OutputSpec::new("positive", "CONDITIONING"),
                OutputSpec::new("negative", "CONDITIONING"),
                OutputSpec::new("latent", "LATENT"),
            ],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let vae = ctx.state.vae(inputs.recipe("vae")?)?;
        let image = encode(&vae, inputs.image("pixels")?, ctx)?;
        let side = |name| attach(inputs, name, &[(CONCAT_LATENT, &image)]);
        let (positive, negative) = (side("positive")?, side("negative")?);
        let latent = Data::Latent(Latent::new(HostTensor::full(image.shape().to_vec(), 0.0)));
        Ok(Outputs::many(vec![positive, negative, latent]))
    }
}
