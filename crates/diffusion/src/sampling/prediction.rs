//! What a network's output means.

use candle_core::Tensor;

use super::error::Result;

/// How the output of a network becomes an estimate of x0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Prediction {
    /// The noise in the input.
    #[default]
    Epsilon,
    /// The velocity between noise and data.
    Velocity,
    /// The network of Karras et al., whose data has a deviation of one half.
    Edm,
    /// The clean latent itself.
    Sample,
    /// The noise, seen by a latent consistency model.
    Consistency,
    /// The clean latent, from an input that is not scaled.
    ImageToImage,
}

/// Standard deviation of the data of an EDM network and of a consistency model.
const HALF_SIGMA_DATA: f64 = 0.5;

/// Factor of the time index in the boundary condition of a consistency model.
const CONSISTENCY_TIME_SCALE: f64 = 10.0;

impl Prediction {
    fn sigma_data(self) -> f64 {
        match self {
            Self::Edm => HALF_SIGMA_DATA,
            _ => 1.0,
        }
    }

    /// Returns the factor of the noisy latent before it goes into the network.
    ///
    /// # Source
    /// Karras et al. 2022, table 1 (c_in).
    pub fn input_scale(self, sigma: f64) -> f64 {
        match self {
            Self::ImageToImage => 1.0,
            _ => 1.0 / (sigma * sigma + self.sigma_data().powi(2)).sqrt(),
        }
    }

    /// Returns the estimate of x0 for the noisy latent `x` and the network's output for it.
    ///
    /// # Errors
    /// Fails on shapes that do not match.
    ///
    /// # Source
    /// Karras et al. 2022, table 1 (c_skip and c_out); Salimans and Ho 2022, eq. for v; Luo et al. 2023 (LCM), eq. 9.
    pub fn denoised(self, x: &Tensor, output: &Tensor, sigma: f64, timestep: f32) -> Result<Tensor> {
        let data = self.sigma_data();
        let variance = sigma * sigma + data * data;
        let mix = |skip: f64, out: f64| -> Result<Tensor> {
            Ok((x.affine(skip, 0.0)? + output.affine(out, 0.0)?)?)
        };
        match self {
            Self::Epsilon => Ok((x - output.affine(sigma, 0.0)?)?),
            Self::Velocity => mix(data * data / variance, -sigma * data / variance.sqrt()),
            Self::Edm => mix(data * data / variance, sigma * data / variance.sqrt()),
            Self::Sample | Self::ImageToImage => Ok(output.clone()),
            Self::Consistency => {
                let time = f64::from(timestep) * CONSISTENCY_TIME_SCALE;
                let norm = time * time + HALF_SIGMA_DATA * HALF_SIGMA_DATA;
                let (skip, out) = (HALF_SIGMA_DATA * HALF_SIGMA_DATA / norm, time / norm.sqrt());
                let clean = (x - output.affine(sigma, 0.0)?)?;
                Ok((clean.affine(out, 0.0)? + x.affine(skip, 0.0)?)?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    /// A noisy latent of known data and noise, and what a perfect network would say about it.
    #[test]
    fn perfect_outputs_give_the_data_back() {
        let (data, noise) = (0.7f64, -1.3f64);
        for sigma in [0.03, 1.0, 14.6] {
            let x = data + sigma * noise;
            let variance = 1.0 + sigma * sigma;
            let edm = 0.25 + sigma * sigma;
            for (prediction, output) in [
                (Prediction::Epsilon, noise),
                // alpha * noise - sigma' * data, with both in the variance-preserving form.
                (Prediction::Velocity, (noise - sigma * data) / variance.sqrt()),
                (Prediction::Edm, (data - 0.25 / edm * x) * edm.sqrt() / (0.5 * sigma)),
                (Prediction::Sample, data),
                (Prediction::ImageToImage, data),
            ] {
                let tensor = |v: f64| Tensor::full(v as f32, (1, 1, 1, 1), &Device::Cpu).unwrap();
                let got = prediction.denoised(&tensor(x), &tensor(output), sigma, 0.0).unwrap();
                let got = got.flatten_all().unwrap().to_vec1::<f32>().unwrap()[0];
                assert!((f64::from(got) - data).abs() < 1e-5, "{prediction:?} {sigma}: {got}");
            }
        }
    }

    #[test]
    fn a_consistency_model_is_the_identity_at_time_zero() {
        let x = Tensor::full(3f32, (1, 1, 1, 1), &Device::Cpu).unwrap();
        let zero = Prediction::Consistency.denoised(&x, &x.zeros_like().unwrap(), 0.5, 0.0).unwrap();
        assert_eq!(zero.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [3.0]);
        // Late in time the output counts alone: 3 - 0.5 * 2.
        let output = Tensor::full(2f32, (1, 1, 1, 1), &Device::Cpu).unwrap();
        let late = Prediction::Consistency.denoised(&x, &output, 0.5, 999.0).unwrap();
        assert!((late.flatten_all().unwrap().to_vec1::<f32>().unwrap()[0] - 2.0).abs() < 1e-6);
    }
}
