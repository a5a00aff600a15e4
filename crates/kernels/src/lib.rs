//! Fast f32 operators for the CPU, as operators of candle.
//!
//! Feature maps keep their shape `[B, C, H, W]` but lie in memory with the channels innermost, so that every loop runs
//! over contiguous channels and a map is a sequence of pixels without a copy. Weights are packed once, and held in 16
//! bits where that loses nothing. The vector width is found at run time; results have the same bits on any number of
//! threads, because no sum is ever split between threads.

mod attention;
mod conv;
mod elementwise;
mod linear;
mod maps;
mod norm;
mod panels;
mod product;
mod rows;
mod storage;
mod task;
mod vectors;
mod winograd;

pub use attention::FusedAttention;
pub use conv::{Addend, ConvSizes, PackedConv};
pub use elementwise::Geglu;
pub use linear::PackedLinear;
pub use maps::{cat_channels, upsample_nearest};
pub use norm::{FusedGroupNorm, FusedLayerNorm};

use candle_core::{DType, Tensor};

/// True if the operators of this crate can take `x`.
pub fn takes(x: &Tensor) -> bool {
    x.dtype() == DType::F32 && x.device().is_cpu()
}

#[cfg(test)]
mod tests;
