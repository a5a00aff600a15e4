//! LATENT_OPERATION links: changes that are described first and done later.

use super::latent_math::length;
use super::latent_planes::Planes;
use crate::state::SamplerState;
use comfy_graph::{InputSpec, NodeSpec};
use comfy_stage::{Ctx, Data, FnNode, Inputs, Node, NodeError, Outputs};
use serde::{Deserialize, Serialize};

pub(super) const NODES: &[&dyn Node<SamplerState>] = &[
    &FnNode { spec: apply_spec, run: apply },
    &FnNode { spec: tonemap_spec, run: tonemap },
    &FnNode { spec: sharpen_spec, run: sharpen },
];

const CATEGORY: &str = "latent/advanced/operations";

/// What such a link carries.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "latent_operation", rename_all = "snake_case")]
enum Operation {
    TonemapReinhard { multiplier: f64 },
    Sharpen { radius: usize, sigma: f64, alpha: f64 },
}

impl Operation {
    fn output(self) -> Outputs {
        Outputs::one(Data::Recipe(serde_json::to_value(self).expect("an operation is plain JSON")))
    }

    fn run(self, planes: Planes) -> Result<Planes, NodeError> {
        match self {
            Self::TonemapReinhard { multiplier } => Ok(tonemapped(planes, multiplier)),
            Self::Sharpen { radius, sigma, alpha } => sharpened(planes, radius, sigma, alpha),
        }
    }
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
    let operation = Operation::deserialize(inputs.recipe("operation")?)
        .map_err(|error| NodeError::invalid(format!("input `operation` cannot be read: {error}")))?;
    operation.run(Planes::of(&latent.samples)?)?.output(latent)
}

fn tonemap_spec() -> NodeSpec {
    let inputs = vec![InputSpec::float("multiplier", 1.0, (0.0, 100.0), 0.01, None)];
    experimental(NodeSpec::new("LatentOperationTonemapReinhard", CATEGORY, inputs, &["LATENT_OPERATION"]))
        .about("Describes a tone curve that tames what sticks out of a latent.")
}

fn tonemap(inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
    Ok(Operation::TonemapReinhard { multiplier: inputs.float("multiplier")? }.output())
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
    Ok(Operation::Sharpen { radius, sigma, alpha: inputs.float("alpha")? }.output())
}

/// The length of every pixel's vector of channels, item after item.
fn lengths(planes: &Planes) -> Vec<f32> {
    let area = planes.height * planes.width;
    let pixel = |item: &[f32], at: usize| item[at..].iter().step_by(area).copied().collect::<Vec<_>>();
    planes
        .data
        .chunks_exact(planes.item_len())
        .flat_map(|item| (0..area).map(move |at| length(&pixel(item, at))))
        .collect()
}

/// Changes every sample, knowing the length of its pixel.
fn by_length(planes: &mut Planes, lengths: &[f32], change: impl Fn(f32, f32) -> f32) {
    let (area, item_len) = (planes.height * planes.width, planes.item_len());
    for (i, sample) in planes.data.iter_mut().enumerate() {
        *sample = change(*sample, lengths[i / item_len * area + i % area]);
    }
}

/// # Source
/// Reinhard's curve on lengths; white is five standard deviations above the mean, as in ComfyUI.
fn tonemapped(mut planes: Planes, multiplier: f64) -> Planes {
    let lengths = lengths(&planes);
    let area = planes.height * planes.width;
    let tops: Vec<f64> = lengths
        .chunks_exact(area)
        .map(|lengths| {
            let mean = lengths.iter().map(|l| f64::from(*l)).sum::<f64>() / area as f64;
            let squares: f64 = lengths.iter().map(|l| (f64::from(*l) - mean).powi(2)).sum();
            ((squares / (area as f64 - 1.0)).sqrt() * 5.0 + mean) * multiplier
        })
        .collect();
    let factors: Vec<f32> = lengths
        .iter()
        .enumerate()
        .map(|(i, length)| {
            let (top, length) = (tops[i / area], f64::from(*length));
            if length == 0.0 || top == 0.0 { 0.0 } else { (top / (length + top)) as f32 }
        })
        .collect();
    by_length(&mut planes, &factors, |sample, factor| sample * factor);
    planes
}

/// # Source
/// Same kernel as ComfyUI `LatentOperationSharpen`, on directions; lengths are put back afterwards.
fn sharpened(mut planes: Planes, radius: usize, sigma: f64, alpha: f64) -> Result<Planes, NodeError> {
    /// Keeps a length away from zero.
    const EPSILON: f32 = 1e-6;
    let (height, width) = (planes.height, planes.width);
    if radius >= height.min(width) {
        return Err(NodeError::invalid(format!(
            "a radius of {radius} is too large for a latent of {width}x{height}: its border cannot be mirrored"
        )));
    }
    let lengths: Vec<f32> = lengths(&planes).into_iter().map(|length| length + EPSILON).collect();
    by_length(&mut planes, &lengths, |sample, length| sample / length);
    let weights = window(radius, sigma);
    let strength = alpha * 10.0;
    for plane in planes.data.chunks_exact_mut(height * width) {
        let blurred = blurred(plane, width, &weights);
        for (sample, blurred) in plane.iter_mut().zip(blurred) {
            *sample = (f64::from(*sample) * (1.0 + strength) - blurred * strength) as f32;
        }
    }
    by_length(&mut planes, &lengths, |sample, length| sample * length);
    Ok(planes)
}

/// The weights of one direction; the window spans -1..=1 whatever its radius.
fn window(radius: usize, sigma: f64) -> Vec<f64> {
    let place = |i: usize| i as f64 / radius as f64 - 1.0;
    let weights: Vec<f64> =
        (0..=2 * radius).map(|i| (-place(i).powi(2) / (2.0 * sigma * sigma)).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// Blurs a plane along rows and columns; the border is mirrored.
fn blurred(plane: &[f32], width: usize, weights: &[f64]) -> Vec<f64> {
    let (radius, height) = (weights.len() / 2, plane.len() / width);
    let mirrored = |at: usize, side: usize| {
        let position = at.abs_diff(radius);
        if at >= radius && position >= side { 2 * (side - 1) - position } else { position }
    };
    let taps =
        |at: usize, side: usize| weights.iter().enumerate().map(move |(i, w)| (mirrored(at + i, side), w));
    let across: Vec<f64> = (0..plane.len())
        .map(|i| {
            let row = &plane[i / width * width..][..width];
            taps(i % width, width).map(|(x, weight)| f64::from(row[x]) * weight).sum()
        })
        .collect();
    (0..plane.len())
        .map(|i| taps(i / width, height).map(|(y, weight)| across[y * width + i % width] * weight).sum())
        .collect()
}
