//! Recorded results of ComfyUI's node functions: their arguments, made anew, and what they gave.

use anyhow::{Context as _, Result, bail};
use comfy_artifacts::HostTensor;
use comfy_graph::Literal;
use comfy_stage::{Data, Latent};
use serde_json::Value;
use std::collections::BTreeMap;

/// One call of a node.
#[derive(Debug)]
pub struct Golden {
    pub name: String,
    pub node: String,
    pub inputs: Vec<(String, Data)>,
    pub outputs: Vec<Expected>,
}

/// One thing that the call gave.
#[derive(Debug)]
pub enum Expected {
    Tensor {
        name: String,
        tensor: HostTensor,
    },
    Number(i128),
    /// The `batch_index` of a latent.
    BatchIndex(Vec<u64>),
}

/// Reads a manifest and the safetensors file that it points into.
///
/// # Errors
/// When they do not fit each other.
pub fn read(manifest: &str, tensors: &[u8]) -> Result<Vec<Golden>> {
    let manifest: BTreeMap<String, Value> = serde_json::from_str(manifest)?;
    let file = safetensors::SafeTensors::deserialize(tensors)?;
    manifest.into_iter().map(|(name, case)| golden(&file, &name, &case).context(name)).collect()
}

fn golden(file: &safetensors::SafeTensors<'_>, name: &str, case: &Value) -> Result<Golden> {
    let node = case["node"].as_str().context("no node")?.to_owned();
    let args = case["args"].as_object().context("no arguments")?;
    let inputs =
        args.iter().map(|(arg, value)| Ok((arg.clone(), argument(arg, value)?))).collect::<Result<_>>()?;
    let outs = case["out"].as_array().context("no results")?;
    let outputs = outs.iter().map(|out| expected(file, out)).collect::<Result<_>>()?;
    Ok(Golden { name: name.to_owned(), node, inputs, outputs })
}

fn expected(file: &safetensors::SafeTensors<'_>, out: &Value) -> Result<Expected> {
    if let Some(name) = out.as_str() {
        let view = file.tensor(name)?;
        let data = view.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        return Ok(Expected::Tensor {
            name: name.into(),
            tensor: HostTensor::new(view.shape().to_vec(), data)?,
        });
    }
    if let Some(index) = out.get("batch_index") {
        return Ok(Expected::BatchIndex(serde_json::from_value(index.clone())?));
    }
    Ok(Expected::Number(out.as_i64().context("an unknown kind of result")?.into()))
}

fn argument(name: &str, value: &Value) -> Result<Data> {
    let Some(shape) = value.get("tensor") else {
        return Ok(Data::Literal(Literal::from_json(value).context("an unknown kind of argument")?));
    };
    let shape: Vec<usize> = serde_json::from_value(shape.clone())?;
    let seed = value["seed"].as_u64().context("no seed")? as usize;
    if value["latent"] == true {
        let &[batch, channels, height, width] = &shape[..] else { bail!("a latent has four dimensions") };
        let pixels = pattern([batch, height, width, channels], seed);
        let at = |b: usize, c: usize, p: usize| pixels[(b * height * width + p) * channels + c] * 4.0 - 2.0;
        let planes = (0..batch).flat_map(|b| (0..channels).map(move |c| (b, c)));
        let data = planes.flat_map(|(b, c)| (0..height * width).map(move |p| at(b, c, p))).collect();
        return Ok(Data::Latent(Latent::new(HostTensor::new(shape, data)?)));
    }
    let (dimensions, is_mask) = match shape[..] {
        [batch, height, width] => ([batch, height, width, 1], true),
        [batch, height, width, channels] => ([batch, height, width, channels], false),
        _ => bail!("`{name}` is neither an image nor a mask"),
    };
    let mut data = pattern(dimensions, seed);
    match value["changed"].as_str() {
        None => {}
        Some("ones") => data.fill(1.0),
        Some("above 0.8") => data.iter_mut().for_each(|sample| *sample = f32::from(u8::from(*sample > 0.8))),
        Some("halves") => {
            data.iter_mut().for_each(|sample| *sample = (*sample * 2.0).round_ties_even() / 2.0);
        }
        Some(other) => bail!("unknown change `{other}`"),
    }
    let tensor = HostTensor::new(shape, data)?;
    Ok(if is_mask { Data::Mask(tensor) } else { Data::Image(tensor) })
}

/// The samples of the recording's pictures, `[batch, height, width, channels]`.
pub fn pattern([batch, height, width, channels]: [usize; 4], seed: usize) -> Vec<f32> {
    let sample = |b: usize, y: usize, x: usize, c: usize| {
        let level = (b * 7919 + y * 131 + x * 17 + c * 57 + ((x * y) % 23) * 11 + seed * 97) % 256;
        level as f32 / 255.0
    };
    let mut samples = Vec::with_capacity(batch * height * width * channels);
    for (b, y) in (0..batch).flat_map(|b| (0..height).map(move |y| (b, y))) {
        samples.extend((0..width).flat_map(|x| (0..channels).map(move |c| sample(b, y, x, c))));
    }
    samples
}

/// Says how results differ from what was recorded; nothing when they agree within `tolerance`.
pub fn differences(golden: &Golden, outputs: &[Data], tolerance: f32) -> Vec<String> {
    let mut found = Vec::new();
    for expected in &golden.outputs {
        if let Err(difference) = compare(expected, outputs, tolerance) {
            found.push(format!("{}: {difference}", golden.name));
        }
    }
    found
}

fn compare(expected: &Expected, outputs: &[Data], tolerance: f32) -> Result<(), String> {
    match expected {
        Expected::Tensor { name, tensor } => {
            // `class|case#slot` or `class|case#slot.part`.
            let (_, place) = name.rsplit_once('#').ok_or("no slot")?;
            let (slot, part) = place.split_once('.').unwrap_or((place, ""));
            let slot: usize = slot.parse().map_err(|_| "no slot")?;
            let found = match outputs.get(slot) {
                Some(Data::Image(found) | Data::Mask(found)) => found,
                Some(Data::Latent(latent)) if part == "noise_mask" => {
                    latent.noise_mask.as_ref().ok_or("no mask")?
                }
                Some(Data::Latent(latent)) => &latent.samples,
                other => return Err(format!("slot {slot} is {:?}", other.map(Data::kind))),
            };
            close(found, tensor, tolerance)
        }
        Expected::Number(number) => {
            let literal = Data::Literal(Literal::Int(*number));
            if outputs.contains(&literal) { Ok(()) } else { Err(format!("no output is {number}")) }
        }
        Expected::BatchIndex(index) => match outputs.first() {
            Some(Data::Latent(latent)) if latent.batch_index.as_ref() == Some(index) => Ok(()),
            Some(Data::Latent(latent)) => Err(format!("batch index {:?}, not {index:?}", latent.batch_index)),
            _ => Err("no latent".into()),
        },
    }
}

fn close(found: &HostTensor, expected: &HostTensor, tolerance: f32) -> Result<(), String> {
    if found.shape() != expected.shape() {
        return Err(format!("shape {:?}, not {:?}", found.shape(), expected.shape()));
    }
    let pairs = found.data().iter().zip(expected.data());
    let worst = pairs
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |worst, d| if d > worst || d.is_nan() { d } else { worst });
    // Written so that a difference that is not a number fails.
    if worst <= tolerance { Ok(()) } else { Err(format!("differs by {worst}")) }
}
