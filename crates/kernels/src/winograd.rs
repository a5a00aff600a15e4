//! 3x3 convolutions by tiles of 4x4 results, at a quarter of the multiplications.
//!
//! # Source
//! Lavin and Gray 2016, F(4x4, 3x3). The points are 0, 3/4, -3/4, 3/2, -3/2 and infinity instead of the usual 0, 1, -1,
//! 2, -2: powers of them spread less, which makes the rounding error a third of the usual (all constants that are not
//! reciprocals are exact in f32).

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::conv::Extents;
use crate::panels::{Panels, padded};
use crate::rows::{Rows, Start};
use crate::task::{Shared, panel_width, with_scratch};
use crate::vectors::{fma, load, splat, store};

/// Pixels of a result tile along a side, and of the input that it sees.
const TILE: usize = 4;
const SEEN: usize = 6;
const POINTS: usize = SEEN * SEEN;

const A: f32 = 0.75;
const B: f32 = 1.5;
const A2: f32 = A * A;
const B2: f32 = B * B;

/// Transformed input held at a time, which stays in the last-level cache.
const HELD: usize = 12 << 20;
/// Tiles held at a time at most: their sums stay in the second-level cache.
const TILES: usize = 96;
/// Channels whose weights are transformed at a time.
const DEPTH: usize = 64;
/// Panels of a task: a tile that was read is used for all of them.
const GROUP: usize = 2;

#[derive(Debug)]
pub(crate) struct Winograd {
    /// Row `9 c + tap` holds the weights of a channel's tap.
    panels: Panels,
    bias: Vec<f32>,
    inputs: usize,
}

impl Winograd {
    /// Whether a layer is wide enough.
    pub(crate) fn pays(arch: Arch, inputs: usize, outputs: usize) -> bool {
        inputs >= 16 && outputs >= panel_width(arch).max(16)
    }

    /// Packs a weight `[outputs, inputs, 3, 3]`.
    pub(crate) fn pack(arch: Arch, weight: &[f32], bias: &[f32], inputs: usize) -> Self {
        let depth = 9 * inputs;
        let panels = Panels::pack(arch, [depth, bias.len()], |k, column| weight[column * depth + k]);
        Self { bias: padded(bias, panels.width), panels, inputs }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.panels.bytes() + 4 * self.bias.len()
    }

    /// Convolves `x` `[B, H, W, inputs]`; the addends are `[B, outputs]` and `[B, H, W, outputs]`.
    pub(crate) fn run(&self, x: &[f32], y: &mut [f32], extents: Extents, addends: [Option<&[f32]>; 2]) {
        let grid = Grid::new(extents);
        let fits = HELD / (4 * POINTS * self.inputs) / 12 * 12;
        let held = fits.clamp(24, TILES).min(grid.count().next_multiple_of(2));
        let point = held * self.inputs + 16;
        let mut seen = vec![0f32; POINTS * point];
        let y = Shared::new(y);
        for first in (0..grid.count()).step_by(held) {
            let tiles = held.min(grid.count() - first);
            let to = Shared::new(&mut seen);
            (0..tiles).into_par_iter().with_min_len(2).for_each(|tile| {
                let place = grid.place(first + tile);
                let task = Transform {
                    x,
                    channels: self.inputs,
                    place,
                    grid,
                    to,
                    offset: tile * self.inputs,
                    point,
                };
                self.panels.arch.dispatch(task);
            });
            let count = self.panels.count();
            (0..count.div_ceil(GROUP)).into_par_iter().for_each(|group| {
                let panels = [group * GROUP, ((group + 1) * GROUP).min(count)];
                let seen = Seen { values: &seen, point, first, tiles };
                self.panels.arch.dispatch(Multiply { layer: self, panels, seen, grid, y, addends });
            });
        }
    }
}

/// How tiles lie on the maps of a batch.
#[derive(Clone, Copy)]
struct Grid {
    extents: Extents,
    lines: usize,
    columns: usize,
}

/// The image of a tile and its first pixel.
#[derive(Clone, Copy)]
struct Place {
    image: usize,
    line: usize,
    column: usize,
}

impl Grid {
    fn new(extents: Extents) -> Self {
        Self { extents, lines: extents.height.div_ceil(TILE), columns: extents.width.div_ceil(TILE) }
    }

    fn count(&self) -> usize {
        self.extents.batch * self.lines * self.columns
    }

    fn place(&self, tile: usize) -> Place {
        let (row, column) = (tile / self.columns, tile % self.columns * TILE);
        Place { image: row / self.lines, line: row % self.lines * TILE, column }
    }
}

/// `B^T` of one line of six values.
#[inline(always)]
fn input_line<S: Simd>(simd: S, d: [S::f32s; 6]) -> [S::f32s; 6] {
    let (product, sum) = (splat(simd, A2 * B2), splat(simd, -(A2 + B2)));
    let even_a = fma(simd, d[2], splat(simd, -B2), d[4]);
    let odd_a = simd.mul_f32s(fma(simd, d[1], splat(simd, -B2), d[3]), splat(simd, A));
    let even_b = fma(simd, d[2], splat(simd, -A2), d[4]);
    let odd_b = simd.mul_f32s(fma(simd, d[1], splat(simd, -A2), d[3]), splat(simd, B));
    [
        fma(simd, d[0], product, fma(simd, d[2], sum, d[4])),
        simd.add_f32s(even_a, odd_a),
        simd.sub_f32s(even_a, odd_a),
        simd.add_f32s(even_b, odd_b),
        simd.sub_f32s(even_b, odd_b),
        fma(simd, d[1], product, fma(simd, d[3], sum, d[5])),
    ]
}

/// A line of three weights at a point and at its negative.
#[inline(always)]
fn weight_sides<S: Simd>(simd: S, g: [S::f32s; 3], point: f32, factor: f32) -> [S::f32s; 2] {
    let sum = fma(simd, g[2], splat(simd, point * point), g[0]);
    let even = simd.mul_f32s(sum, splat(simd, factor));
    let odd = simd.mul_f32s(g[1], splat(simd, point * factor));
    [simd.add_f32s(even, odd), simd.sub_f32s(even, odd)]
}

/// `G` of one line of three weights.
#[inline(always)]
fn weight_line<S: Simd>(simd: S, g: [S::f32s; 3]) -> [S::f32s; 6] {
    let [a, minus_a] = weight_sides(simd, g, A, 1.0 / (2.0 * A2 * (A2 - B2)));
    let [b, minus_b] = weight_sides(simd, g, B, 1.0 / (2.0 * B2 * (B2 - A2)));
    [simd.mul_f32s(g[0], splat(simd, 1.0 / (A2 * B2))), a, minus_a, b, minus_b, g[2]]
}

/// `A^T` of one line of six sums.
#[inline(always)]
fn output_line<S: Simd>(simd: S, m: [S::f32s; 6]) -> [S::f32s; 4] {
    let (even_a, odd_a) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
    let (even_b, odd_b) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
    [
        simd.add_f32s(m[0], simd.add_f32s(even_a, even_b)),
        fma(simd, odd_a, splat(simd, A), simd.mul_f32s(odd_b, splat(simd, B))),
        fma(simd, even_a, splat(simd, A2), simd.mul_f32s(even_b, splat(simd, B2))),
        fma(simd, odd_a, splat(simd, A * A2), fma(simd, odd_b, splat(simd, B * B2), m[5])),
    ]
}

/// Transforms what one tile sees, all channels.
struct Transform<'a> {
    x: &'a [f32],
    channels: usize,
    place: Place,
    grid: Grid,
    to: Shared,
    /// Of this tile within a point, and the length of a point.
    offset: usize,
    point: usize,
}

impl WithSimd for Transform<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let lanes = S::F32_LANES;
        let whole = self.channels / lanes * lanes;
        for channel in (0..whole).step_by(lanes) {
            self.columns(simd, channel, lanes);
        }
        if whole < self.channels {
            self.columns(simd, whole, self.channels - whole);
        }
    }
}

impl Transform<'_> {
    /// Reads a line of what the tile sees; one pixel of the padding lies before the tile.
    #[inline(always)]
    fn line<S: Simd>(&self, simd: S, i: usize, channel: usize, count: usize) -> [S::f32s; SEEN] {
        let Extents { height, width, .. } = self.grid.extents;
        let mut seen = [splat(simd, 0.0); SEEN];
        let y = (self.place.line + i).wrapping_sub(1);
        if y < height {
            let line = (self.place.image * height + y) * width;
            for (j, seen) in seen.iter_mut().enumerate() {
                let x = (self.place.column + j).wrapping_sub(1);
                if x < width {
                    *seen = load(simd, &self.x[(line + x) * self.channels + channel..][..count]);
                }
            }
        }
        seen
    }

    /// Transforms some channels, at most a vector of them.
    #[inline(always)]
    fn columns<S: Simd>(&self, simd: S, channel: usize, count: usize) {
        let zero = simd.splat_f32s(0.0);
        let mut lines = [[zero; SEEN]; SEEN];
        for (i, line) in lines.iter_mut().enumerate() {
            *line = input_line(simd, self.line(simd, i, channel, count));
        }
        for j in 0..SEEN {
            let [a, b, c, d, e, f] = &lines;
            let column = input_line(simd, [a[j], b[j], c[j], d[j], e[j], f[j]]);
            for (i, &value) in column.iter().enumerate() {
                // SAFETY: each tile has places of its own, `offset + channel + count` lies within a point.
                let to = unsafe {
                    let to = self.to.at((i * SEEN + j) * self.point + self.offset + channel);
                    std::slice::from_raw_parts_mut(to, count)
                };
                store(simd, to, value);
            }
        }
    }
}

/// Transformed tiles, `[point][tile][channel]`.
#[derive(Clone, Copy)]
struct Seen<'a> {
    values: &'a [f32],
    point: usize,
    first: usize,
    tiles: usize,
}

/// Multiplies transformed tiles with some panels and writes their results.
struct Multiply<'a> {
    layer: &'a Winograd,
    panels: [usize; 2],
    seen: Seen<'a>,
    grid: Grid,
    y: Shared,
    addends: [Option<&'a [f32]>; 2],
}

impl WithSimd for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (width, inputs, tiles) = (self.layer.panels.width, self.layer.inputs, self.seen.tiles);
        let group = self.panels[1] - self.panels[0];
        // The added lines keep the points from competing for the same places of the cache.
        let weight_point = DEPTH * width + 16;
        let sums_row = group * width;
        let sums_point = tiles * sums_row + 16;
        let [unpacked, weights] = [9 * DEPTH * width, group * POINTS * weight_point];
        let size = unpacked + weights + POINTS * sums_point;
        with_scratch(
            size,
            #[inline(always)]
            |scratch: &mut [f32]| {
                let (unpacked, rest) = scratch.split_at_mut(unpacked);
                let (weights, sums) = rest.split_at_mut(weights);
                for from in (0..inputs).step_by(DEPTH) {
                    let depth = DEPTH.min(inputs - from);
                    for (g, weights) in weights.chunks_exact_mut(POINTS * weight_point).enumerate() {
                        let rows = 9 * from..9 * (from + depth);
                        let taps = self.layer.panels.rows(self.panels[0] + g, rows, unpacked);
                        transform_weights(simd, taps, weights, weight_point);
                    }
                    for point in 0..POINTS {
                        for g in 0..group {
                            let panel = &weights[(g * POINTS + point) * weight_point..][..depth * width];
                            let x = &self.seen.values[point * self.seen.point..][..tiles * inputs];
                            let out = &mut sums[point * sums_point..][..tiles * sums_row];
                            let rows = Rows {
                                count: tiles,
                                depth,
                                panel: panel.as_ptr(),
                                x: x[from..].as_ptr(),
                                x_row: inputs,
                                x_step: 1,
                                out: out[g * width..].as_mut_ptr(),
                                out_row: sums_row,
                                start: if from == 0 { Start::Zero } else { Start::Out },
                            };
                            // SAFETY: the slices above hold `tiles` rows of `inputs` values from `from` on, a panel of
                            // `depth` rows and `tiles` rows of sums.
                            unsafe { rows.run(simd) };
                        }
                    }
                }
                for tile in 0..tiles {
                    for column in (0..sums_row).step_by(S::F32_LANES) {
                        self.finish(simd, sums, [sums_point, tile * sums_row + column], tile, column);
                    }
                }
            },
        );
    }
}

/// One vector of a tap, of `[9][width]`.
#[inline(always)]
fn tap<S: Simd>(simd: S, taps: &[f32], tap: usize, half: usize) -> S::f32s {
    load(simd, &taps[tap * 2 * S::F32_LANES + half..])
}

/// Transforms taps `[channel][9][width]` to `[point][channel][width]`.
#[inline(always)]
fn transform_weights<S: Simd>(simd: S, taps: &[f32], to: &mut [f32], point: usize) {
    let lanes = S::F32_LANES;
    let width = 2 * lanes;
    for (channel, taps) in taps.chunks_exact(9 * width).enumerate() {
        for half in [0, lanes] {
            let a = weight_line(
                simd,
                [tap(simd, taps, 0, half), tap(simd, taps, 1, half), tap(simd, taps, 2, half)],
            );
            let b = weight_line(
                simd,
                [tap(simd, taps, 3, half), tap(simd, taps, 4, half), tap(simd, taps, 5, half)],
            );
            let c = weight_line(
                simd,
                [tap(simd, taps, 6, half), tap(simd, taps, 7, half), tap(simd, taps, 8, half)],
            );
            for j in 0..SEEN {
                let column = weight_line(simd, [a[j], b[j], c[j]]);
                for (i, &value) in column.iter().enumerate() {
                    let to = &mut to[(i * SEEN + j) * point + channel * width + half..][..lanes];
                    store(simd, to, value);
                }
            }
        }
    }
}

impl Multiply<'_> {
    /// Turns the sums of one vector of columns of a tile into pixels of the result.
    #[inline(always)]
    fn finish<S: Simd>(
        &self,
        simd: S,
        sums: &[f32],
        [point, offset]: [usize; 2],
        tile: usize,
        column: usize,
    ) {
        let lanes = S::F32_LANES;
        let outputs = self.layer.panels.columns;
        let channel = self.panels[0] * self.layer.panels.width + column;
        if channel >= outputs {
            return;
        }
        let used = lanes.min(outputs - channel);
        let Extents { height, width, .. } = self.grid.extents;
        let place = self.grid.place(self.seen.first + tile);
        let mut bias = load(simd, &self.layer.bias[channel..][..lanes]);
        if let Some(more) = self.addends[0] {
            let more = &more[place.image * outputs + channel..][..used];
            bias = simd.add_f32s(bias, load(simd, more));
        }
        let mut lines = [[bias; TILE]; SEEN];
        for (i, line) in lines.iter_mut().enumerate() {
            let mut m = [bias; SEEN];
            for (j, m) in m.iter_mut().enumerate() {
                *m = load(simd, &sums[(i * SEEN + j) * point + offset..]);
            }
            *line = output_line(simd, m);
        }
        for j in 0..TILE.min(width - place.column) {
            let [a, b, c, d, e, f] = &lines;
            let column = output_line(simd, [a[j], b[j], c[j], d[j], e[j], f[j]]);
            for (i, &value) in column.iter().enumerate().take(TILE.min(height - place.line)) {
                let (line, column) = (place.line + i, place.column + j);
                let at = ((place.image * height + line) * width + column) * outputs + channel;
                let mut value = simd.add_f32s(value, bias);
                if let Some(more) = self.addends[1] {
                    value = simd.add_f32s(value, load(simd, &more[at..][..used]));
                }
                // SAFETY: pixels of a tile and channels of a panel belong to one task, and lie in the result.
                let to = unsafe { std::slice::from_raw_parts_mut(self.y.at(at), used) };
                store(simd, to, value);
            }
        }
    }
}
