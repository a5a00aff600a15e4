//! Attention by blocks of queries: scores of one block live in the cache and are never written out.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape};
use rayon::prelude::*;

use super::elementwise::exp;
use super::gemm::{Threads, View, Write, multiply};
use super::strided;

/// Scores of one block, per thread.
const BLOCK_SCORES: usize = 1 << 18;

/// `q` `[B, Tq, C]`, `k` and `v` `[B, Tk, C]` with any strides to `[B, Tq, C]`.
pub(in crate::blocks) struct FusedAttention {
    pub heads: usize,
    /// Whether a query only sees keys at its own or an earlier position.
    pub causal: bool,
}

impl CustomOp3 for FusedAttention {
    fn name(&self) -> &'static str {
        "fused-attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (batch, queries, channels) = q_layout.shape().dims3()?;
        let (_, keys, _) = k_layout.shape().dims3()?;
        let operand =
            |storage, layout| Ok::<_, candle_core::Error>(Operand::new(strided(storage, layout)?, layout));
        let (q, k, v) = (operand(q, q_layout)?, operand(k, k_layout)?, operand(v, v_layout)?);
        let mut y = vec![0f32; batch * queries * channels];
        // At least four blocks per thread, so that none waits long for the last one.
        let share = (batch * queries).div_ceil(4 * rayon::current_num_threads());
        let block = (BLOCK_SCORES / keys).clamp(16, 256).min(share.max(16)).min(queries);
        let images = y.par_chunks_mut(queries * channels).enumerate();
        let blocks = images.flat_map(|(image, y)| {
            y.par_chunks_mut(block * channels).enumerate().map(move |(i, y)| (image, i * block, y))
        });
        blocks.for_each_init(Vec::new, |scores, (image, first, y)| {
            for head in 0..self.heads {
                self.block(y, scores, Place { image, first, head, channels, keys }, [q, k, v]);
            }
        });
        Ok((CpuStorage::F32(y), (batch, queries, channels).into()))
    }
}

/// A sequence tensor with its strides.
#[derive(Clone, Copy)]
struct Operand<'a> {
    values: &'a [f32],
    stride: [usize; 3],
}

impl<'a> Operand<'a> {
    fn new(values: &'a [f32], layout: &Layout) -> Self {
        let stride = layout.stride();
        Self { values, stride: [stride[0], stride[1], stride[2]] }
    }

    /// One head's channels of some positions of one image.
    fn head(&self, place: Place, first: usize, rows: usize, width: usize) -> (&'a [f32], View) {
        let [image, row_stride, column_stride] = self.stride;
        let offset = place.image * image + first * row_stride + place.head * width * column_stride;
        (&self.values[offset..], View { rows, columns: width, row_stride, column_stride })
    }
}

/// Which part of the result a block computes.
#[derive(Clone, Copy)]
struct Place {
    image: usize,
    first: usize,
    head: usize,
    channels: usize,
    keys: usize,
}

impl FusedAttention {
    /// Computes one head of some consecutive queries; `y` holds those queries with all their channels.
    fn block(&self, y: &mut [f32], scores: &mut Vec<f32>, place: Place, [q, k, v]: [Operand<'_>; 3]) {
        let Place { first, head, channels, keys, .. } = place;
        let (rows, width) = (y.len() / channels, channels / self.heads);
        scores.resize(rows * keys, 0.0);
        let view = View::row_major(rows, keys);
        let (k_values, k_view) = k.head(place, 0, keys, width);
        let q_part = q.head(place, first, rows, width);
        multiply((scores, view), q_part, (k_values, k_view.transposed()), Write::Replace, Threads::One);
        let scale = 1.0 / (width as f32).sqrt();
        let arch = pulp::Arch::new();
        for (row, scores) in scores.chunks_exact_mut(keys).enumerate() {
            let seen = if self.causal { (first + row + 1).min(keys) } else { keys };
            let (seen, hidden) = scores.split_at_mut(seen);
            hidden.fill(0.0);
            arch.dispatch(
                #[inline(always)]
                || softmax(seen, scale),
            );
        }
        let y_view = View { rows, columns: width, row_stride: channels, column_stride: 1 };
        let v_part = v.head(place, 0, keys, width);
        multiply((&mut y[head * width..], y_view), (scores, view), v_part, Write::Replace, Threads::One);
    }
}

/// Replaces scores by their weights, after multiplying them by `scale`.
#[inline(always)]
fn softmax(scores: &mut [f32], scale: f32) {
    const LANES: usize = 16;
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let rows = scores.chunks_exact(LANES);
    let mut largest = rows.remainder().iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for row in rows {
        for (lane, value) in lanes.iter_mut().zip(row) {
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    largest = lanes.iter().copied().fold(largest, f32::max);
    let mut lanes = [0f32; LANES];
    let mut rows = scores.chunks_exact_mut(LANES);
    for row in &mut rows {
        for (lane, value) in lanes.iter_mut().zip(row) {
            *value = exp((*value - largest) * scale);
            *lane += *value;
        }
    }
    let mut total = lanes.iter().sum::<f32>();
    for value in rows.into_remainder() {
        *value = exp((*value - largest) * scale);
        total += *value;
    }
    let inverse = 1.0 / total;
    scores.iter_mut().for_each(|value| *value *= inverse);
}
