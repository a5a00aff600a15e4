//! How large a picture may be before it is refused unread.

use crate::error::{ImagingError, Result};
use crate::header::ImageInfo;

/// The largest picture that is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Width and height each, in pixels.
    pub max_side_px: u32,
    /// Width times height times frames, in pixels.
    pub max_pixels: u64,
    /// Pictures of an animation.
    pub max_frames: u32,
}

impl Default for Limits {
    /// Returns 16384 pixels a side (the widest that ComfyUI's nodes make), 64 megapixels and 200 frames in all.
    fn default() -> Self {
        Self { max_side_px: 16_384, max_pixels: 64_000_000, max_frames: 200 }
    }
}

impl Limits {
    /// Refuses a picture whose header announces more than these limits.
    ///
    /// # Errors
    /// [`ImagingError::TooLarge`] naming the first limit passed.
    pub fn check(&self, info: &ImageInfo) -> Result<()> {
        let at_most = |what, found: u64, limit: u64| {
            if found > limit { Err(ImagingError::TooLarge { what, found, limit }) } else { Ok(()) }
        };
        let side = u64::from(self.max_side_px);
        at_most("width", u64::from(info.width), side)?;
        at_most("height", u64::from(info.height), side)?;
        at_most("frame count", u64::from(info.frames), u64::from(self.max_frames))?;
        let pixels = u64::from(info.width)
            .saturating_mul(u64::from(info.height))
            .saturating_mul(u64::from(info.frames));
        at_most("pixel count", pixels, self.max_pixels)
    }
}
