//! Lanczos with three lobes on 8-bit levels, in the fixed-point arithmetic that Pillow uses.
//!
//! # Source
//! Pillow's resampling (HPND licence): weights scaled by 2^22 and rounded, levels rounded and clipped after each
//! pass, columns of a row first, a pass left out where that side keeps its size, colours multiplied by their alpha.

use std::f64::consts::PI;

use super::Window;
use crate::error::Result;
use crate::pixels::{Channels, PixelView, Pixels, to_levels_truncating};

const LOBES: f64 = 3.0;
const FRACTION_BITS: u32 = 22;

/// The weights of one target sample over a run of source samples.
struct Run {
    first: usize,
    weights: Vec<i32>,
}

/// Resizes a window of a picture whose samples are first cut to 8-bit levels.
pub(super) fn resize(
    image: PixelView<'_, f32>,
    window: Window,
    (width, height): (usize, usize),
) -> Result<Pixels<f32>> {
    let channels = image.channels().count();
    let mut levels = window_levels(image, window);
    let has_alpha = image.channels() == Channels::Rgba;
    if has_alpha {
        levels.as_chunks_mut::<4>().0.iter_mut().for_each(premultiply);
    }
    let levels =
        if width == window.width { levels } else { resize_rows(&levels, window.width, width, channels) };
    let mut levels = if height == window.height {
        levels
    } else {
        resize_columns(&levels, window.height, height, width * channels)
    };
    if has_alpha {
        levels.as_chunks_mut::<4>().0.iter_mut().for_each(unmultiply);
    }
    let samples = levels.into_iter().map(|level| f32::from(level) / 255.0).collect();
    Pixels::new(width, height, image.channels(), samples)
}

/// Scales colours by their opacity, so that what cannot be seen does not bleed into what can.
fn premultiply([red, green, blue, alpha]: &mut [u8; 4]) {
    for colour in [red, green, blue] {
        // Rounded division by 255 in the integers.
        let product = u32::from(*colour) * u32::from(*alpha) + 128;
        *colour = (((product >> 8) + product) >> 8) as u8;
    }
}

fn unmultiply([red, green, blue, alpha]: &mut [u8; 4]) {
    if matches!(*alpha, 0 | 255) {
        return;
    }
    for colour in [red, green, blue] {
        *colour = (255 * u32::from(*colour) / u32::from(*alpha)).min(255) as u8;
    }
}

fn window_levels(image: PixelView<'_, f32>, window: Window) -> Vec<u8> {
    let channels = image.channels().count();
    image
        .data()
        .chunks_exact(image.width() * channels)
        .skip(window.y)
        .take(window.height)
        .flat_map(|row| to_levels_truncating(&row[window.x * channels..(window.x + window.width) * channels]))
        .collect()
}

fn resize_rows(levels: &[u8], source: usize, target: usize, channels: usize) -> Vec<u8> {
    let runs = runs(source, target);
    let mut out = Vec::with_capacity(levels.len() / source * target);
    for row in levels.chunks_exact(source * channels) {
        for run in &runs {
            for channel in 0..channels {
                let samples = row[run.first * channels + channel..].iter().step_by(channels);
                out.push(level(run.weights.iter().zip(samples).fold(HALF, add)));
            }
        }
    }
    out
}

fn resize_columns(levels: &[u8], source: usize, target: usize, row_samples: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(target * row_samples);
    let mut sums = vec![HALF; row_samples];
    for run in runs(source, target) {
        sums.fill(HALF);
        let rows = levels[run.first * row_samples..].chunks_exact(row_samples);
        for (weight, row) in run.weights.iter().zip(rows) {
            sums.iter_mut().zip(row).for_each(|(sum, sample)| *sum = add(*sum, (weight, sample)));
        }
        out.extend(sums.iter().map(|sum| level(*sum)));
    }
    out
}

const HALF: i32 = 1 << (FRACTION_BITS - 1);

fn add(sum: i32, (weight, sample): (&i32, &u8)) -> i32 {
    sum + weight * i32::from(*sample)
}

fn level(sum: i32) -> u8 {
    (sum >> FRACTION_BITS).clamp(0, 255) as u8
}

fn runs(source: usize, target: usize) -> Vec<Run> {
    let scale = source as f64 / target as f64;
    // When it shrinks a picture the kernel is widened, so that every source sample counts.
    let stretch = scale.max(1.0);
    let support = LOBES * stretch;
    (0..target)
        .map(|position| {
            let centre = (position as f64 + 0.5) * scale;
            let first = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(source);
            let weights: Vec<f64> =
                (first..end).map(|index| kernel((index as f64 - centre + 0.5) / stretch)).collect();
            let sum: f64 = weights.iter().sum();
            let fixed = |weight: &f64| (weight / sum * f64::from(1 << FRACTION_BITS)).round() as i32;
            Run { first, weights: weights.iter().map(fixed).collect() }
        })
        .collect()
}

fn kernel(distance: f64) -> f64 {
    if distance.abs() < LOBES { sinc(distance) * sinc(distance / LOBES) } else { 0.0 }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) }
}
