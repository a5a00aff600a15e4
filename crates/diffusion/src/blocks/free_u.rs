//! Weighs the two inputs of the ascending half's blocks against each other.

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::error::Result;

/// Strengthens the backbone features and damps the slow waves of the skip features at the two deepest widths.
///
/// # Source
/// Si et al. 2023 (FreeU), eq. 1 to 5; same values as ComfyUI `FreeU` and `FreeU_V2`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreeU {
    /// Factors of half of the backbone's channels, at four and at two times the first width.
    pub backbone: (f64, f64),
    /// Factors of the slow waves of the skip connection, likewise.
    pub skip: (f64, f64),
    /// Follows the structure of the features instead of one factor for all places.
    pub structured: bool,
}

impl FreeU {
    /// Returns the backbone and the skip features for a block of a network whose first width is `first_width`.
    pub(crate) fn apply(
        &self,
        backbone: Tensor,
        skip: Tensor,
        first_width: usize,
    ) -> Result<(Tensor, Tensor)> {
        let channels = backbone.dim(1)?;
        let (backbone_factor, skip_factor) = match channels {
            width if width == 4 * first_width => (self.backbone.0, self.skip.0),
            width if width == 2 * first_width => (self.backbone.1, self.skip.1),
            _ => return Ok((backbone, skip)),
        };
        let half = channels / 2;
        let (first, rest) = (backbone.narrow(1, 0, half)?, backbone.narrow(1, half, channels - half)?);
        let first = if self.structured {
            let factor = structure(&backbone)?.affine(backbone_factor - 1.0, 1.0)?;
            first.broadcast_mul(&factor.to_dtype(first.dtype())?)?
        } else {
            first.affine(backbone_factor, 0.0)?
        };
        Ok((Tensor::cat(&[first, rest], 1)?, damp_slow_waves(&skip, skip_factor)?))
    }
}

/// Returns the mean over the channels, spread over 0..=1 for every sample: `[B,1,H,W]` in f32.
fn structure(features: &Tensor) -> Result<Tensor> {
    let mean = features.to_dtype(DType::F32)?.mean_keepdim(1)?;
    let flat = mean.flatten_from(1)?;
    let end = |values: Tensor| values.reshape(((), 1, 1, 1));
    let (low, high) = (end(flat.min_keepdim(1)?)?, end(flat.max_keepdim(1)?)?);
    // Features without structure have a span of 0 and are left alone.
    let span = (high - &low)?.maximum(f64::from(f32::MIN_POSITIVE))?;
    Ok(mean.broadcast_sub(&low)?.broadcast_div(&span)?)
}

/// Multiplies the constant part and the slowest wave of each direction by a factor.
///
/// The waves are those of the frequencies 0 and -1, each taken by itself and not with its mirror image: what a mask of
/// two by two in the middle of a shifted Fourier transform selects. Few waves are cheaper projected than transformed.
fn damp_slow_waves(features: &Tensor, factor: f64) -> Result<Tensor> {
    let (batch, channels, height, width) = features.dims4()?;
    let (places, waves) = (height * width, slow_waves(height, width));
    let basis = Tensor::from_vec(waves.concat(), (waves.len(), places), features.device())?;
    let flat = features.to_dtype(DType::F32)?.reshape((batch * channels, places))?;
    let slow = flat.matmul(&basis.t()?)?.matmul(&basis)?.affine((factor - 1.0) / places as f64, 0.0)?;
    Ok((flat + slow)?.reshape(features.shape())?.to_dtype(features.dtype())?)
}

/// Returns cosine and sine of every slow wave at every place.
fn slow_waves(height: usize, width: usize) -> Vec<Vec<f32>> {
    // On a single row or column the frequency -1 is the frequency 0.
    let frequencies = |side: usize| if side > 1 { vec![0.0, -1.0] } else { vec![0.0] };
    let mut waves = Vec::new();
    for down in frequencies(height) {
        for across in frequencies(width) {
            let angle = |place: usize| {
                let (y, x) = ((place / width) as f64, (place % width) as f64);
                std::f64::consts::TAU * (down * y / height as f64 + across * x / width as f64)
            };
            waves.push((0..height * width).map(|place| angle(place).cos() as f32).collect());
            waves.push((0..height * width).map(|place| angle(place).sin() as f32).collect());
        }
    }
    waves
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn tensor(value: &serde_json::Value) -> Tensor {
        let numbers = |name: &str| -> Vec<f64> {
            value[name].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
        };
        let shape: Vec<usize> = numbers("shape").into_iter().map(|v| v as usize).collect();
        let values: Vec<f32> = numbers("values").into_iter().map(|v| v as f32).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn matches_a_fourier_transform() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/free_u.json");
        let cases: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let (backbone, skip) = ((1.3, 1.4), (0.9, 0.2));
        let cases = cases.as_array().unwrap();
        assert_eq!(cases.len(), 16);
        for case in cases {
            let structured = case["structured"].as_bool().unwrap();
            let free_u = FreeU { backbone, skip, structured };
            let (got_backbone, got_skip) =
                free_u.apply(tensor(&case["backbone_in"]), tensor(&case["skip_in"]), 2).unwrap();
            for (got, name) in [(got_backbone, "backbone_out"), (got_skip, "skip_out")] {
                let expected = tensor(&case[name]);
                let difference = (got - &expected).unwrap().abs().unwrap().max_all().unwrap();
                let difference = difference.to_scalar::<f32>().unwrap();
                assert!(difference < 1e-5, "{name} {:?} {structured}: {difference:e}", expected.dims());
            }
        }
    }

    #[test]
    fn other_widths_and_flat_features_are_left_alone() {
        let x = Tensor::ones((1, 6, 4, 4), DType::F32, &Device::Cpu).unwrap();
        let free_u = FreeU { backbone: (2.0, 3.0), skip: (0.0, 0.0), structured: true };
        let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (backbone, skip) = free_u.apply(x.clone(), x.clone(), 2).unwrap();
        assert_eq!((values(&backbone), values(&skip)), (values(&x), values(&x)));
        let (backbone, skip) = free_u.apply(x.clone(), x.clone(), 3).unwrap();
        assert_eq!(values(&backbone), values(&x));
        assert!(values(&skip).iter().all(|v| v.abs() < 1e-6));
    }
}
