//! Pixel buffers whose length is known to fit their size, and the two per-sample conversions.

use crate::error::{ImagingError, Result};

/// How many samples a pixel has, and what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channels {
    Gray,
    Rgb,
    Rgba,
}

impl Channels {
    /// Returns the samples of one pixel.
    pub fn count(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }

    /// Returns ImageMagick's name for this order of samples.
    pub(crate) fn map(self) -> &'static str {
        match self {
            Self::Gray => "I",
            Self::Rgb => "RGB",
            Self::Rgba => "RGBA",
        }
    }
}

/// Borrowed pixels, row by row, samples interleaved (HWC).
#[derive(Debug, Clone, Copy)]
pub struct PixelView<'a, T> {
    width: usize,
    height: usize,
    channels: Channels,
    data: &'a [T],
}

impl<'a, T> PixelView<'a, T> {
    /// Wraps samples after checking that there are exactly as many as the size needs.
    ///
    /// # Errors
    /// [`ImagingError::InvalidArgument`] for an empty side, [`ImagingError::BufferLength`] for a wrong length.
    pub fn new(width: usize, height: usize, channels: Channels, data: &'a [T]) -> Result<Self> {
        if width == 0 || height == 0 {
            return Err(ImagingError::InvalidArgument {
                name: "size",
                found: format!("{width}x{height}"),
                expected: "at least 1x1",
            });
        }
        let expected = width.checked_mul(height).and_then(|pixels| pixels.checked_mul(channels.count()));
        if expected != Some(data.len()) {
            return Err(ImagingError::BufferLength {
                width,
                height,
                channels: channels.count(),
                expected: expected.unwrap_or(usize::MAX),
                found: data.len(),
            });
        }
        Ok(Self { width, height, channels, data })
    }

    pub fn width(&self) -> usize {
        self.width
    }

    pub fn height(&self) -> usize {
        self.height
    }

    pub fn channels(&self) -> Channels {
        self.channels
    }

    pub fn data(&self) -> &'a [T] {
        self.data
    }
}

/// Owned pixels, row by row, samples interleaved (HWC).
#[derive(Debug, Clone, PartialEq)]
pub struct Pixels<T> {
    width: usize,
    height: usize,
    channels: Channels,
    data: Vec<T>,
}

impl<T> Pixels<T> {
    /// Wraps samples after checking their number; see [`PixelView::new`].
    ///
    /// # Errors
    /// As [`PixelView::new`].
    pub fn new(width: usize, height: usize, channels: Channels, data: Vec<T>) -> Result<Self> {
        PixelView::new(width, height, channels, &data)?;
        Ok(Self { width, height, channels, data })
    }

    pub fn view(&self) -> PixelView<'_, T> {
        PixelView { width: self.width, height: self.height, channels: self.channels, data: &self.data }
    }

    pub fn width(&self) -> usize {
        self.width
    }

    pub fn height(&self) -> usize {
        self.height
    }

    pub fn channels(&self) -> Channels {
        self.channels
    }

    pub fn data(&self) -> &[T] {
        &self.data
    }

    pub fn into_data(self) -> Vec<T> {
        self.data
    }
}

/// Turns samples in 0..=1 into 8-bit levels by cutting the fraction off, not rounding.
///
/// # Source
/// Same values as ComfyUI's `SaveImage`: `clip(255 * x, 0, 255)` in f32, then truncation. NaN becomes 0.
pub fn to_levels_truncating(samples: &[f32]) -> Vec<u8> {
    // `as` saturates and truncates towards zero.
    samples.iter().map(|sample| (255.0 * sample) as u8).collect()
}

/// Replaces every sample by one minus it.
pub fn invert(samples: &mut [f32]) {
    for sample in samples {
        *sample = 1.0 - *sample;
    }
}
