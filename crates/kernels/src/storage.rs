//! What the operators see of candle's tensors.

use std::borrow::Cow;

use candle_core::{CpuStorage, Layout, Result};
use rayon::prelude::*;

/// The values of a tensor that must be contiguous.
pub(crate) fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => {
            candle_core::bail!("the operator takes contiguous tensors, got strides {:?}", layout.stride())
        }
    }
}

/// The pixels of a map `[B, C, H, W]` as `[B, H, W, C]`, copied only if they lie in another order.
pub(crate) fn pixels<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<Cow<'a, [f32]>> {
    let (_, channels, height, width) = layout.shape().dims4()?;
    let [b, c, y, x] = *layout.stride() else { unreachable!("four dimensions have four strides") };
    let values = &storage.as_slice::<f32>()?[layout.start_offset()..];
    let count = layout.shape().elem_count();
    let line = width * channels;
    // The stride of a dimension of length one says nothing.
    let fits = |length: usize, stride: usize, expected: usize| length == 1 || stride == expected;
    let batch = layout.dims()[0];
    if fits(channels, c, 1)
        && fits(width, x, channels)
        && fits(height, y, line)
        && fits(batch, b, height * line)
    {
        return Ok(Cow::Borrowed(&values[..count]));
    }
    let mut copy = vec![0f32; count];
    copy.par_chunks_mut(line.max(1)).enumerate().for_each(|(row, out)| {
        let start = row / height * b + row % height * y;
        for (i, pixel) in out.chunks_exact_mut(channels).enumerate() {
            let start = start + i * x;
            pixel.iter_mut().enumerate().for_each(|(channel, out)| *out = values[start + channel * c]);
        }
    });
    Ok(Cow::Owned(copy))
}

/// The rows of `[B, T, C]`, copied only if a row is not contiguous or rows do not follow each other.
pub(crate) fn sequence<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<Cow<'a, [f32]>> {
    if let Some((start, end)) = layout.contiguous_offsets() {
        return Ok(Cow::Borrowed(&storage.as_slice::<f32>()?[start..end]));
    }
    let (_, rows, columns) = layout.shape().dims3()?;
    let [b, t, c] = *layout.stride() else { unreachable!("three dimensions have three strides") };
    let values = &storage.as_slice::<f32>()?[layout.start_offset()..];
    let mut copy = vec![0f32; layout.shape().elem_count()];
    copy.par_chunks_mut(columns.max(1)).enumerate().for_each(|(row, out)| {
        let start = row / rows * b + row % rows * t;
        out.iter_mut().enumerate().for_each(|(column, out)| *out = values[start + column * c]);
    });
    Ok(Cow::Owned(copy))
}
