//! Edges as Canny finds them: blur, gradient, thinning, two thresholds.

use super::gaussian::mirrored;
use crate::error::{ImagingError, Result};
use crate::pixels::{Channels, PixelView};

/// Half the side of the blur window.
const RADIUS: usize = 2;
const SIGMA: f32 = 1.0;
/// Keeps the root of a flat gradient away from zero.
const EPSILON: f32 = 1e-6;
/// The neighbour that lies in a direction of `i` times 45 degrees; y points down.
const DIRECTIONS: [(isize, isize); 8] =
    [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)];

/// Marks the edges of a picture with 1, everything else with 0.
///
/// An edge is brighter than `high` somewhere and than `low` everywhere; both are compared with the length of the
/// gradient.
///
/// # Shapes
/// A picture of any channels to `[height, width]`.
///
/// # Source
/// Same steps as `kornia.filters.canny`, which ComfyUI `Canny` uses.
///
/// # Errors
/// [`ImagingError::InvalidArgument`] when a side is shorter than 3 pixels.
pub fn canny(image: PixelView<'_, f32>, low: f32, high: f32) -> Result<Vec<f32>> {
    let (width, height) = (image.width(), image.height());
    if width.min(height) <= RADIUS {
        return Err(ImagingError::InvalidArgument {
            name: "picture",
            found: format!("{width}x{height}"),
            expected: "at least 3x3 pixels",
        });
    }
    let blurred = blur(&gray(image), width, height);
    let plane = Plane { width, height, samples: &blurred };
    let (lengths, directions) = gradient(&plane);
    let thin = thinned(&Plane { samples: &lengths, ..plane }, &directions);
    Ok(connected(&thin, width, low, high))
}

#[derive(Clone, Copy)]
struct Plane<'a> {
    width: usize,
    height: usize,
    samples: &'a [f32],
}

impl Plane<'_> {
    /// The sample at a position; outside, the nearest one inside.
    fn nearest(&self, x: isize, y: isize) -> f32 {
        let inside = |at: isize, side: usize| at.clamp(0, side as isize - 1) as usize;
        self.samples[inside(y, self.height) * self.width + inside(x, self.width)]
    }

    /// The sample at a position; outside, nothing.
    fn get(&self, x: isize, y: isize) -> f32 {
        let inside = x >= 0 && y >= 0 && x < self.width as isize && y < self.height as isize;
        if inside { self.nearest(x, y) } else { 0.0 }
    }

    fn positions(&self) -> impl Iterator<Item = (isize, isize)> + use<> {
        let width = self.width as isize;
        (0..self.height as isize).flat_map(move |y| (0..width).map(move |x| (x, y)))
    }
}

fn gray(image: PixelView<'_, f32>) -> Vec<f32> {
    if image.channels() == Channels::Gray {
        return image.data().to_vec();
    }
    let pixels = image.data().chunks_exact(image.channels().count());
    pixels.map(|pixel| 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2]).collect()
}

fn blur(plane: &[f32], width: usize, height: usize) -> Vec<f32> {
    let raw: Vec<f32> = (0..=2 * RADIUS)
        .map(|i| (-(i as f32 - RADIUS as f32).powi(2) / (2.0 * SIGMA * SIGMA)).exp())
        .collect();
    let sum: f32 = raw.iter().sum();
    let weights: Vec<f32> = raw.iter().map(|weight| weight / sum).collect();
    let taps = |at: usize, side: usize| (0..weights.len()).map(move |i| mirrored(at + i, RADIUS, side));
    let across: Vec<f32> = plane
        .chunks_exact(width)
        .flat_map(|row| (0..width).map(move |x| (row, x)))
        .map(|(row, x)| taps(x, width).zip(&weights).map(|(column, weight)| row[column] * weight).sum())
        .collect();
    (0..width * height)
        .map(|i| {
            taps(i / width, height)
                .zip(&weights)
                .map(|(y, weight)| across[y * width + i % width] * weight)
                .sum()
        })
        .collect()
}

/// The length of the gradient at each pixel, and its direction in eighths of a turn.
fn gradient(plane: &Plane<'_>) -> (Vec<f32>, Vec<usize>) {
    let sobel = |x: isize, y: isize| {
        let at = |dx: isize, dy: isize| plane.nearest(x + dx, y + dy);
        let across = (at(1, -1) - at(-1, -1)) + 2.0 * (at(1, 0) - at(-1, 0)) + (at(1, 1) - at(-1, 1));
        let down = (at(-1, 1) - at(-1, -1)) + 2.0 * (at(0, 1) - at(0, -1)) + (at(1, 1) - at(1, -1));
        (across, down)
    };
    plane
        .positions()
        .map(|(x, y)| {
            let (across, down) = sobel(x, y);
            let eighths = (down.atan2(across).to_degrees() / 45.0).round_ties_even() as i32;
            ((across * across + down * down + EPSILON).sqrt(), eighths.rem_euclid(8) as usize)
        })
        .unzip()
}

/// Keeps a length only where it is above both neighbours along the gradient.
fn thinned(lengths: &Plane<'_>, directions: &[usize]) -> Vec<f32> {
    let kept = |((x, y), direction): ((isize, isize), &usize)| {
        let length = lengths.get(x, y);
        let neighbour = |direction: usize| {
            let (dx, dy) = DIRECTIONS[direction % 8];
            lengths.get(x + dx, y + dy)
        };
        let is_peak = length > neighbour(*direction) && length > neighbour(direction + 4);
        if is_peak { length } else { 0.0 }
    };
    lengths.positions().zip(directions).map(kept).collect()
}

/// Follows the weak edges that touch strong ones.
fn connected(lengths: &[f32], width: usize, low: f32, high: f32) -> Vec<f32> {
    let mut edges = vec![0.0; lengths.len()];
    let mut stack: Vec<usize> =
        (0..lengths.len()).filter(|i| lengths[*i] > low && lengths[*i] > high).collect();
    stack.iter().for_each(|i| edges[*i] = 1.0);
    let height = lengths.len() / width;
    while let Some(i) = stack.pop() {
        let (x, y) = ((i % width) as isize, (i / width) as isize);
        for (dx, dy) in DIRECTIONS {
            let (x, y) = (x + dx, y + dy);
            if x < 0 || y < 0 || x >= width as isize || y >= height as isize {
                continue;
            }
            let next = y as usize * width + x as usize;
            if edges[next] == 0.0 && lengths[next] > low {
                edges[next] = 1.0;
                stack.push(next);
            }
        }
    }
    edges
}
