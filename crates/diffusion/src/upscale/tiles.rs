//! Cuts a picture into overlapping tiles and blends the results.

/// A rectangle of the input, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    pub x: usize,
    pub y: usize,
    pub width: usize,
    pub height: usize,
}

/// How a picture is cut.
#[derive(Debug, Clone, Copy)]
pub struct TilePlan {
    pub width: usize,
    pub height: usize,
    /// Largest side of a tile, more than `overlap`.
    pub tile: usize,
    /// Pixels that neighbours share.
    pub overlap: usize,
}

impl TilePlan {
    /// The tiles, row by row.
    pub fn tiles(&self) -> Vec<Tile> {
        let starts = |size: usize| -> Vec<(usize, usize)> {
            if size <= self.tile {
                return vec![(0, size)];
            }
            (0..size - self.overlap)
                .step_by(self.tile - self.overlap)
                .map(|start| (start, self.tile.min(size - start)))
                .collect()
        };
        let columns = starts(self.width);
        let row = |(y, height)| columns.iter().map(move |&(x, width)| Tile { x, y, width, height });
        starts(self.height).into_iter().flat_map(row).collect()
    }

    /// Blends enlarged tiles.
    ///
    /// Towards its border a tile counts less and less over the width of the overlap, so that no seam shows. Where only
    /// one tile reaches, its weight does not matter.
    ///
    /// # Shapes
    /// One `[channels, factor * height, factor * width]` block per tile, in the order of [`TilePlan::tiles`]; the
    /// result is `[channels, factor * self.height, factor * self.width]`.
    ///
    /// # Source
    /// Same values as ComfyUI's tiled scaling.
    pub fn blend(
        &self,
        parts: impl Iterator<Item = (Tile, Vec<f32>)>,
        channels: usize,
        factor: usize,
    ) -> Vec<f32> {
        let (width, height) = (self.width * factor, self.height * factor);
        let (mut sum, mut weights) = (vec![0f32; channels * width * height], vec![0f32; width * height]);
        let feather = self.overlap * factor;
        let ramp = |i: usize, size: usize| {
            let part = |distance: usize| {
                if distance < feather { (distance + 1) as f32 / feather as f32 } else { 1.0 }
            };
            part(i) * part(size - 1 - i)
        };
        for (tile, values) in parts {
            let (w, h) = (tile.width * factor, tile.height * factor);
            let across: Vec<f32> = (0..w).map(|i| ramp(i, w)).collect();
            for y in 0..h {
                let down = ramp(y, h);
                let at = (tile.y * factor + y) * width + tile.x * factor;
                for (x, across) in across.iter().enumerate() {
                    weights[at + x] += down * across;
                }
                for channel in 0..channels {
                    let row = &values[(channel * h + y) * w..][..w];
                    let out = &mut sum[channel * width * height + at..][..w];
                    for ((out, value), across) in out.iter_mut().zip(row).zip(&across) {
                        *out += value * (down * across);
                    }
                }
            }
        }
        for plane in sum.chunks_mut(width * height) {
            plane.iter_mut().zip(&weights).for_each(|(value, weight)| *value /= weight);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enlarge(plan: &TilePlan, factor: usize) -> Vec<f32> {
        let value = |x: usize, y: usize| (x * 3 + y) as f32;
        let parts = plan.tiles().into_iter().map(|tile| {
            let (w, h) = (tile.width * factor, tile.height * factor);
            let values =
                (0..w * h).map(|i| value(tile.x * factor + i % w, tile.y * factor + i / w)).collect();
            (tile, values)
        });
        plan.blend(parts, 1, factor)
    }

    #[test]
    fn tiles_cover_everything_and_leave_no_seam() {
        for (width, height) in [(5, 5), (16, 16), (17, 40), (100, 33)] {
            let plan = TilePlan { width, height, tile: 16, overlap: 4 };
            assert!(plan.tiles().iter().all(|t| t.width <= 16 && t.height <= 16));
            for (i, found) in enlarge(&plan, 2).into_iter().enumerate() {
                let expected = (i % (2 * width) * 3 + i / (2 * width)) as f32;
                assert!(
                    (found - expected).abs() <= expected * 1e-6,
                    "{width}x{height} at {i}: {found} {expected}"
                );
            }
        }
    }
}
