//! Features shrunk below a block, so that the inner levels see a large picture as the small ones they were trained on.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::sampling::{Crop, ResizeMethod, SamplingError, resize_latent};

/// Where to shrink and how to come back.
///
/// # Source
/// Kohya's Deep Shrink; same values as ComfyUI `PatchModelAddDownscale`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeepShrink {
    /// Number of the block in the descending half, the first convolution being 0.
    pub block: usize,
    /// What both sides are divided by.
    pub factor: f64,
    /// Whether what the block hands over to the ascending half keeps its size.
    pub after_skip: bool,
    pub down: ResizeMethod,
    pub up: ResizeMethod,
}

impl DeepShrink {
    /// Shrinks what a block gives, before or after it is handed over.
    pub(super) fn shrink(&self, block: usize, after_skip: bool, h: Tensor) -> Result<Tensor> {
        if block != self.block || after_skip != self.after_skip {
            return Ok(h);
        }
        let side = |pixels: usize| (pixels as f64 * (1.0 / self.factor)).round_ties_even() as usize;
        let (_, _, height, width) = h.dims4()?;
        resized(&h, self.down, [side(height), side(width)])
    }

    /// Brings features to the size of what they meet in the ascending half.
    pub(super) fn grow(&self, h: Tensor, skip: &Tensor) -> Result<Tensor> {
        let (_, _, height, width) = skip.dims4()?;
        if h.dims()[2..] == [height, width] { Ok(h) } else { resized(&h, self.up, [height, width]) }
    }
}

fn resized(h: &Tensor, method: ResizeMethod, [height, width]: [usize; 2]) -> Result<Tensor> {
    let resized = resize_latent(h, method, height, width, Crop::Disabled).map_err(|error| match error {
        SamplingError::Tensor(error) => Error::Tensor(error),
        other => Error::InvalidArgument(format!("features cannot be shrunk: {other}")),
    })?;
    Ok(resized.to_dtype(h.dtype())?)
}
