//! `ImageAddNoise`: here and not with the other image nodes, because the noise is torch's, which this stage draws.

use crate::state::SamplerState;
use crate::{error, memory};
use comfy_artifacts::HostTensor;
use comfy_diffusion::sampling::TorchGenerator;
use comfy_graph::{InputSpec, NodeSpec};
use comfy_stage::{Ctx, Data, FnNode, Inputs, Node, NodeError, Outputs};

pub(super) const NODES: &[&dyn Node<SamplerState>] = &[&FnNode { spec, run }];

fn spec() -> NodeSpec {
    let inputs = vec![
        InputSpec::socket("image", "IMAGE"),
        InputSpec::seed("seed").tooltip("Another seed gives other noise."),
        InputSpec::float("strength", 0.5, (0.0, 1.0), 0.01, None),
    ];
    NodeSpec::new("ImageAddNoise", "image", inputs, &["IMAGE"]).about("Adds noise to pictures.")
}

fn run(inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
    let image = inputs.image("image")?;
    let strength = inputs.float("strength")? as f32;
    memory::require("noise for these pictures", memory::activations(image.data().len(), 1, 3))?;
    let noise = TorchGenerator::new(inputs.int_as("seed")?).randn(image.data().len());
    let noisy = |(sample, noise): (&f32, f32)| (sample + strength * noise).clamp(0.0, 1.0);
    let data = image.data().iter().zip(noise).map(noisy).collect();
    Ok(Outputs::one(Data::Image(HostTensor::new(image.shape().to_vec(), data).map_err(error::bundle)?)))
}
