//! Nodes that calculate with latents.

use super::latent_planes::Planes;
use crate::state::SamplerState;
use comfy_diffusion::sampling::ResizeMethod;
use comfy_graph::{InputSpec, NodeSpec};
use comfy_stage::{Ctx, FnNode, Inputs, Node, NodeError, Outputs};

pub(super) const NODES: &[&dyn Node<SamplerState>] = &[
    &FnNode { spec: add_spec, run: add },
    &FnNode { spec: subtract_spec, run: subtract },
    &FnNode { spec: multiply_spec, run: multiply },
    &FnNode { spec: interpolate_spec, run: interpolate },
    &FnNode { spec: blend_spec, run: blend },
];

const CATEGORY: &str = "latent/advanced";

fn two() -> Vec<InputSpec> {
    vec![InputSpec::socket("samples1", "LATENT"), InputSpec::socket("samples2", "LATENT")]
}

/// Combines two latents sample by sample; the second is brought to the size of the first.
fn combined(
    inputs: &Inputs,
    method: ResizeMethod,
    combine: impl Fn(f32, f32) -> f32,
) -> Result<Outputs, NodeError> {
    let first = inputs.latent("samples1")?;
    let planes = Planes::of(&first.samples)?;
    let other = planes.fit(&Planes::input(inputs, "samples2")?, method)?;
    planes.zipped(&other, combine).output(first)
}

fn add_spec() -> NodeSpec {
    NodeSpec::new("LatentAdd", CATEGORY, two(), &["LATENT"]).about("Adds two latents.")
}

fn add(inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
    combined(inputs, ResizeMethod::Bilinear, |a, b| a + b)
}

fn subtract_spec() -> NodeSpec {
    NodeSpec::new("LatentSubtract", CATEGORY, two(), &["LATENT"])
        .about("Subtracts the second latent from the first.")
}

fn subtract(inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
    combined(inputs, ResizeMethod::Bilinear, |a, b| a - b)
}

fn multiply_spec() -> NodeSpec {
    let factor = InputSpec::float("multiplier", 1.0, (-10.0, 10.0), 0.01, None);
    NodeSpec::new(
        "LatentMultiply",
        CATEGORY,
        vec![InputSpec::socket("samples", "LATENT"), factor],
        &["LATENT"],
    )
    .about("Multiplies a latent by a number.")
}

fn multiply(inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
    let latent = inputs.latent("samples")?;
    let factor = inputs.float("multiplier")? as f32;
    let mut planes = Planes::of(&latent.samples)?;
    planes.data.iter_mut().for_each(|sample| *sample *= factor);
    planes.output(latent)
}

fn blend_spec() -> NodeSpec {
    let factor = InputSpec::float("blend_factor", 0.5, (0.0, 1.0), 0.01, None)
        .tooltip("How much of the first latent is left.");
    NodeSpec::new("LatentBlend", "_for_testing", [two(), vec![factor]].concat(), &["LATENT"])
        .titled("Latent Blend")
        .about("Mixes two latents.")
}

fn blend(inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
    let factor = inputs.float("blend_factor")?;
    let (kept, added) = (factor as f32, (1.0 - factor) as f32);
    combined(inputs, ResizeMethod::Bicubic, |a, b| a * kept + b * added)
}

fn interpolate_spec() -> NodeSpec {
    let ratio = InputSpec::float("ratio", 1.0, (0.0, 1.0), 0.01, None)
        .tooltip("How much of the first latent is left.");
    NodeSpec::new("LatentInterpolate", CATEGORY, [two(), vec![ratio]].concat(), &["LATENT"])
        .about("Mixes the directions and the lengths of two latents apart, so that the result does not fade.")
}

/// # Source
/// Same values as ComfyUI `LatentInterpolate`: a pixel is a vector of channels.
fn interpolate(inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
    let first = inputs.latent("samples1")?;
    let own = Planes::of(&first.samples)?;
    let other = own.fit(&Planes::input(inputs, "samples2")?, ResizeMethod::Bilinear)?;
    let ratio = inputs.float("ratio")?;
    let (kept, added) = (ratio as f32, (1.0 - ratio) as f32);
    let area = own.height * own.width;
    let mut mixed = own.clone();
    for item in 0..own.batch {
        for pixel in 0..area {
            let vector = |planes: &Planes| -> Vec<f32> {
                let start = (item % planes.batch) * planes.item_len() + pixel;
                planes.data[start..].iter().step_by(area).take(planes.channels).copied().collect()
            };
            let (a, b) = (vector(&own), vector(&other));
            let (length_a, length_b) = (length(&a), length(&b));
            let along = |value: f32, length: f32| if length == 0.0 { 0.0 } else { value / length };
            let direction: Vec<f32> = a
                .iter()
                .zip(&b)
                .map(|(a, b)| along(*a, length_a) * kept + along(*b, length_b) * added)
                .collect();
            let reach = length(&direction);
            let scale = length_a * kept + length_b * added;
            let start = item * own.item_len() + pixel;
            let targets = mixed.data[start..].iter_mut().step_by(area);
            targets.zip(direction).for_each(|(target, value)| *target = along(value, reach) * scale);
        }
    }
    mixed.output(first)
}

/// The length of a vector of channels.
fn length(vector: &[f32]) -> f32 {
    vector.iter().map(|value| value * value).sum::<f32>().sqrt()
}
