//! Group normalisation in two passes over each group, with the activation in the second.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape};
use rayon::prelude::*;

use super::contiguous;
use super::elementwise::silu;

/// `x` `[B, C, H, W]`, weight `[C]`, bias `[C]` to the shape of `x`.
pub(in crate::blocks) struct FusedGroupNorm {
    pub groups: usize,
    pub eps: f64,
    /// Whether SiLU is applied to the result.
    pub silu: bool,
}

impl CustomOp3 for FusedGroupNorm {
    fn name(&self) -> &'static str {
        "fused-group-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, channels, height, width) = x_layout.shape().dims4()?;
        let x = contiguous(x, x_layout)?;
        let (weight, bias) = (contiguous(weight, weight_layout)?, contiguous(bias, bias_layout)?);
        let (pixels, per_group) = (height * width, channels / self.groups);
        let mut y = vec![0f32; x.len()];
        let arch = pulp::Arch::new();
        let groups = y.par_chunks_mut(pixels * per_group).zip(x.par_chunks(pixels * per_group));
        groups.enumerate().for_each(|(index, (y, x))| {
            let first = index % self.groups * per_group;
            let (mean, inverse) = arch.dispatch(
                #[inline(always)]
                || moments(x, self.eps),
            );
            let maps = y.chunks_exact_mut(pixels).zip(x.chunks_exact(pixels));
            for (channel, (y, x)) in (first..).zip(maps) {
                let scale = inverse * weight[channel];
                let shift = bias[channel] - mean * scale;
                arch.dispatch(
                    #[inline(always)]
                    || self.apply(y, x, scale, shift),
                );
            }
        });
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }
}

impl FusedGroupNorm {
    #[inline(always)]
    fn apply(&self, y: &mut [f32], x: &[f32], scale: f32, shift: f32) {
        if self.silu {
            y.iter_mut().zip(x).for_each(|(y, x)| *y = silu(x * scale + shift));
        } else {
            y.iter_mut().zip(x).for_each(|(y, x)| *y = x * scale + shift);
        }
    }
}

/// Mean and reciprocal standard deviation.
#[inline(always)]
fn moments(x: &[f32], eps: f64) -> (f32, f32) {
    let count = x.len() as f64;
    let mean = sum(x, |value| value) / count;
    let centre = mean as f32;
    let variance = sum(x, |value| (value - centre) * (value - centre)) / count;
    (centre, (1.0 / (variance + eps).sqrt()) as f32)
}

/// Sums in sixteen lanes over short stretches, and the stretches in f64, so that large maps lose no precision.
#[inline(always)]
fn sum(x: &[f32], term: impl Fn(f32) -> f32) -> f64 {
    const LANES: usize = 16;
    let mut total = 0f64;
    for stretch in x.chunks(4096) {
        let mut lanes = [0f32; LANES];
        let rows = stretch.chunks_exact(LANES);
        for value in rows.remainder() {
            total += f64::from(term(*value));
        }
        for row in rows {
            for (lane, value) in lanes.iter_mut().zip(row) {
                *lane += term(*value);
            }
        }
        total += lanes.iter().copied().map(f64::from).sum::<f64>();
    }
    total
}
