//! The PyTorch methods as weighted taps: along rows first, then along columns, in f32.

use super::{ResizeMethod, Window};
use crate::error::Result;
use crate::pixels::{PixelView, Pixels};

/// The source samples that make one target sample, with their weights.
struct Taps {
    /// Position and weight of every tap, target after target.
    entries: Vec<(usize, f32)>,
    /// Where each target's entries begin; one more than there are targets.
    starts: Vec<usize>,
}

impl Taps {
    fn new(method: ResizeMethod, source: usize, target: usize) -> Self {
        let mut taps = Self { entries: Vec::new(), starts: Vec::with_capacity(target + 1) };
        taps.starts.push(0);
        for position in 0..target {
            match method {
                ResizeMethod::NearestExact => taps.nearest(position, source, target),
                ResizeMethod::Bilinear => taps.linear(position, source, target),
                ResizeMethod::Area => taps.area(position, source, target),
                ResizeMethod::Bicubic => taps.cubic(position, source, target),
                ResizeMethod::Lanczos => unreachable!("lanczos has its own arithmetic"),
            }
            taps.starts.push(taps.entries.len());
        }
        taps
    }

    fn of(&self, position: usize) -> &[(usize, f32)] {
        &self.entries[self.starts[position]..self.starts[position + 1]]
    }

    fn nearest(&mut self, position: usize, source: usize, target: usize) {
        let exact = (position as f32 + 0.5) * scale(source, target);
        self.entries.push(((exact as usize).min(source - 1), 1.0));
    }

    fn linear(&mut self, position: usize, source: usize, target: usize) {
        let centre = ((position as f32 + 0.5) * scale(source, target) - 0.5).max(0.0);
        let lower = (centre as usize).min(source - 1);
        let upper = (lower + 1).min(source - 1);
        let weight = (centre - lower as f32).clamp(0.0, 1.0);
        self.entries.extend([(lower, 1.0 - weight), (upper, weight)]);
    }

    /// Averages every source sample that the target sample touches, each fully.
    fn area(&mut self, position: usize, source: usize, target: usize) {
        let first = position * source / target;
        let last = ((position + 1) * source).div_ceil(target);
        let weight = 1.0 / (last - first) as f32;
        self.entries.extend((first..last).map(|index| (index, weight)));
    }

    /// Keys' cubic convolution with a = -0.75; positions outside repeat the border.
    fn cubic(&mut self, position: usize, source: usize, target: usize) {
        let centre = (position as f32 + 0.5) * scale(source, target) - 0.5;
        let floor = centre.floor();
        let offset = centre - floor;
        let weights = [far(offset + 1.0), near(offset), near(1.0 - offset), far(2.0 - offset)];
        let border = source as isize - 1;
        self.entries.extend((-1..=2).zip(weights).map(|(step, weight)| {
            let index = (floor as isize + step).clamp(0, border);
            (index as usize, weight)
        }));
    }
}

fn scale(source: usize, target: usize) -> f32 {
    source as f32 / target as f32
}

const SHARPNESS: f32 = -0.75;

/// The cubic kernel for distances up to one.
fn near(distance: f32) -> f32 {
    ((SHARPNESS + 2.0) * distance - (SHARPNESS + 3.0)) * distance * distance + 1.0
}

/// The cubic kernel for distances from one to two.
fn far(distance: f32) -> f32 {
    ((SHARPNESS * distance - 5.0 * SHARPNESS) * distance + 8.0 * SHARPNESS) * distance - 4.0 * SHARPNESS
}

/// Resizes a window of a picture.
pub(super) fn resize(
    image: PixelView<'_, f32>,
    window: Window,
    (width, height): (usize, usize),
    method: ResizeMethod,
) -> Result<Pixels<f32>> {
    let across = Taps::new(method, window.width, width);
    let down = Taps::new(method, window.height, height);
    let channels = image.channels().count();
    let row_samples = width * channels;

    let mut rows = vec![0.0_f32; window.height * row_samples];
    for (y, row) in rows.chunks_exact_mut(row_samples).enumerate() {
        let start = ((window.y + y) * image.width() + window.x) * channels;
        let source = &image.data()[start..start + window.width * channels];
        for (x, pixel) in row.chunks_exact_mut(channels).enumerate() {
            for (index, weight) in across.of(x) {
                let tap = &source[index * channels..(index + 1) * channels];
                pixel.iter_mut().zip(tap).for_each(|(sum, sample)| *sum += weight * sample);
            }
        }
    }

    let mut out = vec![0.0_f32; height * row_samples];
    for (y, row) in out.chunks_exact_mut(row_samples).enumerate() {
        for (index, weight) in down.of(y) {
            let tap = &rows[index * row_samples..(index + 1) * row_samples];
            row.iter_mut().zip(tap).for_each(|(sum, sample)| *sum += weight * sample);
        }
    }
    Pixels::new(width, height, image.channels(), out)
}
