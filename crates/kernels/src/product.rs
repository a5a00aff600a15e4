//! Products of rows with packed weights, cut into blocks that stay in the cache.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::elementwise::gate_row;
use crate::panels::Panels;
use crate::rows::{Rows, Start};
use crate::task::{Shared, with_scratch};

/// Depth of a panel that stays in the first-level cache while rows pass by.
const DEPTH: usize = 256;
/// Rows of a block, which stays in the second-level cache while panels pass by.
const ROWS: usize = 192;
/// Panels of a task.
const GROUP: usize = 8;

/// What happens to a sum before it is written.
#[derive(Clone, Copy)]
pub(crate) enum Finish<'a> {
    Plain,
    /// Adds values laid out as the result.
    Add(&'a [f32]),
    /// The first half of the columns times the GELU of the second half.
    Gate,
}

/// Rows times packed weights.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    pub panels: &'a Panels,
    /// Padded to whole panels.
    pub bias: Option<&'a [f32]>,
    pub finish: Finish<'a>,
}

/// Some rows of the left side and where their results go.
#[derive(Clone, Copy)]
pub(crate) struct Block<'a> {
    /// `[rows, depth]`.
    pub x: &'a [f32],
    pub rows: usize,
    /// The first row's place in the result.
    pub first: usize,
}

impl Product<'_> {
    /// Columns of the result.
    pub(crate) fn columns(&self) -> usize {
        match self.finish {
            Finish::Gate => self.panels.columns / 2,
            _ => self.panels.columns,
        }
    }

    /// True if the columns can be gated: both halves must be whole panels.
    pub(crate) fn can_gate(panels: &Panels) -> bool {
        panels.columns.is_multiple_of(2 * panels.width)
    }

    /// Multiplies `x` `[rows, depth]` on all threads.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub(crate) fn run(self, x: &[f32], y: &mut [f32]) {
        let (depth, columns) = (self.panels.depth, self.columns());
        let rows = y.len() / columns;
        assert!(x.len() == rows * depth && y.len() == rows * columns, "rows do not fit");
        let blocks = rows.div_ceil(ROWS);
        let per_block = rows.div_ceil(blocks.max(1)).next_multiple_of(12);
        let blocks = rows.div_ceil(per_block.max(1));
        let chunks = columns.div_ceil(self.panels.width);
        let groups = chunks.div_ceil(GROUP);
        let per_group = chunks.div_ceil(groups);
        let y = Shared::new(y);
        (0..blocks * groups).into_par_iter().for_each(|task| {
            let (first, group) = (task / groups * per_block, task % groups * per_group);
            let rows = per_block.min(rows - first);
            let block = Block { x: &x[first * depth..][..rows * depth], rows, first };
            // SAFETY: tasks have rows or panels of their own, so that none writes where another does; `y` has all rows.
            unsafe { self.block(block, group..(group + per_group).min(chunks), y) };
        });
    }

    /// Multiplies one block with some panels, on the calling thread.
    ///
    /// # Safety
    /// `y` must hold the block's rows, and nobody else may use those columns of them meanwhile.
    pub(crate) unsafe fn block(self, block: Block<'_>, panels: Range<usize>, y: Shared) {
        self.panels.arch.dispatch(BlockTask { product: self, block, panels, y });
    }
}

struct BlockTask<'a> {
    product: Product<'a>,
    block: Block<'a>,
    panels: Range<usize>,
    y: Shared,
}

impl WithSimd for BlockTask<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Panels { width, depth, .. } = *self.product.panels;
        let halves = if matches!(self.product.finish, Finish::Gate) { 2 } else { 1 };
        let tile = self.block.rows * width;
        let steps = depth.div_ceil(DEPTH).max(1);
        let step = depth.div_ceil(steps);
        with_scratch(
            step * width + halves * self.panels.len() * tile,
            #[inline(always)]
            |scratch: &mut [f32]| {
                let (unpacked, tiles) = scratch.split_at_mut(step * width);
                for from in (0..depth.max(1)).step_by(step.max(1)) {
                    let part = from..(from + step).min(depth);
                    for (panel, tile) in self.stacked().zip(tiles.chunks_exact_mut(tile)) {
                        let weights = self.product.panels.rows(panel, part.clone(), unpacked);
                        let start = match self.product.bias {
                            _ if from > 0 => Start::Out,
                            Some(bias) => Start::Bias(bias[panel * width..][..width].as_ptr()),
                            None => Start::Zero,
                        };
                        let x = &self.block.x[..self.block.rows * depth];
                        let rows = Rows {
                            count: self.block.rows,
                            depth: part.len(),
                            panel: weights.as_ptr(),
                            x: x[from..].as_ptr(),
                            x_row: depth,
                            x_step: 1,
                            out: tile.as_mut_ptr(),
                            out_row: width,
                            start,
                        };
                        // SAFETY: the block holds `rows` rows of `depth` values, the panel `part` rows of `width`, the tile
                        // `rows` rows of `width`; the tile is this thread's own.
                        unsafe { rows.run(simd) };
                    }
                }
                self.finish(tiles, tile);
            },
        );
    }
}

impl BlockTask<'_> {
    /// The panels in the order of their tiles: those of the second half behind those of the first.
    #[inline(always)]
    fn stacked(&self) -> impl Iterator<Item = usize> {
        let half = self.product.panels.count() / 2;
        let gates =
            matches!(self.product.finish, Finish::Gate).then(|| self.panels.clone().map(move |p| p + half));
        self.panels.clone().chain(gates.into_iter().flatten())
    }

    /// Moves finished tiles to the result.
    #[inline(always)]
    fn finish(&self, tiles: &[f32], tile: usize) {
        let (width, columns) = (self.product.panels.width, self.product.columns());
        let (values, gates) = tiles.split_at(self.panels.len() * tile);
        for (i, panel) in self.panels.clone().enumerate() {
            let first = panel * width;
            let used = width.min(columns - first);
            for row in 0..self.block.rows {
                let place = (self.block.first + row) * columns + first;
                let sums = &values[i * tile + row * width..][..used];
                // SAFETY: the row and the columns are the task's own, and lie in the result.
                let out = unsafe { std::slice::from_raw_parts_mut(self.y.at(place), used) };
                match self.product.finish {
                    Finish::Plain => out.copy_from_slice(sums),
                    Finish::Add(more) => {
                        let more = &more[place..][..used];
                        out.iter_mut().zip(sums).zip(more).for_each(|((out, sum), more)| *out = sum + more);
                    }
                    Finish::Gate => gate_row(out, sums, &gates[i * tile + row * width..][..used]),
                }
            }
        }
    }
}
