//! Convolution as matrix products over tiles of unrolled input, written straight into the output.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape};
use rayon::prelude::*;

use super::contiguous;
use super::gemm::{Threads, View, Write, multiply};

/// Values of unrolled input held at a time: 8 MiB, which stays in the last-level cache.
const TILE_VALUES: usize = 1 << 21;

/// `x` `[B, C, H, W]`, weight `[O, C, K, K]`, bias `[O]` to `[B, O, H', W']`.
pub(in crate::blocks) struct FusedConv2d {
    pub stride: usize,
    pub padding: usize,
}

/// Sizes of one call.
#[derive(Clone, Copy)]
struct Sizes {
    height: usize,
    width: usize,
    out_height: usize,
    out_width: usize,
    kernel: usize,
}

impl CustomOp3 for FusedConv2d {
    fn name(&self) -> &'static str {
        "fused-conv2d"
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
        let (batch, inputs, height, width) = x_layout.shape().dims4()?;
        let (outputs, _, kernel, _) = weight_layout.shape().dims4()?;
        let (padded_height, padded_width) = (height + 2 * self.padding, width + 2 * self.padding);
        if padded_height < kernel || padded_width < kernel {
            candle_core::bail!("a {height}x{width} map is too small for a kernel of {kernel}");
        }
        let x = contiguous(x, x_layout)?;
        let (weight, bias) = (contiguous(weight, weight_layout)?, contiguous(bias, bias_layout)?);
        let sizes = Sizes {
            height,
            width,
            out_height: (padded_height - kernel) / self.stride + 1,
            out_width: (padded_width - kernel) / self.stride + 1,
            kernel,
        };
        let pixels = sizes.out_height * sizes.out_width;
        let mut y = vec![0f32; batch * outputs * pixels];
        y.par_chunks_mut(pixels).enumerate().for_each(|(i, map)| map.fill(bias[i % outputs]));
        let weight = (weight, View::row_major(outputs, inputs * kernel * kernel));
        let images = y.chunks_exact_mut(outputs * pixels).zip(x.chunks_exact(inputs * height * width));
        let pointwise = kernel == 1 && self.stride == 1 && self.padding == 0;
        let mut tile = Vec::new();
        for (y, x) in images {
            if pointwise {
                let (dst, rhs) = (View::row_major(outputs, pixels), View::row_major(inputs, pixels));
                multiply((y, dst), weight, (x, rhs), Write::Add, Threads::All);
            } else {
                self.image(y, x, weight, sizes, &mut tile);
            }
        }
        Ok((CpuStorage::F32(y), (batch, outputs, sizes.out_height, sizes.out_width).into()))
    }
}

impl FusedConv2d {
    /// Convolves one image, some output lines at a time.
    fn image(&self, y: &mut [f32], x: &[f32], weight: (&[f32], View), sizes: Sizes, tile: &mut Vec<f32>) {
        let Sizes { out_height, out_width, .. } = sizes;
        let View { rows: outputs, columns: depth, .. } = weight.1;
        let pixels = out_height * out_width;
        let lines = (TILE_VALUES / (depth * out_width)).clamp(1, out_height);
        tile.resize(depth * lines * out_width, 0.0);
        for first in (0..out_height).step_by(lines) {
            let lines = lines.min(out_height - first);
            let columns = lines * out_width;
            let tile = &mut tile[..depth * columns];
            tile.par_chunks_mut(columns).enumerate().for_each(|(row, out)| {
                self.unroll(out, x, row, first, sizes);
            });
            let dst = View { rows: outputs, columns, row_stride: pixels, column_stride: 1 };
            let rhs = View::row_major(depth, columns);
            multiply((&mut y[first * out_width..], dst), weight, (tile, rhs), Write::Add, Threads::All);
        }
    }

    /// Fills one row of a tile: what one weight of the kernel sees at each output pixel.
    fn unroll(&self, out: &mut [f32], x: &[f32], row: usize, first: usize, sizes: Sizes) {
        let Sizes { height, width, out_width, kernel, .. } = sizes;
        let (channel, ky, kx) = (row / (kernel * kernel), row / kernel % kernel, row % kernel);
        let map = &x[channel * height * width..][..height * width];
        // Output columns whose input column lies inside the map.
        let start = self.padding.saturating_sub(kx).div_ceil(self.stride).min(out_width);
        let end = match (width + self.padding).checked_sub(kx + 1) {
            Some(last) => (last / self.stride + 1).clamp(start, out_width),
            None => start,
        };
        for (line, out) in (first..).zip(out.chunks_exact_mut(out_width)) {
            let source = (line * self.stride + ky).checked_sub(self.padding).filter(|&y| y < height);
            let Some(y) = source.filter(|_| start < end) else {
                out.fill(0.0);
                continue;
            };
            out[..start].fill(0.0);
            out[end..].fill(0.0);
            let from = &map[y * width..][start * self.stride + kx - self.padding..];
            if self.stride == 1 {
                out[start..end].copy_from_slice(&from[..end - start]);
            } else {
                let sampled =
                    from[..width - (start * self.stride + kx - self.padding)].iter().step_by(self.stride);
                out[start..end].iter_mut().zip(sampled).for_each(|(out, value)| *out = *value);
            }
        }
    }
}
