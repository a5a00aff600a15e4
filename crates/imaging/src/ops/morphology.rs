//! Maxima and minima of neighbourhoods; what lies outside of the picture does not count.

use crate::error::Result;
use crate::pixels::{PixelView, Pixels};

/// Which sample of a neighbourhood is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extreme {
    Largest,
    Smallest,
}

impl Extreme {
    fn of(self, a: f32, b: f32) -> f32 {
        match self {
            Self::Largest => a.max(b),
            Self::Smallest => a.min(b),
        }
    }
}

/// Takes the extreme of a square of `size` pixels around each pixel. An even square reaches further to the top left.
///
/// # Source
/// Same values as ComfyUI `Morphology`: `Largest` dilates, `Smallest` erodes.
///
/// # Errors
/// None that the type of `image` does not rule out.
pub fn square(image: PixelView<'_, f32>, size: usize, extreme: Extreme) -> Result<Pixels<f32>> {
    let (width, height, channels) = (image.width(), image.height(), image.channels().count());
    let row_samples = width * channels;
    let mut rows = image.data().to_vec();
    let mut line = Line::new(size, extreme);
    for row in rows.chunks_exact_mut(row_samples) {
        for channel in 0..channels {
            line.run(row, channel, channels);
        }
    }
    for column in 0..row_samples {
        line.run(&mut rows, column, row_samples);
    }
    Pixels::new(width, height, image.channels(), rows)
}

/// A sliding extreme along a line, in time that does not depend on the window.
struct Line {
    before: usize,
    after: usize,
    extreme: Extreme,
    samples: Vec<f32>,
    /// Positions whose sample can still become the extreme, best first.
    queue: std::collections::VecDeque<usize>,
}

impl Line {
    fn new(size: usize, extreme: Extreme) -> Self {
        let before = size / 2;
        let after = size.saturating_sub(before + 1);
        Self { before, after, extreme, samples: Vec::new(), queue: std::collections::VecDeque::new() }
    }

    /// Replaces every `step`th sample from `start` on.
    fn run(&mut self, all: &mut [f32], start: usize, step: usize) {
        self.samples.clear();
        self.samples.extend(all[start..].iter().step_by(step));
        self.queue.clear();
        let mut next = 0;
        for (position, sample) in all[start..].iter_mut().step_by(step).enumerate() {
            while next < self.samples.len() && next <= position + self.after {
                let arriving = self.samples[next];
                while self.queue.back().is_some_and(|last| self.is_beaten(self.samples[*last], arriving)) {
                    self.queue.pop_back();
                }
                self.queue.push_back(next);
                next += 1;
            }
            while self.queue.front().is_some_and(|first| first + self.before < position) {
                self.queue.pop_front();
            }
            if let Some(first) = self.queue.front() {
                *sample = self.samples[*first];
            }
        }
    }

    fn is_beaten(&self, old: f32, new: f32) -> bool {
        self.extreme.of(old, new) == new
    }
}

/// Takes the extreme of each pixel and its four direct neighbours. Says whether anything changed.
///
/// # Shapes
/// `plane` is `[height, width]`.
pub fn cross_step(plane: &mut [f32], width: usize, extreme: Extreme) -> bool {
    let old = plane.to_vec();
    let height = old.len() / width;
    for (i, sample) in plane.iter_mut().enumerate() {
        let (x, y) = (i % width, i / width);
        let neighbours = [
            (x > 0).then(|| old[i - 1]),
            (x + 1 < width).then(|| old[i + 1]),
            (y > 0).then(|| old[i - width]),
            (y + 1 < height).then(|| old[i + width]),
        ];
        *sample = neighbours.into_iter().flatten().fold(old[i], |a, b| extreme.of(a, b));
    }
    *plane != *old
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixels::Channels;

    /// The definition, window by window.
    fn slow(samples: &[f32], width: usize, size: usize, extreme: Extreme) -> Vec<f32> {
        let height = samples.len() / width;
        let range = |at: usize, side: usize| {
            let first = at.saturating_sub(size / 2);
            first..(at + size - size / 2).min(side)
        };
        (0..samples.len())
            .map(|i| {
                let rows = range(i / width, height);
                let values = rows.flat_map(|y| range(i % width, width).map(move |x| samples[y * width + x]));
                values.reduce(|a, b| extreme.of(a, b)).unwrap()
            })
            .collect()
    }

    #[test]
    fn sliding_windows_are_windows() {
        let samples: Vec<f32> = (0..13 * 7).map(|i| ((i * 37 + i * i * 11) % 29) as f32).collect();
        let view = PixelView::new(13, 7, Channels::Gray, &samples).unwrap();
        for size in [1, 2, 3, 4, 5, 8, 30] {
            for extreme in [Extreme::Largest, Extreme::Smallest] {
                let fast = square(view, size, extreme).unwrap().into_data();
                assert_eq!(fast, slow(&samples, 13, size, extreme), "{size} {extreme:?}");
            }
        }
    }
}
