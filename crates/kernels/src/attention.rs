//! Attention that never writes scores out: blocks of keys pass by panels of queries, with a running softmax.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::elementwise::exp_negative;
use crate::rows::{Rows, Start};
use crate::storage::sequence;
use crate::task::{Shared, panel_width, with_scratch};
use crate::vectors::{load, store};

/// Keys of a block.
const KEYS: usize = 96;
/// Panels of queries that a block of keys is used for while it is in the cache.
const PANELS: usize = 4;

/// `q` `[B, Tq, C]`, `k` and `v` `[B, Tk, C]` in any memory order to `[B, Tq, C]`.
///
/// # Source
/// Milakov and Gimelshein 2018 (online softmax); Dao et al. 2022 (blocks of keys).
pub struct FusedAttention {
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
        let same = k_layout.dims() == v_layout.dims() && k_layout.dims() == [batch, keys, channels];
        if !same || keys == 0 || self.heads == 0 || !channels.is_multiple_of(self.heads) {
            candle_core::bail!(
                "attention of {} heads cannot take {:?}, {:?} and {:?}",
                self.heads,
                q_layout.dims(),
                k_layout.dims(),
                v_layout.dims()
            );
        }
        let (q, k, v) = (sequence(q, q_layout)?, sequence(k, k_layout)?, sequence(v, v_layout)?);
        let mut y = vec![0f32; batch * queries * channels];
        let sizes = Sizes { batch, queries, keys, channels, heads: self.heads, causal: self.causal };
        attend(Arch::new(), [&q, &k, &v], &mut y, sizes);
        Ok((CpuStorage::F32(y), (batch, queries, channels).into()))
    }
}

#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    queries: usize,
    keys: usize,
    channels: usize,
    heads: usize,
    causal: bool,
}

fn attend(arch: Arch, inputs: [&[f32]; 3], y: &mut [f32], sizes: Sizes) {
    let block = PANELS * panel_width(arch);
    let blocks = sizes.queries.div_ceil(block);
    let y = Shared::new(y);
    (0..sizes.batch * sizes.heads * blocks).into_par_iter().for_each(|task| {
        let (image, head) = (task / blocks / sizes.heads, task / blocks % sizes.heads);
        let first = task % blocks * block;
        arch.dispatch(Task { inputs, sizes, image, head, first, y });
    });
}

/// One head of some consecutive queries.
struct Task<'a> {
    inputs: [&'a [f32]; 3],
    sizes: Sizes,
    image: usize,
    head: usize,
    first: usize,
    y: Shared,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Sizes { queries, keys, channels, heads, causal, .. } = self.sizes;
        let width = 2 * S::F32_LANES;
        let depth = channels / heads;
        let queries = (PANELS * width).min(queries - self.first);
        let panels = queries.div_ceil(width);
        // Of a panel: its queries, its sums, the largest score and the total weight of each query.
        let state = 2 * depth * width + 2 * width;
        with_scratch(
            panels * state + KEYS * width,
            #[inline(always)]
            |scratch: &mut [f32]| {
                let (states, scores) = scratch.split_at_mut(panels * state);
                for (panel, state) in states.chunks_exact_mut(state).enumerate() {
                    self.open(state, depth, width, panel * width, queries);
                }
                let seen = if causal { keys.min(self.first + queries) } else { keys };
                for key in (0..seen).step_by(KEYS) {
                    let count = KEYS.min(seen - key);
                    for (panel, state) in states.chunks_exact_mut(state).enumerate() {
                        self.pass(simd, state, &mut scores[..count * width], key, self.first + panel * width);
                    }
                }
                for (panel, state) in states.chunks_exact(state).enumerate() {
                    self.close(state, depth, width, panel * width, queries);
                }
            },
        );
    }
}

impl Task<'_> {
    /// Starts a panel: queries transposed and scaled, nothing seen yet.
    #[inline(always)]
    fn open(&self, state: &mut [f32], depth: usize, width: usize, first: usize, queries: usize) {
        let Sizes { channels, .. } = self.sizes;
        let scale = 1.0 / (depth as f32).sqrt();
        let (q, rest) = state.split_at_mut(depth * width);
        rest.fill(0.0);
        rest[depth * width..][..width].fill(f32::NEG_INFINITY);
        for lane in 0..width {
            if first + lane >= queries {
                (0..depth).for_each(|i| q[i * width + lane] = 0.0);
                continue;
            }
            let row = self.image * self.sizes.queries + self.first + first + lane;
            let from = &self.inputs[0][row * channels + self.head * depth..][..depth];
            from.iter().enumerate().for_each(|(i, value)| q[i * width + lane] = value * scale);
        }
    }

    /// Lets a panel, whose first query is `query`, see the block of keys from `key` on.
    #[inline(always)]
    fn pass<S: Simd>(&self, simd: S, state: &mut [f32], scores: &mut [f32], key: usize, query: usize) {
        let Sizes { keys, channels, heads, causal, .. } = self.sizes;
        let (width, depth) = (2 * S::F32_LANES, channels / heads);
        let count = scores.len() / width;
        let (q, rest) = state.split_at_mut(depth * width);
        let (sums, rest) = rest.split_at_mut(depth * width);
        let (largest, total) = rest.split_at_mut(width);
        let from = (self.image * keys + key) * channels + self.head * depth;
        let [k, v] = [1, 2].map(|i| &self.inputs[i][from..][..(count - 1) * channels + depth]);
        let product = Rows {
            count,
            depth,
            panel: q.as_ptr(),
            x: k.as_ptr(),
            x_row: channels,
            x_step: 1,
            out: scores.as_mut_ptr(),
            out_row: width,
            start: Start::Zero,
        };
        // SAFETY: `k` holds `count` rows of `depth` values, `q` and `scores` whole panels.
        unsafe { product.run(simd) };
        if causal && key + count > query + 1 {
            for (row, scores) in scores.chunks_exact_mut(width).enumerate() {
                let hidden = (key + row).saturating_sub(query).min(width);
                scores[..hidden].fill(f32::NEG_INFINITY);
            }
        }
        for half in [0, S::F32_LANES] {
            weigh(simd, scores, sums, &mut largest[half..], &mut total[half..], half);
        }
        let product = Rows {
            count: depth,
            depth: count,
            panel: scores.as_ptr(),
            x: v.as_ptr(),
            x_row: 1,
            x_step: channels,
            out: sums.as_mut_ptr(),
            out_row: width,
            start: Start::Out,
        };
        // SAFETY: `v` holds `count` rows of `depth` values, which are read as columns; `scores` and `sums` are panels.
        unsafe { product.run(simd) };
    }

    /// Divides the sums of a panel by their weights and writes them.
    #[inline(always)]
    fn close(&self, state: &[f32], depth: usize, width: usize, first: usize, queries: usize) {
        let (sums, rest) = state[depth * width..].split_at(depth * width);
        let total = &rest[width..];
        for lane in 0..width.min(queries - first) {
            let row = self.image * self.sizes.queries + self.first + first + lane;
            // SAFETY: the queries and the head belong to this task alone, and lie in the result.
            let out = unsafe {
                let to = self.y.at(row * self.sizes.channels + self.head * depth);
                std::slice::from_raw_parts_mut(to, depth)
            };
            let inverse = 1.0 / total[lane];
            out.iter_mut().enumerate().for_each(|(i, out)| *out = sums[i * width + lane] * inverse);
        }
    }
}

/// Turns the scores of a vector of queries into weights relative to the largest score so far.
#[inline(always)]
fn weigh<S: Simd>(
    simd: S,
    scores: &mut [f32],
    sums: &mut [f32],
    largest: &mut [f32],
    total: &mut [f32],
    half: usize,
) {
    let (lanes, width) = (S::F32_LANES, 2 * S::F32_LANES);
    let before = load(simd, largest);
    let mut now = before;
    for row in scores.chunks_exact(width) {
        now = simd.max_f32s(load(simd, &row[half..]), now);
    }
    let change = exp_negative(simd, simd.sub_f32s(before, now));
    let mut sum = simd.mul_f32s(load(simd, total), change);
    for row in scores.chunks_exact_mut(width) {
        let weight = exp_negative(simd, simd.sub_f32s(load(simd, &row[half..]), now));
        sum = simd.add_f32s(sum, weight);
        store(simd, &mut row[half..][..lanes], weight);
    }
    for row in sums.chunks_exact_mut(width) {
        let kept = simd.mul_f32s(load(simd, &row[half..]), change);
        store(simd, &mut row[half..][..lanes], kept);
    }
    store(simd, &mut largest[..lanes], now);
    store(simd, &mut total[..lanes], sum);
}
