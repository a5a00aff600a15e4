//! Pictures as image encoders were trained to see them.

use candle_core::{DType, Tensor};

use crate::error::{Error, Result};

const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const SPREAD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];
/// Reach of the cubic filter in pixels.
const REACH: f32 = 2.0;

/// What happens to pictures that are not square.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PictureCrop {
    /// The middle is seen.
    Center,
    /// The whole is seen, squeezed.
    None,
}

/// Brings pictures to the size and range that an encoder takes.
///
/// # Shapes
/// `[B, 3, H, W]` in 0..=1 to `[B, 3, size, size]`.
///
/// # Errors
/// [`Error::InvalidArgument`] if the shape does not fit.
///
/// # Source
/// Same values as ComfyUI: bicubic with anti-aliasing, then rounded to 8 bits as the training pictures were.
pub fn preprocess(pictures: &Tensor, size: usize, crop: PictureCrop) -> Result<Tensor> {
    let (batch, height, width) = match *pictures.dims() {
        [batch, 3, height, width] if batch * height * width > 0 => (batch, height, width),
        ref dims => {
            return Err(Error::InvalidArgument(format!(
                "pictures to look at are [B, 3, H, W], got {dims:?}"
            )));
        }
    };
    let mut values: Vec<f32> = pictures.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
    if (height, width) != (size, size) {
        let (rows, columns) = match crop {
            PictureCrop::None => (size, size),
            PictureCrop::Center => {
                let scale = size as f64 / height.min(width) as f64;
                let scaled = |side: usize| ((scale * side as f64).round_ties_even() as usize).max(size);
                (scaled(height), scaled(width))
            }
        };
        // Only the seen part is computed: a strip would otherwise grow without bound.
        let (top, left) = ((rows - size) / 2, (columns - size) / 2);
        values = resize(&values, width, 1, &taps(width, columns, left, size));
        values = resize(&values, height, size, &taps(height, rows, top, size));
    }
    let plane = size * size;
    for (i, channel) in values.chunks_mut(plane).enumerate() {
        let (mean, spread) = (MEAN[i % 3], SPREAD[i % 3]);
        channel.iter_mut().for_each(|value| {
            let seen = (255.0 * *value).clamp(0.0, 255.0).round_ties_even() / 255.0;
            *value = (seen - mean) / spread;
        });
    }
    Ok(Tensor::from_vec(values, (batch, 3, size, size), pictures.device())?)
}

/// The first old pixel that a new one is mixed from, and the shares of it and those behind it.
type Taps = (usize, Vec<f32>);

/// The taps of the new pixels `from..from + count` of a side that goes from `old` to `new` pixels.
fn taps(old: usize, new: usize, from: usize, count: usize) -> Vec<Taps> {
    let scale = old as f32 / new as f32;
    // When a picture gets smaller, the filter gets wider, so that nothing is skipped.
    let (support, shrink) = if scale >= 1.0 { (REACH * scale, 1.0 / scale) } else { (REACH, 1.0) };
    let tap = |i: usize| {
        let center = scale * (i as f32 + 0.5);
        let first = ((center - support + 0.5) as i64).max(0) as usize;
        let end = ((center + support + 0.5) as usize).min(old);
        let share = |j: usize| cubic((j as f32 - center + 0.5) * shrink);
        let shares: Vec<f32> = (first..end).map(share).collect();
        let sum: f32 = shares.iter().sum();
        (first, shares.into_iter().map(|share| share / sum).collect())
    };
    (from..from + count).map(tap).collect()
}

/// Keys' cubic filter with the parameter that Pillow and torch take when they anti-alias.
///
/// # Source
/// Keys 1981, a = -1/2.
fn cubic(x: f32) -> f32 {
    const A: f32 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// Resizes the axis of `old` values that are `inner` apart.
fn resize(values: &[f32], old: usize, inner: usize, taps: &[Taps]) -> Vec<f32> {
    let mut resized = Vec::with_capacity(values.len() / old * taps.len());
    for block in values.chunks(old * inner) {
        for (first, shares) in taps {
            resized.extend((0..inner).map(|at| {
                let mix = |(j, share): (usize, &f32)| block[(first + j) * inner + at] * share;
                shares.iter().enumerate().map(mix).sum::<f32>()
            }));
        }
    }
    resized
}
