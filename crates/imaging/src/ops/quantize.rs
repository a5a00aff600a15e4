//! Bringing a picture down to a few colours.

use super::dither::{Dither, bayer_pattern};
use super::median_cut::palette;
use crate::error::{ImagingError, Result};
use crate::pixels::{Channels, PixelView, Pixels, to_levels_truncating};

/// Reduces a picture to at most `colours` colours of its own.
///
/// # Source
/// Same values as ComfyUI `ImageQuantize`, which works on 8-bit levels with Pillow's median cut.
///
/// # Errors
/// [`ImagingError::InvalidArgument`] for a picture that is not RGB or for 0 or more than 256 colours.
pub fn quantize(image: PixelView<'_, f32>, colours: usize, dither: Dither) -> Result<Pixels<f32>> {
    let wrong = |name, found: String, expected| Err(ImagingError::InvalidArgument { name, found, expected });
    if image.channels() != Channels::Rgb {
        return wrong("channels", image.channels().count().to_string(), "3");
    }
    if !(1..=256).contains(&colours) {
        return wrong("colors", colours.to_string(), "1 to 256");
    }
    let mut levels = to_levels_truncating(image.data());
    let mut chosen = Palette::new(palette(&levels, colours));
    if let Dither::Bayer(side) = dither {
        add_pattern(&mut levels, image.width(), side, chosen.colours.len());
    }
    match dither {
        Dither::FloydSteinberg => spread_error(&mut levels, image.width(), &mut chosen),
        Dither::None | Dither::Bayer(_) => {
            levels.as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| *pixel = chosen.nearest(*pixel));
        }
    }
    let samples = levels.into_iter().map(|level| f32::from(level) / 255.0).collect();
    Pixels::new(image.width(), image.height(), Channels::Rgb, samples)
}

/// A palette with a memory of what is nearest to what.
struct Palette {
    colours: Vec<[u8; 3]>,
    /// By the upper six bits of each level; `UNKNOWN` until somebody asks.
    cells: Vec<u16>,
}

const UNKNOWN: u16 = u16::MAX;

impl Palette {
    fn new(colours: Vec<[u8; 3]>) -> Self {
        Self { colours, cells: vec![UNKNOWN; 1 << 18] }
    }

    /// Finds the nearest colour. As in Pillow, levels that differ in their two lowest bits only are not told apart.
    fn nearest(&mut self, pixel: [u8; 3]) -> [u8; 3] {
        let [red, green, blue] = pixel.map(|level| usize::from(level >> 2));
        let cell = &mut self.cells[(red << 12) | (green << 6) | blue];
        if *cell == UNKNOWN {
            let corner = pixel.map(|level| i32::from(level & !3));
            let distance = |colour: &[u8; 3]| -> i32 {
                colour.iter().zip(corner).map(|(level, at)| (i32::from(*level) - at).pow(2)).sum()
            };
            // The first of equals.
            let best = self.colours.iter().enumerate().min_by_key(|(_, colour)| distance(colour));
            *cell = best.map_or(0, |(index, _)| index as u16);
        }
        self.colours[usize::from(*cell)]
    }
}

/// Replaces each pixel and hands its error on to its neighbours, 7/16 to the right and 3/16, 5/16, 1/16 to the row below.
fn spread_error(levels: &mut [u8], width: usize, palette: &mut Palette) {
    let mut below = vec![[0_i32; 3]; width + 1];
    for row in levels.chunks_exact_mut(width * 3) {
        // What the row below gets under the last pixel, and under the one after it.
        let (mut under, mut ahead, mut carried) = ([0_i32; 3], [0_i32; 3], [0_i32; 3]);
        for (x, pixel) in row.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            let mut wanted = [0_i32; 3];
            for channel in 0..3 {
                let error = (carried[channel] + below[x + 1][channel]) / 16;
                wanted[channel] = (i32::from(pixel[channel]) + error).clamp(0, 255);
            }
            *pixel = palette.nearest(wanted.map(|level| level as u8));
            for channel in 0..3 {
                let error = wanted[channel] - i32::from(pixel[channel]);
                below[x][channel] = 3 * error + under[channel];
                under[channel] = 5 * error + ahead[channel];
                ahead[channel] = error;
                carried[channel] = 7 * error;
            }
        }
        // Pillow mixes the channels up at the end of a row; the last pixel of the next one shows it.
        below[width] = [under[2], ahead[2], ahead[2]];
    }
}

/// Adds a threshold pattern that is as strong as the palette is coarse.
fn add_pattern(levels: &mut [u8], width: usize, side: u32, colours: usize) {
    let spread = 2.0 * 256.0 / colours as f32;
    let pattern = bayer_pattern(side);
    for (y, row) in levels.chunks_exact_mut(width * 3).enumerate() {
        let thresholds = &pattern[y % pattern.len()];
        for (x, pixel) in row.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            let added = spread * thresholds[x % thresholds.len()] + 0.5;
            *pixel = pixel.map(|level| (f32::from(level) + added).clamp(0.0, 255.0) as u8);
        }
    }
}
