//! Changes to latents that are described first and done later, to a latent or to the guidance of every step.

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::error::{Result, SamplingError};

/// What to do to a latent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "latent_operation", rename_all = "snake_case")]
pub enum LatentOperation {
    /// # Source
    /// Reinhard's curve on lengths; white is five standard deviations above the mean, as in ComfyUI.
    TonemapReinhard { multiplier: f64 },
    /// # Source
    /// Same kernel as ComfyUI `LatentOperationSharpen`, on directions; lengths are put back afterwards.
    Sharpen { radius: usize, sigma: f64, alpha: f64 },
}

impl LatentOperation {
    /// Returns the changed latent.
    ///
    /// # Shapes
    /// `[B,C,H,W]`, as the result.
    ///
    /// # Errors
    /// Fails for a latent that is empty or of other dimensions, or too small for the radius.
    pub fn apply(&self, latent: &Tensor) -> Result<Tensor> {
        let &[batch, channels, height, width] = latent.dims() else {
            let reason = format!("a latent has 4 dimensions, got {:?}", latent.dims());
            return Err(SamplingError::invalid("latent", reason));
        };
        if latent.elem_count() == 0 {
            return Err(SamplingError::invalid("latent", "it is empty"));
        }
        // The lengths are sums over channels in f64, so the work is done on the host whatever the device.
        let data = latent.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.flatten_all()?.to_vec1()?;
        let planes = Planes { channels, height, width, data };
        let changed = match *self {
            Self::TonemapReinhard { multiplier } => tonemapped(planes, multiplier),
            Self::Sharpen { radius, sigma, alpha } => sharpened(planes, radius, sigma, alpha)?,
        };
        let changed = Tensor::from_vec(changed.data, (batch, channels, height, width), latent.device())?;
        Ok(changed.to_dtype(latent.dtype())?)
    }
}

/// Samples `[batch, channels, height, width]`.
struct Planes {
    channels: usize,
    height: usize,
    width: usize,
    data: Vec<f32>,
}

impl Planes {
    fn item_len(&self) -> usize {
        self.channels * self.height * self.width
    }
}

/// The length of every pixel's vector of channels, item after item.
fn lengths(planes: &Planes) -> Vec<f32> {
    let area = planes.height * planes.width;
    let length = |item: &[f32], at: usize| {
        item[at..].iter().step_by(area).map(|value| value * value).sum::<f32>().sqrt()
    };
    planes
        .data
        .chunks_exact(planes.item_len())
        .flat_map(|item| (0..area).map(move |at| length(item, at)))
        .collect()
}

/// Changes every sample, knowing the length of its pixel.
fn by_length(planes: &mut Planes, lengths: &[f32], change: impl Fn(f32, f32) -> f32) {
    let (area, item_len) = (planes.height * planes.width, planes.item_len());
    for (i, sample) in planes.data.iter_mut().enumerate() {
        *sample = change(*sample, lengths[i / item_len * area + i % area]);
    }
}

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

fn sharpened(mut planes: Planes, radius: usize, sigma: f64, alpha: f64) -> Result<Planes> {
    /// Keeps a length away from zero.
    const EPSILON: f32 = 1e-6;
    let (height, width) = (planes.height, planes.width);
    if radius >= height.min(width) {
        let reason =
            format!("{radius} is too large for a latent of {width}x{height}: its border cannot be mirrored");
        return Err(SamplingError::invalid("sharpen_radius", reason));
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
