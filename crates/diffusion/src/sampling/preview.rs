//! Rough pictures of a latent while it is being sampled.

use candle_core::{DType, Tensor};

use super::error::{Result, SamplingError};
use crate::families::Family;

/// An 8-bit RGB picture, rows first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewImage {
    pub pixels: Vec<u8>,
    pub width: usize,
    pub height: usize,
}

/// A linear fit of latent to colour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatentColours {
    /// Red, green and blue of each latent channel.
    pub factors: [[f32; 3]; 4],
    /// The colour of a latent of zeros.
    pub bias: [f32; 3],
}

impl LatentColours {
    /// For the latents of Stable Diffusion 1 and 2.
    pub const SD1: Self = Self {
        factors: [
            [0.3512, 0.2297, 0.3227],
            [0.3250, 0.4974, 0.2350],
            [-0.2829, 0.1762, 0.2721],
            [-0.2120, -0.2616, -0.7177],
        ],
        bias: [0.0; 3],
    };
    /// For the latents of Stable Diffusion XL.
    pub const SDXL: Self = Self {
        factors: [
            [0.3651, 0.4232, 0.4341],
            [-0.2533, -0.0042, 0.1068],
            [0.1076, 0.1111, -0.0362],
            [-0.3165, -0.2492, -0.2188],
        ],
        bias: [0.1084, -0.0175, -0.0011],
    };

    /// The fit for a family's latents.
    pub fn of(family: &Family) -> Self {
        if family.is_sdxl() { Self::SDXL } else { Self::SD1 }
    }
}

/// Paints the first sample of a denoised latent, one pixel per latent pixel.
///
/// # Shapes
/// `denoised`: `[B,4,h,w]` in the network's scale.
///
/// # Errors
/// Fails if the channels and the factors do not match.
///
/// # Source
/// Same values as ComfyUI `latent2rgb`.
pub fn latent_preview(denoised: &Tensor, colours: &LatentColours) -> Result<PreviewImage> {
    let LatentColours { factors, bias } = colours;
    let (_, channels, height, width) = denoised.dims4()?;
    if channels != factors.len() {
        let reason = format!("{channels} channels, the preview knows {}", factors.len());
        return Err(SamplingError::invalid("latent", reason));
    }
    let planes: Vec<f32> = denoised.get(0)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
    let area = height * width;
    let mut pixels = Vec::with_capacity(area * 3);
    for i in 0..area {
        for colour in 0..3 {
            let value: f32 =
                factors.iter().enumerate().map(|(c, rgb)| planes[c * area + i] * rgb[colour]).sum();
            let value = value + bias[colour];
            // Casting truncates, as the reference does.
            pixels.push((((value + 1.0) / 2.0).clamp(0.0, 1.0) * 255.0) as u8);
        }
    }
    Ok(PreviewImage { pixels, width, height })
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::{fixtures, noise};
    use super::*;

    #[test]
    fn preview_of_noise_matches() {
        let golden = &fixtures::json("noise_extra.json")["latent2rgb_preview_of_noise42"];
        let latent = Tensor::from_vec(noise::randn(42, &[1, 4, 8, 8]), (1, 4, 8, 8), &Device::Cpu).unwrap();
        let got = latent_preview(&latent, &LatentColours::SD1).unwrap();
        let expected: Vec<u8> = fixtures::floats(&golden["pixels"]).iter().map(|v| *v as u8).collect();
        assert_eq!((got.width, got.height), (8, 8));
        assert_eq!(got.pixels, expected);
        assert!(latent_preview(&latent.narrow(1, 0, 3).unwrap(), &LatentColours::SD1).is_err());
    }
}
