//! Choosing a palette by median cut.
//!
//! # Source
//! The same palettes, in the same order, as Pillow's `MEDIANCUT`: the box with the most pixels is cut next, across
//! the channel that is longest by luminance, where half of its pixels are on each side.

use std::collections::HashMap;

/// The weight of red, green and blue when the longest side is sought.
const LUMINANCE: [i32; 3] = [77, 150, 29];

/// More different colours than this are first brought down by dropping low bits.
const MAX_COLOURS: usize = 65_536;

/// A colour of the picture and how many pixels have it.
#[derive(Clone, Copy)]
struct Colour {
    levels: [u8; 3],
    pixels: u64,
}

/// A box of colours, and the two boxes it was cut into.
struct Cut {
    colours: Vec<Colour>,
    pixels: u64,
    halves: Option<(usize, usize)>,
}

/// Chooses at most `size` colours for pixels of three levels each.
pub(super) fn palette(levels: &[u8], size: usize) -> Vec<[u8; 3]> {
    let pixels = levels.as_chunks::<3>().0;
    let (counts, dropped_bits) = count(pixels);
    let colours: Vec<Colour> = counts.into_iter().map(|(levels, pixels)| Colour { levels, pixels }).collect();
    let cuts = cut(colours, pixels.len() as u64, size);
    averages(pixels, dropped_bits, &leaves(&cuts))
}

fn coarse(pixel: [u8; 3], dropped_bits: u32) -> [u8; 3] {
    pixel.map(|level| level >> dropped_bits)
}

fn count(pixels: &[[u8; 3]]) -> (HashMap<[u8; 3], u64>, u32) {
    let mut counts: HashMap<[u8; 3], u64> = HashMap::new();
    let mut dropped_bits = 0;
    for pixel in pixels {
        *counts.entry(coarse(*pixel, dropped_bits)).or_default() += 1;
        while counts.len() > MAX_COLOURS {
            dropped_bits += 1;
            for (colour, pixels) in std::mem::take(&mut counts) {
                *counts.entry(coarse(colour, 1)).or_default() += pixels;
            }
        }
    }
    (counts, dropped_bits)
}

fn cut(colours: Vec<Colour>, pixels: u64, size: usize) -> Vec<Cut> {
    let mut cuts = vec![Cut { colours, pixels, halves: None }];
    let mut fullest = Fullest::default();
    fullest.push(pixels, 0);
    for _ in 1..size {
        // A box of one colour cannot be cut and is set aside.
        let Some(chosen) = std::iter::from_fn(|| fullest.pop()).find(|i| cuts[*i].colours.len() > 1) else {
            break;
        };
        let colours = std::mem::take(&mut cuts[chosen].colours);
        let (upper, lower) = halve(colours, cuts[chosen].pixels);
        cuts[chosen].halves = Some((cuts.len(), cuts.len() + 1));
        for half in [upper, lower] {
            let pixels = half.iter().map(|colour| colour.pixels).sum();
            fullest.push(pixels, cuts.len());
            cuts.push(Cut { colours: half, pixels, halves: None });
        }
    }
    cuts
}

/// Cuts colours into the brighter and the darker part along their longest channel.
fn halve(mut colours: Vec<Colour>, pixels: u64) -> (Vec<Colour>, Vec<Colour>) {
    let length = |channel: usize| {
        let levels = colours.iter().map(|colour| i32::from(colour.levels[channel]));
        let (low, high) = levels.fold((i32::MAX, i32::MIN), |(low, high), l| (low.min(l), high.max(l)));
        (high - low) * LUMINANCE[channel]
    };
    let lengths = [0, 1, 2].map(length);
    // The first of equals.
    let channel =
        (1..3).fold(0, |best, channel| if lengths[channel] > lengths[best] { channel } else { best });
    colours.sort_by_key(|colour| std::cmp::Reverse(colour.levels[channel]));
    let mut seen = 0;
    let middle = colours
        .iter()
        .position(|colour| {
            seen += colour.pixels;
            seen * 2 > pixels
        })
        .unwrap_or(colours.len() - 1);
    // Colours of one level stay together; the darkest level is the darker part when nothing else is left for it.
    let at_level = |level: u8| colours.partition_point(|colour| colour.levels[channel] >= level);
    let mut boundary = at_level(colours[middle].levels[channel]);
    if boundary == colours.len() {
        let darkest = colours[colours.len() - 1].levels[channel];
        boundary = colours.partition_point(|colour| colour.levels[channel] > darkest);
    }
    let darker = colours.split_off(boundary);
    (colours, darker)
}

/// The boxes that were not cut, brighter parts first.
fn leaves(cuts: &[Cut]) -> Vec<&Cut> {
    let mut found = Vec::new();
    let mut stack = vec![0];
    while let Some(i) = stack.pop() {
        match cuts[i].halves {
            Some((upper, lower)) => stack.extend([lower, upper]),
            None => found.push(&cuts[i]),
        }
    }
    found
}

fn averages(pixels: &[[u8; 3]], dropped_bits: u32, leaves: &[&Cut]) -> Vec<[u8; 3]> {
    let home: HashMap<[u8; 3], usize> = leaves
        .iter()
        .enumerate()
        .flat_map(|(i, leaf)| leaf.colours.iter().map(move |colour| (colour.levels, i)))
        .collect();
    let mut sums = vec![[0_u64; 4]; leaves.len()];
    for pixel in pixels {
        let Some(i) = home.get(&coarse(*pixel, dropped_bits)) else { continue };
        let [red, green, blue] = pixel.map(u64::from);
        sums[*i].iter_mut().zip([red, green, blue, 1]).for_each(|(sum, value)| *sum += value);
    }
    let average = |[red, green, blue, count]: [u64; 4]| {
        [red, green, blue].map(|sum| (0.5 + sum as f64 / count as f64) as u8)
    };
    sums.into_iter().map(average).collect()
}

/// A binary heap of boxes by their pixels. Which of equals comes first decides which box is cut, so the order is that
/// of the plain textbook heap and not the library's.
#[derive(Default)]
struct Fullest {
    entries: Vec<(u64, usize)>,
}

impl Fullest {
    fn push(&mut self, pixels: u64, index: usize) {
        self.entries.push((pixels, index));
        let mut place = self.entries.len();
        while place > 1 && self.entries[place - 1].0 > self.entries[place / 2 - 1].0 {
            self.entries.swap(place - 1, place / 2 - 1);
            place /= 2;
        }
    }

    fn pop(&mut self) -> Option<usize> {
        let last = self.entries.len().checked_sub(1)?;
        self.entries.swap(0, last);
        let (_, top) = self.entries.pop()?;
        let count = self.entries.len();
        let mut place = 1;
        while place * 2 <= count {
            let mut child = place * 2;
            if child < count && self.entries[child - 1].0 < self.entries[child].0 {
                child += 1;
            }
            // An equal child moves up as well.
            if self.entries[place - 1].0 > self.entries[child - 1].0 {
                break;
            }
            self.entries.swap(place - 1, child - 1);
            place = child;
        }
        Some(top)
    }
}
