//! Self-attention within tiles of a large picture.

use std::cell::Cell;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::changes::Place;
use crate::error::Result;
use crate::sampling::python_randint;

/// Pixels per place of the latent.
const LATENT_FACTOR: u64 = 8;
const MIN_TILE_PIXELS: u64 = 32;

/// Cuts self-attention of the widest feature maps into tiles, which costs less than looking at the whole picture.
///
/// # Source
/// HyperTile (github.com/tfernd/HyperTile); same values as ComfyUI `HyperTile`. As there, the places that look are cut
/// into tiles and the places looked at into bands of as many rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HyperTile {
    /// Smallest side of a tile, in pixels.
    pub tile_size: u64,
    /// Of how many sizes one is chosen at random.
    pub swap_size: usize,
    /// How many times the first width may be doubled until attention is left whole.
    pub max_depth: u32,
    /// Makes the tiles of deeper levels larger.
    pub scale_depth: bool,
}

/// The choices of one run, which are the same for every run.
#[derive(Debug)]
pub struct HyperTileRun {
    settings: HyperTile,
    draws: Cell<u32>,
}

/// Rows and columns of tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tiles {
    count: [usize; 2],
    /// Sides of one tile.
    side: [usize; 2],
}

impl HyperTileRun {
    pub fn new(settings: HyperTile) -> Self {
        Self { settings, draws: Cell::new(0) }
    }

    /// Chooses the tiles of a feature map, or leaves it whole.
    pub(super) fn tiles(&self, width: usize, places: usize, place: &Place<'_>) -> Option<Tiles> {
        let doubled = (0..=self.settings.max_depth).any(|depth| width == place.first_width << depth);
        if !doubled {
            return None;
        }
        let depth = if self.settings.scale_depth { width / place.first_width - 1 } else { 0 };
        let smallest = (self.settings.tile_size.max(MIN_TILE_PIXELS) / LATENT_FACTOR) << depth.min(32);
        let smallest = usize::try_from(smallest).unwrap_or(usize::MAX);
        let [rows, columns] = place.latent;
        let sides = sides(places, columns as f64 / rows as f64);
        let count = sides.map(|side| self.divide(side, smallest));
        (count != [1, 1]).then(|| Tiles { count, side: [sides[0] / count[0], sides[1] / count[1]] })
    }

    /// Returns the number of parts that a side is cut into.
    fn divide(&self, side: usize, smallest: usize) -> usize {
        let lengths = (smallest.min(side)..=side).filter(|length| side.is_multiple_of(*length));
        let choices: Vec<usize> =
            lengths.take(self.settings.swap_size.max(1)).map(|length| side / length).collect();
        self.draws.set(self.draws.get() + 1);
        choices[python_randint(self.draws.get(), choices.len())]
    }
}

/// Finds two sides of an area, the first over the second nearest to `aspect`.
fn sides(area: usize, aspect: f64) -> [usize; 2] {
    let [first, second] =
        [area as f64 * aspect, area as f64 / aspect].map(|square| square.sqrt().round_ties_even() as usize);
    if first * second == area {
        [first, second]
    } else if first > 0 && area.is_multiple_of(first) {
        [first, area / first]
    } else if second > 0 && area.is_multiple_of(second) {
        [area / second, second]
    } else {
        let pairs = (2..=area).filter(|side| area.is_multiple_of(*side)).map(|side| [side, area / side]);
        let distance = |[h, w]: &[usize; 2]| (*w as f64 / *h as f64 - aspect).abs();
        pairs.min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or([area, 1])
    }
}

impl Tiles {
    /// Cuts `[B, places, C]` into `[B tiles, places per tile, C]`.
    pub(super) fn cut(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, _, channels) = x.dims3()?;
        let ([rows, columns], [height, width]) = (self.count, self.side);
        let tiles = x.reshape(&[batch, rows, height, columns, width, channels][..])?.transpose(2, 3)?;
        Ok(tiles.reshape((batch * rows * columns, height * width, channels))?)
    }

    /// Cuts `[B, places, C]` into bands, as many as there are tiles.
    pub(super) fn bands(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, places, channels) = x.dims3()?;
        let count = self.count[0] * self.count[1];
        Ok(x.reshape((batch * count, places / count, channels))?)
    }

    /// Joins what [`Tiles::cut`] cut.
    pub(super) fn join(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, _, channels) = x.dims3()?;
        let ([rows, columns], [height, width]) = (self.count, self.side);
        let batch = batch / (rows * columns);
        let map = x.reshape(&[batch, rows, columns, height, width, channels][..])?.transpose(2, 3)?;
        Ok(map.reshape((batch, rows * height * columns * width, channels))?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::UnetChanges;
    use super::*;

    fn place(latent: [usize; 2]) -> Place<'static> {
        Place { changes: UnetChanges::default(), latent, first_width: 320, middle: false, transformer: 0 }
    }

    #[test]
    fn sides_follow_the_latent() {
        assert_eq!(sides(64 * 96, 1.5), [96, 64]);
        // 9 by 13 of an odd latent of 17 by 25, where the rounded roots do not multiply to the area.
        assert_eq!(sides(117, 25.0 / 17.0), [13, 9]);
        assert_eq!(sides(13, 1.0), [13, 1]);
    }

    #[test]
    fn maps_are_cut_where_the_settings_say() {
        let settings = HyperTile { tile_size: 256, swap_size: 2, max_depth: 0, scale_depth: false };
        let run = HyperTileRun::new(settings);
        // Divisors of 64 from 32 on are 32 and 64: two parts or one.
        let chosen: Vec<_> = (0..8).map(|_| run.tiles(320, 64 * 64, &place([64, 64]))).collect();
        assert!(chosen.contains(&None) || chosen.iter().flatten().any(|tiles| tiles.count != [2, 2]));
        let again = HyperTileRun::new(settings);
        assert_eq!(chosen, (0..8).map(|_| again.tiles(320, 64 * 64, &place([64, 64]))).collect::<Vec<_>>());
        assert_eq!(run.tiles(640, 32 * 32, &place([64, 64])), None);
        let deep = HyperTileRun::new(HyperTile { swap_size: 1, max_depth: 1, scale_depth: true, ..settings });
        let tiles = deep.tiles(320, 128 * 128, &place([128, 128])).unwrap();
        assert_eq!((tiles.count, tiles.side), ([4, 4], [32, 32]));
        // One level down, tiles keep twice as many places of a side half as long.
        assert_eq!(deep.tiles(640, 64 * 64, &place([128, 128])), None);
    }

    #[test]
    fn tiles_come_back_as_they_were() {
        let x = Tensor::arange(0f32, 2.0 * 24.0 * 3.0, &Device::Cpu).unwrap().reshape((2, 24, 3)).unwrap();
        let tiles = Tiles { count: [2, 3], side: [2, 2] };
        let cut = tiles.cut(&x).unwrap();
        assert_eq!(cut.dims(), [12, 4, 3]);
        let first: Vec<f32> = cut.get(0).unwrap().get_on_dim(1, 0).unwrap().to_vec1().unwrap();
        // Places 0, 1, 6 and 7 of a map of 4 by 6.
        assert_eq!(first, [0.0, 3.0, 18.0, 21.0]);
        let back: Vec<Vec<Vec<f32>>> = tiles.join(&cut).unwrap().to_vec3().unwrap();
        assert_eq!(back, x.to_vec3::<f32>().unwrap());
    }
}
