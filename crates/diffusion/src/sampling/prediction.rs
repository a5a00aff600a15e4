//! What a network's output means.

use candle_core::Tensor;

use super::error::Result;

/// The target that a network was trained to predict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Prediction {
    /// The noise in its input ("eps").
    #[default]
    Noise,
    /// The velocity between noise and picture ("v").
    Velocity,
}

impl Prediction {
    /// Returns the estimate of x0 behind `x` at the level `sigma`, given the network's output for it.
    ///
    /// # Source
    /// Salimans and Ho 2022, section 4, with x = x0 + sigma * noise; same values as ComfyUI's `EPS` and
    /// `V_PREDICTION`.
    pub(super) fn denoised(self, x: &Tensor, output: &Tensor, sigma: f64) -> Result<Tensor> {
        let variance = sigma * sigma + 1.0;
        match self {
            Self::Noise => Ok((x - output.affine(sigma, 0.0)?)?),
            Self::Velocity => {
                Ok((x.affine(1.0 / variance, 0.0)? - output.affine(sigma / variance.sqrt(), 0.0)?)?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn perfect_predictions_give_the_picture_back() {
        for sigma in [0.03f64, 1.0, 14.6, 4518.0] {
            let (picture, noise) = (0.8f64, -0.3f64);
            // The input is scaled to unit variance; velocity is the derivative along the circle of noise and picture.
            let (cos, sin) = (1.0 / (sigma * sigma + 1.0).sqrt(), sigma / (sigma * sigma + 1.0).sqrt());
            let velocity = noise * cos - picture * sin;
            let tensor = |value: f64| Tensor::new(&[value], &Device::Cpu).unwrap();
            let x = tensor(picture + sigma * noise);
            for (prediction, output) in [(Prediction::Noise, noise), (Prediction::Velocity, velocity)] {
                let found =
                    prediction.denoised(&x, &tensor(output), sigma).unwrap().to_vec1::<f64>().unwrap();
                assert!((found[0] - picture).abs() < 1e-9, "{prediction:?} {sigma}: {found:?}");
            }
        }
    }
}
