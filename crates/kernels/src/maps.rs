//! Feature maps with their channels innermost in memory.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::storage::pixels;

/// Turns `[B, H, W, C]` into `[B, C, H, W]` without moving anything.
pub(crate) fn channels_last(pixels: &Tensor) -> Result<Tensor> {
    pixels.permute((0, 3, 1, 2))
}

/// Joins two maps `[B, C, H, W]` along their channels.
pub fn cat_channels(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    channels_last(&a.apply_op2_no_bwd(b, &Join)?)
}

/// Enlarges a map `[B, C, H, W]` by repeating its nearest pixels.
pub fn upsample_nearest(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    channels_last(&x.apply_op1_no_bwd(&Nearest { height, width })?)
}

struct Join;

impl CustomOp2 for Join {
    fn name(&self) -> &'static str {
        "cat-channels"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (batch, first, height, width) = a_layout.shape().dims4()?;
        let second = b_layout.dims().get(1).copied().unwrap_or(0);
        if b_layout.dims() != [batch, second, height, width] || first == 0 || second == 0 {
            candle_core::bail!("cannot join {:?} and {:?}", a_layout.dims(), b_layout.dims());
        }
        let (a, b) = (pixels(a, a_layout)?, pixels(b, b_layout)?);
        let mut y = vec![0f32; a.len() + b.len()];
        let places = y.par_chunks_mut(first + second).zip(a.par_chunks(first).zip(b.par_chunks(second)));
        places.with_min_len(64).for_each(|(y, (a, b))| {
            y[..first].copy_from_slice(a);
            y[first..].copy_from_slice(b);
        });
        Ok((CpuStorage::F32(y), (batch, height, width, first + second).into()))
    }
}

struct Nearest {
    height: usize,
    width: usize,
}

impl CustomOp1 for Nearest {
    fn name(&self) -> &'static str {
        "upsample-nearest"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, channels, height, width) = layout.shape().dims4()?;
        let Self { height: out_height, width: out_width } = *self;
        let x = pixels(x, layout)?;
        let mut y = vec![0f32; batch * out_height * out_width * channels];
        y.par_chunks_mut((out_width * channels).max(1)).enumerate().for_each(|(row, out)| {
            let line = row / out_height * height + source(row % out_height, height, out_height);
            let line = &x[line * width * channels..][..width * channels];
            for (column, out) in out.chunks_exact_mut(channels).enumerate() {
                out.copy_from_slice(&line[source(column, width, out_width) * channels..][..channels]);
            }
        });
        Ok((CpuStorage::F32(y), (batch, out_height, out_width, channels).into()))
    }
}

/// The place that an enlarged one repeats, rounded as candle rounds it.
fn source(at: usize, length: usize, out_length: usize) -> usize {
    ((at as f64 * (length as f64 / out_length as f64)) as usize).min(length.saturating_sub(1))
}
