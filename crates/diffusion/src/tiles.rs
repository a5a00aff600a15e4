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
    /// Largest width of a tile, more than `overlap` where the picture is wider.
    pub tile_width: usize,
    /// Largest height of a tile, more than `overlap` where the picture is higher.
    pub tile_height: usize,
    /// Pixels that neighbours share.
    pub overlap: usize,
}

/// Why a picture cannot be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("tiles of {tile} that share {overlap} with their neighbours do not get on: share less than a tile")]
pub struct OverlapTooLarge {
    pub tile: usize,
    pub overlap: usize,
}

impl TilePlan {
    /// Cuts a picture in three ways: into wide, high and square tiles of about one area. The mean of the three
    /// results shows less of the seams than one does.
    ///
    /// # Errors
    /// When tiles would share all of themselves with their neighbours.
    ///
    /// # Source
    /// Same cuts as ComfyUI's tiled autoencoder.
    pub fn three_ways(
        [width, height]: [usize; 2],
        tile: usize,
        overlap: usize,
    ) -> Result<[Self; 3], OverlapTooLarge> {
        let plan = |tile_width, tile_height| {
            let tight = |size: usize, tile: usize| size > tile && tile <= overlap;
            if tight(width, tile_width) || tight(height, tile_height) {
                return Err(OverlapTooLarge { tile: tile_width.min(tile_height), overlap });
            }
            Ok(Self { width, height, tile_width, tile_height, overlap })
        };
        Ok([plan(tile / 2, tile * 2)?, plan(tile * 2, tile / 2)?, plan(tile, tile)?])
    }

    /// The tiles, row by row.
    pub fn tiles(&self) -> Vec<Tile> {
        let starts = |size: usize, tile: usize| -> Vec<(usize, usize)> {
            if size <= tile {
                return vec![(0, size)];
            }
            (0..size - self.overlap)
                .step_by(tile - self.overlap)
                .map(|start| (start, tile.min(size - start)))
                .collect()
        };
        let columns = starts(self.width, self.tile_width);
        let row = |(y, height)| columns.iter().map(move |&(x, width)| Tile { x, y, width, height });
        starts(self.height, self.tile_height).into_iter().flat_map(row).collect()
    }

    /// Makes every tile and blends them; a picture of one tile stays as it is made.
    ///
    /// # Shapes
    /// As [`TilePlan::blend`].
    ///
    /// # Errors
    /// What `make` gives.
    pub fn run<E>(
        &self,
        channels: usize,
        factor: usize,
        mut make: impl FnMut(Tile) -> Result<Vec<f32>, E>,
    ) -> Result<Vec<f32>, E> {
        match *self.tiles() {
            [one] => make(one),
            ref tiles => {
                let parts =
                    tiles.iter().map(|&tile| Ok((tile, make(tile)?))).collect::<Result<Vec<_>, E>>()?;
                Ok(self.blend(parts.into_iter(), channels, factor))
            }
        }
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

    /// What `tiles.py` computes: a function whose result depends on where a tile ends.
    fn drawn(plan: &TilePlan, factor: usize) -> Vec<f32> {
        let value = |x: usize, y: usize| ((x * 7 + y * 13) % 17) as f32 / 16.0;
        let make = |tile: Tile| {
            let cells = (0..tile.height).flat_map(|y| (0..tile.width).map(move |x| (x, y)));
            let sum: f32 = cells.map(|(x, y)| value(tile.x + x, tile.y + y)).sum();
            let mean = sum / (tile.width * tile.height) as f32;
            let (w, h) = (tile.width * factor, tile.height * factor);
            let cell = |x: usize, y: usize| value(tile.x + x / factor, tile.y + y / factor);
            let pixel = |i: usize| cell(i % w, i / w) + mean * (i % w) as f32 - mean * mean * (i / w) as f32;
            Ok::<_, std::convert::Infallible>((0..w * h).map(pixel).collect())
        };
        plan.run(1, factor, make).unwrap()
    }

    #[test]
    fn three_cuts_give_the_reference_pictures() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../tests/fixtures/tiles.json")).unwrap();
        for case in golden.as_array().unwrap() {
            let number = |name: &str| case[name].as_u64().unwrap() as usize;
            let (size, factor) = ([number("width"), number("height")], number("factor"));
            let plans = TilePlan::three_ways(size, number("tile"), number("overlap")).unwrap();
            let pictures = plans.map(|plan| drawn(&plan, factor));
            let expected = case["expected"].as_array().unwrap();
            assert_eq!(expected.len(), pictures[0].len());
            for (i, expected) in expected.iter().enumerate() {
                let mean = pictures.iter().map(|picture| picture[i]).sum::<f32>() / 3.0;
                let expected = expected.as_f64().unwrap() as f32;
                assert!((mean - expected).abs() <= 2e-4, "{size:?} at {i}: {mean} {expected}");
            }
        }
    }

    #[test]
    fn tiles_that_would_not_get_on_are_refused() {
        let error = TilePlan::three_ways([100, 10], 16, 8).unwrap_err();
        assert_eq!(error, OverlapTooLarge { tile: 8, overlap: 8 });
        assert!(TilePlan::three_ways([8, 8], 16, 8).is_ok());
    }

    #[test]
    fn tiles_cover_everything_and_leave_no_seam() {
        for (width, height) in [(5, 5), (16, 16), (17, 40), (100, 33)] {
            let plan = TilePlan { width, height, tile_width: 16, tile_height: 16, overlap: 4 };
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
