//! A linear layer that starts from its bias instead of adding it afterwards.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape};
use rayon::prelude::*;

use super::gemm::{Threads, View, Write, multiply};
use super::{contiguous, strided};

/// `x` `[B, T, inputs]` with any strides, weight `[outputs, inputs]`, bias `[outputs]` to `[B, T, outputs]`.
pub(in crate::blocks) struct FusedLinear;

impl CustomOp3 for FusedLinear {
    fn name(&self) -> &'static str {
        "fused-linear"
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
        let (batch, rows, inputs) = x_layout.shape().dims3()?;
        let (outputs, _) = weight_layout.shape().dims2()?;
        let (weight, bias) = (contiguous(weight, weight_layout)?, contiguous(bias, bias_layout)?);
        let mut y = vec![0f32; batch * rows * outputs];
        y.par_chunks_mut(outputs).for_each(|row| row.copy_from_slice(bias));
        let transposed = View::row_major(outputs, inputs).transposed();
        if x_layout.is_contiguous() {
            let (x, rows) = (contiguous(x, x_layout)?, batch * rows);
            let (dst, lhs) = (View::row_major(rows, outputs), View::row_major(rows, inputs));
            multiply((&mut y, dst), (x, lhs), (weight, transposed), Write::Add, Threads::All);
        } else {
            let x = strided(x, x_layout)?;
            let stride = x_layout.stride();
            let lhs = View { rows, columns: inputs, row_stride: stride[1], column_stride: stride[2] };
            for (i, y) in y.chunks_exact_mut(rows * outputs).enumerate() {
                let (dst, x) = (View::row_major(rows, outputs), &x[i * stride[0]..]);
                multiply((y, dst), (x, lhs), (weight, transposed), Write::Add, Threads::All);
            }
        }
        Ok((CpuStorage::F32(y), (batch, rows, outputs).into()))
    }
}
