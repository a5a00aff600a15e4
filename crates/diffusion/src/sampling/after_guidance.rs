//! What is done to guided estimates: guidance by what the network makes of less, and formulas.

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::error::{Result, SamplingError};

/// Something that is done to every guided estimate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum AfterGuidance {
    /// Leads away from what the network makes of the positive side when its middle layers look nowhere.
    ///
    /// # Source
    /// Ahn et al. 2024 (perturbed-attention guidance), eq. 16; same values as ComfyUI `PerturbedAttentionGuidance`.
    PerturbedAttention { scale: f64 },
    /// Leads away from what the network makes of the negative side when the places it looks at are blurred.
    ///
    /// # Source
    /// Hong et al. 2022 (self-attention guidance), algorithm 1; same values as ComfyUI `SelfAttentionGuidance`.
    SelfAttention { scale: f64, blur_sigma: f64 },
    /// Takes away more or less noise than estimated.
    ///
    /// # Source
    /// Ning et al. 2023 (exposure bias), eq. 14 with one factor; same values as ComfyUI `Epsilon Scaling`.
    ScaledNoise { factor: f64 },
    /// Scales the negative side by how much of the positive one it explains; see `CFG-Zero*`.
    ZeroStar,
    /// Follows the direction of the positive side more than its difference from the negative one.
    Direction,
}

impl AfterGuidance {
    /// Whether the negative side is needed even where it cancels out.
    pub(super) fn needs_both_sides(&self) -> bool {
        matches!(self, Self::SelfAttention { .. })
    }

    /// Whether it does something where only the positive side counts.
    pub(super) fn acts_alone(&self) -> bool {
        matches!(self, Self::PerturbedAttention { .. } | Self::ScaledNoise { .. })
    }
}

/// A latent is left alone when a side is at most this: the blur reaches as far.
const BLUR_REACH: usize = 4;

/// Blurs an estimate where it gets more than its share of attention.
///
/// # Shapes
/// `estimate` is `[B,C,H,W]`, `received` the attention that each place of the middle feature map gets, `[B,places]`.
/// Returns none for a latent that is too small to be blurred.
///
/// # Errors
/// Fails if the places do not form a map of about the latent's shape.
pub(super) fn blur_attended(estimate: &Tensor, received: &Tensor, blur_sigma: f64) -> Result<Option<Tensor>> {
    let (batch, _, height, width) = estimate.dims4()?;
    if height.min(width) <= BLUR_REACH {
        return Ok(None);
    }
    let places = received.dim(1)?;
    let rows = map_rows(places, height as f64 / width as f64).ok_or_else(|| {
        let reason = format!("{places} places of attention do not fit a latent of {height} by {width}");
        SamplingError::invalid("latent", reason)
    })?;
    let columns = places / rows;
    let attended: Vec<Vec<f32>> = received.to_dtype(DType::F32)?.to_device(&Device::Cpu)?.to_vec2()?;
    let mut mask = Vec::with_capacity(batch * height * width);
    for sample in &attended {
        for y in 0..height {
            let row = &sample[y * rows / height * columns..][..columns];
            mask.extend((0..width).map(|x| f32::from(u8::from(row[x * columns / width] > 1.0))));
        }
    }
    let mask = Tensor::from_vec(mask, (batch, 1, height, width), estimate.device())?;
    let difference = (gaussian_blur(estimate, blur_sigma)? - estimate)?;
    Ok(Some((estimate + difference.broadcast_mul(&mask)?)?))
}

/// The rows of a map of so many places that is nearest to the wanted height over width.
fn map_rows(places: usize, aspect: f64) -> Option<usize> {
    let wanted = (aspect * places as f64).sqrt().round_ties_even() as usize;
    let reach = ((places as f64).sqrt() / 2.0) as usize;
    (0..reach.max(1))
        .flat_map(|i| [wanted + i, wanted.saturating_sub(i).max(1)])
        .find(|rows| *rows > 0 && places.is_multiple_of(*rows))
}

/// Blurs with nine taps a side; the picture is mirrored at its edges.
fn gaussian_blur(x: &Tensor, sigma: f64) -> Result<Tensor> {
    if sigma <= 0.0 {
        return Ok(x.clone());
    }
    let reach = BLUR_REACH as i64;
    let tap = |distance: i64| (-0.5 * (distance as f64 / sigma).powi(2)).exp();
    let sum: f64 = (-reach..=reach).map(tap).sum();
    let mut blurred = x.clone();
    for dim in [2, 3] {
        let length = blurred.dim(dim)?;
        let mirrored = |at: i64| {
            let at = at.abs();
            if at < length as i64 { at } else { 2 * (length as i64 - 1) - at }
        };
        let mut total = blurred.zeros_like()?;
        for distance in -reach..=reach {
            let from: Vec<u32> = (0..length as i64).map(|at| mirrored(at + distance) as u32).collect();
            let shifted = blurred.contiguous()?.index_select(&Tensor::new(from, x.device())?, dim)?;
            total = (total + shifted.affine(tap(distance) / sum, 0.0)?)?;
        }
        blurred = total;
    }
    Ok(blurred)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    #[test]
    fn maps_take_the_shape_of_the_latent() {
        assert_eq!(map_rows(64, 1.0), Some(8));
        assert_eq!(map_rows(8 * 12, 64.0 / 96.0), Some(8));
        assert_eq!(map_rows(9 * 13, 17.0 / 25.0), Some(9));
        assert_eq!(map_rows(1, 1.0), Some(1));
        assert_eq!(map_rows(13, 1.0), None);
    }

    #[test]
    fn blurring_keeps_flat_places_and_the_sum() {
        let flat = Tensor::full(3f32, (1, 2, 6, 7), &Device::Cpu).unwrap();
        let values = fixtures::values(&gaussian_blur(&flat, 2.0).unwrap());
        assert!(values.iter().all(|v| (v - 3.0).abs() < 1e-6));
        assert_eq!(fixtures::values(&gaussian_blur(&flat, 0.0).unwrap()), fixtures::values(&flat));
    }

    #[test]
    fn only_attended_places_are_blurred() {
        let x =
            Tensor::arange(0f32, 64.0, &Device::Cpu).unwrap().sin().unwrap().reshape((1, 1, 8, 8)).unwrap();
        let received = Tensor::new(&[[2f32, 0.5, 1.0, 0.5]], &Device::Cpu).unwrap();
        let blurred = blur_attended(&x, &received, 2.0).unwrap().unwrap();
        let (found, before) = (fixtures::values(&blurred), fixtures::values(&x));
        for (i, (a, b)) in found.iter().zip(&before).enumerate() {
            assert_eq!((a - b).abs() > 1e-6, i / 8 < 4 && i % 8 < 4, "{i}");
        }
        assert!(blur_attended(&x.narrow(2, 0, 4).unwrap(), &received, 2.0).unwrap().is_none());
    }
}
