//! Says what is on a small picture of one shape: the background, the object's colour and its outline.

use std::collections::HashSet;
use std::sync::LazyLock;

use super::{SHAPES, shapes};

pub const COLOURS: [(&str, [u8; 3]); 12] = [
    ("red", [220, 30, 35]),
    ("green", [35, 160, 55]),
    ("blue", [30, 70, 215]),
    ("yellow", [250, 220, 30]),
    ("orange", [250, 130, 15]),
    ("purple", [125, 40, 165]),
    ("pink", [250, 140, 190]),
    ("cyan", [25, 205, 220]),
    ("brown", [115, 70, 30]),
    ("white", [250, 250, 250]),
    ("black", [10, 10, 10]),
    ("gray", [128, 128, 128]),
];
/// Outlines are compared on a grid of this many cells a side.
const GRID: usize = 32;
static TEMPLATES: LazyLock<Vec<(&str, Vec<bool>)>> =
    LazyLock::new(|| SHAPES.into_iter().map(|shape| (shape, template(shape))).collect());
/// Colours closer than this to the background are part of it.
const FAINT: f64 = 30.0;

#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    pub background: &'static str,
    /// Of the object; `None` when there is nothing but background.
    pub colour: Option<&'static str>,
    pub shape: Option<&'static str>,
}

/// Judges `width` x `height` RGB pixels.
///
/// The background is the median colour of the rim. The object is the largest connected part that is nearer to the
/// colour farthest from the background than to the background. Its outline is compared with every known shape after
/// both are stretched to fill a square; the best overlap (intersection over union) names the shape.
pub fn judge(width: usize, height: usize, rgb: &[u8]) -> Verdict {
    let at = |x: usize, y: usize| -> [u8; 3] {
        let i = 3 * (y * width + x);
        [rgb[i], rgb[i + 1], rgb[i + 2]]
    };
    let all = || (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let rim = |&(x, y): &(usize, usize)| x < 2 || y < 2 || x + 2 >= width || y + 2 >= height;
    let background = median(all().filter(rim).map(|(x, y)| at(x, y)));

    let mut distances: Vec<f64> = all().map(|(x, y)| distance(at(x, y), background)).collect();
    distances.sort_by(f64::total_cmp);
    let far = distances[distances.len() * 98 / 100];
    if far < FAINT {
        return Verdict { background: nearest(background), colour: None, shape: None };
    }
    let mask: Vec<bool> = all().map(|(x, y)| distance(at(x, y), background) > far / 2.0).collect();
    let object = largest_part(&mask, width);
    let inner =
        object.iter().map(|&i| at(i % width, i / width)).filter(|&c| distance(c, background) > 0.7 * far);
    Verdict {
        background: nearest(background),
        colour: Some(nearest(median(inner))),
        shape: Some(best_shape(&object, width)),
    }
}

fn distance(a: [u8; 3], b: [u8; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(b)).powi(2)).sum::<f64>().sqrt()
}

fn nearest(colour: [u8; 3]) -> &'static str {
    let closest = COLOURS.iter().min_by(|a, b| distance(a.1, colour).total_cmp(&distance(b.1, colour)));
    closest.expect("there are colours").0
}

fn median(colours: impl Iterator<Item = [u8; 3]>) -> [u8; 3] {
    let colours: Vec<_> = colours.collect();
    std::array::from_fn(|channel| {
        let mut values: Vec<u8> = colours.iter().map(|c| c[channel]).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or_default()
    })
}

/// The places of the largest part of `mask` that hangs together by its sides.
fn largest_part(mask: &[bool], width: usize) -> Vec<usize> {
    let mut seen = vec![false; mask.len()];
    let mut largest = Vec::new();
    for start in 0..mask.len() {
        if !mask[start] || seen[start] {
            continue;
        }
        seen[start] = true;
        let (mut part, mut next) = (vec![start], 0);
        while let Some(&i) = part.get(next) {
            next += 1;
            let x = i % width;
            let around = [(x > 0, i.wrapping_sub(1)), (x + 1 < width, i + 1)];
            let around = around
                .into_iter()
                .chain([(i >= width, i.wrapping_sub(width)), (i + width < mask.len(), i + width)]);
            for (exists, j) in around {
                if exists && mask[j] && !seen[j] {
                    seen[j] = true;
                    part.push(j);
                }
            }
        }
        if part.len() > largest.len() {
            largest = part;
        }
    }
    largest
}

fn best_shape(object: &[usize], width: usize) -> &'static str {
    let (xs, ys) = (object.iter().map(|i| i % width), object.iter().map(|i| i / width));
    let (left, right) = (xs.clone().min().unwrap_or(0), xs.max().unwrap_or(0) + 1);
    let (top, bottom) = (ys.clone().min().unwrap_or(0), ys.max().unwrap_or(0) + 1);
    let cell = |i: usize, from: usize, to: usize| from + (2 * i + 1) * (to - from) / (2 * GRID);
    let object: HashSet<_> = object.iter().copied().collect();
    let drawn = grid(|x, y| object.contains(&(cell(y, top, bottom) * width + cell(x, left, right))));
    let overlap = |template: &[bool]| {
        let both = drawn.iter().zip(template).filter(|(a, b)| **a && **b).count();
        let either = drawn.iter().zip(template).filter(|(a, b)| **a || **b).count();
        both as f64 / either as f64
    };
    let best = TEMPLATES.iter().max_by(|a, b| overlap(&a.1).total_cmp(&overlap(&b.1)));
    best.expect("there are shapes").0
}

fn grid(inside: impl Fn(usize, usize) -> bool) -> Vec<bool> {
    (0..GRID * GRID).map(|i| inside(i % GRID, i / GRID)).collect()
}

/// A shape stretched to fill the grid.
fn template(shape: &str) -> Vec<bool> {
    const FINE: usize = 100;
    let coordinate = |i: usize| (2 * i + 1) as f64 / FINE as f64 * 1.1 - 1.1;
    let points = (0..FINE * FINE)
        .map(|i| (coordinate(i % FINE), coordinate(i / FINE)))
        .filter(|&(x, y)| shapes::contains(shape, x, y));
    let none = (f64::MAX, f64::MIN, f64::MAX, f64::MIN);
    let (left, right, top, bottom) =
        points.fold(none, |(l, r, t, b), (x, y)| (l.min(x), r.max(x), t.min(y), b.max(y)));
    let place = |i: usize, from: f64, to: f64| from + (i as f64 + 0.5) / GRID as f64 * (to - from);
    grid(|x, y| shapes::contains(shape, place(x, left, right), place(y, top, bottom)))
}

#[test]
fn every_shape_is_told_from_the_others() {
    for (i, shape) in SHAPES.into_iter().enumerate() {
        let (colour, background) = (COLOURS[i], COLOURS[(i + 3) % COLOURS.len()]);
        let mut rgb = Vec::new();
        for (y, x) in (0..64).flat_map(|y| (0..64).map(move |x| (y, x))) {
            let (u, v) = ((f64::from(x) - 30.0) / 18.0, (f64::from(y) - 34.0) / 18.0);
            rgb.extend(if shapes::contains(shape, u, v) { colour.1 } else { background.1 });
        }
        let right = Verdict { background: background.0, colour: Some(colour.0), shape: Some(shape) };
        assert_eq!(judge(64, 64, &rgb), right);
    }
}

#[test]
fn a_flat_picture_shows_no_object() {
    let verdict = judge(64, 64, &[30, 70, 215].repeat(64 * 64));
    assert_eq!(verdict, Verdict { background: "blue", colour: None, shape: None });
}
