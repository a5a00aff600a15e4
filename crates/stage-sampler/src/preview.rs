//! Rough pictures of a running sampling, as JPEG.

use comfy_diffusion::sampling::preview::{LatentColours, PreviewImage, latent_preview};
use image::{ImageFormat, RgbImage, imageops};
use std::io::Cursor;

/// Longest side of a preview.
///
/// # Source
/// ComfyUI's default preview size.
const PREVIEW_SIDE: u32 = 512;

/// Paints a denoised latent as a JPEG. `None` when it cannot be painted: a preview is never worth a failed job.
pub(crate) fn jpeg(denoised: &candle_core::Tensor, colours: &LatentColours) -> Option<Vec<u8>> {
    let preview =
        latent_preview(denoised, colours).inspect_err(|error| tracing::debug!(%error, "no preview")).ok()?;
    let image = enlarge(preview)?;
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, ImageFormat::Jpeg).ok()?;
    Some(bytes.into_inner())
}

fn enlarge(PreviewImage { pixels, width, height }: PreviewImage) -> Option<RgbImage> {
    let (width, height) = (u32::try_from(width).ok()?, u32::try_from(height).ok()?);
    let small = RgbImage::from_raw(width, height, pixels)?;
    let scale = f64::from(PREVIEW_SIDE) / f64::from(width.max(height));
    let side = |size: u32| ((f64::from(size) * scale).round() as u32).max(1);
    Some(imageops::resize(&small, side(width), side(height), imageops::FilterType::Triangle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn previews_are_jpegs_of_the_right_shape() {
        let latent =
            candle_core::Tensor::zeros((1, 4, 8, 16), candle_core::DType::F32, &candle_core::Device::Cpu)
                .unwrap();
        let bytes = jpeg(&latent, &LatentColours::SD1).unwrap();
        let image = image::load_from_memory(&bytes).unwrap();
        assert_eq!((image.width(), image.height()), (512, 256));
    }
}
