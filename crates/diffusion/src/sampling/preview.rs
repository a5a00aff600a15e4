//! Rough pictures of a latent while it is being sampled.

use candle_core::{DType, Tensor};

use super::error::{Result, SamplingError};

/// An 8-bit RGB picture, rows first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewImage {
    pub pixels: Vec<u8>,
    pub width: usize,
    pub height: usize,
}

/// Red, green and blue of each of SD 1.5's latent channels.
pub const SD15_RGB_FACTORS: [[f32; 3]; 4] = [
    [0.3512, 0.2297, 0.3227],
    [0.3250, 0.4974, 0.2350],
    [-0.2829, 0.1762, 0.2721],
    [-0.2120, -0.2616, -0.7177],
];

/// Paints the first sample of a denoised latent, one pixel per latent pixel.
///
/// # Shapes
/// `denoised`: `[B,C,h,w]` in the network's scale, one row of `factors` per channel.
///
/// # Errors
/// Fails if the channels and the factors do not match.
///
/// # Source
/// A linear fit of latent to colour; same values as ComfyUI `latent2rgb`.
pub fn latent_preview(denoised: &Tensor, factors: &[[f32; 3]]) -> Result<PreviewImage> {
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
        let got = latent_preview(&latent, &SD15_RGB_FACTORS).unwrap();
        let expected: Vec<u8> = fixtures::floats(&golden["pixels"]).iter().map(|v| *v as u8).collect();
        assert_eq!((got.width, got.height), (8, 8));
        assert_eq!(got.pixels, expected);
        assert!(latent_preview(&latent, &SD15_RGB_FACTORS[..3]).is_err());
    }
}
