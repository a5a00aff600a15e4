//! Fused f32 operators for the CPU.
//!
//! Candle's own operators run elementwise work on one thread, reorder convolution weights on every call and hold all
//! attention scores at once; these do not. On other devices and in other types the layers fall back to candle.

mod attention;
mod conv;
mod elementwise;
mod gemm;
mod linear;
mod norm;

pub(super) use attention::FusedAttention;
pub(super) use conv::FusedConv2d;
pub(super) use elementwise::Geglu;
pub(super) use linear::FusedLinear;
pub(super) use norm::FusedGroupNorm;

use candle_core::{CpuStorage, DType, Layout, Result, Tensor};

/// True if the operators of this module can take `x`.
pub(super) fn takes(x: &Tensor) -> bool {
    x.dtype() == DType::F32 && x.device().is_cpu()
}

/// The values of a tensor from its first one on, in whatever order its strides say.
fn strided<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    Ok(&storage.as_slice::<f32>()?[layout.start_offset()..])
}

/// The values of a tensor that must be contiguous.
fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => {
            candle_core::bail!("the operator takes contiguous tensors, got strides {:?}", layout.stride())
        }
    }
}
