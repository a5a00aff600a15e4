//! Feature maps `[B, C, H, W]`, which on the CPU lie in memory with their channels innermost.

use candle_core::Tensor;

use crate::error::Result;

/// Joins two maps along their channels.
pub(crate) fn join(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if comfy_kernels::takes(a) && comfy_kernels::takes(b) {
        return Ok(comfy_kernels::cat_channels(a, b)?);
    }
    Ok(Tensor::cat(&[a, b], 1)?)
}

/// Enlarges a map by repeating its nearest pixels.
pub(crate) fn enlarge(x: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    if comfy_kernels::takes(x) {
        return Ok(comfy_kernels::upsample_nearest(x, height, width)?);
    }
    Ok(x.upsample_nearest2d(height, width)?)
}

/// Adds two maps of one shape.
pub(crate) fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if !a.is_contiguous() && comfy_kernels::takes(a) {
        // Candle adds contiguous tensors much faster than others.
        return Ok(to_pixels(a)?.add(&to_pixels(b)?.contiguous()?)?.permute((0, 3, 1, 2))?);
    }
    Ok((a + b)?)
}

/// Applies what treats all values alike, in the order in which they lie.
pub(crate) fn each(x: &Tensor, change: impl Fn(&Tensor) -> candle_core::Result<Tensor>) -> Result<Tensor> {
    if !x.is_contiguous() && x.rank() == 4 {
        return Ok(change(&to_pixels(x)?)?.permute((0, 3, 1, 2))?);
    }
    Ok(change(x)?)
}

/// `[B, C, H, W]` to `[B, H W, C]`.
pub(crate) fn to_tokens(map: &Tensor) -> Result<Tensor> {
    if comfy_kernels::takes(map) {
        return Ok(to_pixels(map)?.flatten(1, 2)?);
    }
    Ok(map.flatten_from(2)?.transpose(1, 2)?)
}

/// `[B, H W, C]` to `[B, C, H, W]`.
pub(crate) fn to_map(tokens: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (batch, _, channels) = tokens.dims3()?;
    if comfy_kernels::takes(tokens) {
        return Ok(tokens.reshape((batch, height, width, channels))?.permute((0, 3, 1, 2))?);
    }
    Ok(tokens.transpose(1, 2)?.reshape((batch, channels, height, width))?)
}

fn to_pixels(map: &Tensor) -> candle_core::Result<Tensor> {
    map.permute((0, 2, 3, 1))
}
