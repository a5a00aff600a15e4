//! Blurring and sharpening with a Gaussian window.

use crate::error::{ImagingError, Result};
use crate::pixels::{PixelView, Pixels};

/// Blurs a picture with a square window of `2 * radius + 1` pixels; the border is mirrored.
///
/// # Units
/// `sigma` is measured in windows: the window spans -1..=1 whatever its radius.
///
/// # Source
/// Same values as ComfyUI `ImageBlur`.
///
/// # Errors
/// [`ImagingError::InvalidArgument`] when a side is not longer than the radius, so that it cannot be mirrored.
pub fn blur(image: PixelView<'_, f32>, radius: usize, sigma: f64) -> Result<Pixels<f32>> {
    convolve(image, radius, sigma, |blurred, _| blurred as f32)
}

/// Sharpens a picture by taking ten times `alpha` of its blur away.
///
/// # Source
/// Same values as ComfyUI `ImageSharpen`. The blur is kept in f64 until the end, because its error grows by the factor.
///
/// # Errors
/// As [`blur`].
pub fn sharpen(image: PixelView<'_, f32>, radius: usize, sigma: f64, alpha: f64) -> Result<Pixels<f32>> {
    let strength = alpha * 10.0;
    convolve(image, radius, sigma, |blurred, sample| {
        (f64::from(sample) * (1.0 + strength) - blurred * strength).clamp(0.0, 1.0) as f32
    })
}

/// Blurs along rows, then along columns, and lets `finish` make each sample of its blur and its old value.
fn convolve(
    image: PixelView<'_, f32>,
    radius: usize,
    sigma: f64,
    finish: impl Fn(f64, f32) -> f32,
) -> Result<Pixels<f32>> {
    let (width, height, channels) = (image.width(), image.height(), image.channels().count());
    if radius == 0 {
        return Pixels::new(width, height, image.channels(), image.data().to_vec());
    }
    if radius >= width.min(height) {
        return Err(ImagingError::InvalidArgument {
            name: "radius",
            found: radius.to_string(),
            expected: "less than the width and the height of the picture",
        });
    }
    let weights = window(radius, sigma);
    let row_samples = width * channels;
    let mut rows = Vec::with_capacity(image.data().len());
    for row in image.data().chunks_exact(row_samples) {
        for x in 0..width {
            let columns: Vec<usize> = (0..weights.len()).map(|i| mirrored(x + i, radius, width)).collect();
            for channel in 0..channels {
                let taps = columns.iter().map(|column| row[column * channels + channel]);
                let sum: f64 = weights.iter().zip(taps).map(|(w, sample)| w * f64::from(sample)).sum();
                rows.push(sum as f32);
            }
        }
    }
    let mut out = Vec::with_capacity(rows.len());
    let mut sums = vec![0.0_f64; row_samples];
    for (y, old) in image.data().chunks_exact(row_samples).enumerate() {
        sums.fill(0.0);
        for (i, weight) in weights.iter().enumerate() {
            let row = mirrored(y + i, radius, height) * row_samples;
            let taps = &rows[row..row + row_samples];
            sums.iter_mut().zip(taps).for_each(|(sum, sample)| *sum += weight * f64::from(*sample));
        }
        out.extend(sums.iter().zip(old).map(|(blurred, sample)| finish(*blurred, *sample)));
    }
    Pixels::new(width, height, image.channels(), out)
}

/// The weights of one direction; the square window is their product.
fn window(radius: usize, sigma: f64) -> Vec<f64> {
    let place = |i: usize| i as f64 / radius as f64 - 1.0;
    let weights: Vec<f64> =
        (0..=2 * radius).map(|i| (-place(i).powi(2) / (2.0 * sigma * sigma)).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// The position that `shifted - before` means on a side whose border is a mirror.
pub(super) fn mirrored(shifted: usize, before: usize, side: usize) -> usize {
    let last = side - 1;
    let position = shifted.abs_diff(before);
    if shifted >= before && position > last { 2 * last - position } else { position }
}
