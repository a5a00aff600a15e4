//! LATENT_OPERATION links: changes that are described first and done later.

use super::model_sampling;
use crate::state::SamplerState;
use crate::{error, tensors};
use candle_core::Device;
use comfy_diffusion::sampling::{BeforeGuidance, LatentOperation};
use comfy_graph::{InputSpec, NodeSpec};
use comfy_stage::{Ctx, Data, FnNode, Inputs, Latent, Node, NodeError, Outputs};
use serde::Deserialize as _;

pub(super) const NODES: &[&dyn Node<SamplerState>] = &[
    &FnNode { spec: apply_spec, run: apply },
    &FnNode { spec: guidance_spec, run: guidance },
    &FnNode { spec: tonemap_spec, run: tonemap },
    &FnNode { spec: sharpen_spec, run: sharpen },
];

const CATEGORY: &str = "latent/advanced/operations";

fn output(operation: LatentOperation) -> Outputs {
    Outputs::one(Data::Recipe(serde_json::to_value(operation).expect("an operation is plain JSON")))
}

fn operation(inputs: &Inputs) -> Result<LatentOperation, NodeError> {
    LatentOperation::deserialize(inputs.recipe("operation")?)
        .map_err(|error| NodeError::invalid(format!("input `operation` cannot be read: {error}")))
}

fn experimental(spec: NodeSpec) -> NodeSpec {
    NodeSpec { experimental: true, ..spec }
}

fn apply_spec() -> NodeSpec {
    let inputs =
        vec![InputSpec::socket("samples", "LATENT"), InputSpec::socket("operation", "LATENT_OPERATION")];
    experimental(NodeSpec::new("LatentApplyOperation", CATEGORY, inputs, &["LATENT"]))
        .about("Does to a latent what an operation describes.")
}

fn apply(inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
    let latent = inputs.latent("samples")?;
    let samples = tensors::to_device(&latent.samples, &Device::Cpu)?;
    let changed = operation(inputs)?.apply(&samples).map_err(error::sampling)?;
    Ok(Outputs::one(Data::Latent(Latent { samples: tensors::to_host(&changed)?, ..latent.clone() })))
}

fn guidance_spec() -> NodeSpec {
    let class = "LatentApplyOperationCFG";
    let description = "Does to the guidance of every step, which is how the two prompts differ, what an operation describes.";
    let operation = vec![InputSpec::socket("operation", "LATENT_OPERATION")];
    experimental(model_sampling::spec(class, class, CATEGORY, description, operation))
}

fn guidance(inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
    let operation = BeforeGuidance::Operation(operation(inputs)?);
    model_sampling::patch(inputs, |patches| patches.before_guidance.push(operation))
}

fn tonemap_spec() -> NodeSpec {
    let inputs = vec![InputSpec::float("multiplier", 1.0, (0.0, 100.0), 0.01, None)];
    experimental(NodeSpec::new("LatentOperationTonemapReinhard", CATEGORY, inputs, &["LATENT_OPERATION"]))
        .about("Describes a tone curve that tames what sticks out of a latent.")
}

fn tonemap(inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
    Ok(output(LatentOperation::TonemapReinhard { multiplier: inputs.float("multiplier")? }))
}

fn sharpen_spec() -> NodeSpec {
    let inputs = vec![
        InputSpec::int("sharpen_radius", 9, (1, 31), 1),
        InputSpec::float("sigma", 1.0, (0.1, 10.0), 0.1, None),
        InputSpec::float("alpha", 0.1, (0.0, 5.0), 0.01, None).tooltip("How strong."),
    ];
    experimental(NodeSpec::new("LatentOperationSharpen", CATEGORY, inputs, &["LATENT_OPERATION"]))
        .about("Describes a sharpening of latents.")
}

fn sharpen(inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
    let (radius, sigma) = (inputs.int_as("sharpen_radius")?, inputs.float("sigma")?);
    Ok(output(LatentOperation::Sharpen { radius, sigma, alpha: inputs.float("alpha")? }))
}
