//! PNG: signature, chunk walk with checksums, header fields.
//!
//! # Source
//! PNG Specification, Third Edition (W3C), sections 5 and 11.

use super::bytes::Cursor;
use super::{Depth, Format, ImageInfo};
use crate::error::{ImagingError, Result};
use crate::limits::Limits;
use crate::png_chunks::{self, Chunk};

pub(super) use crate::png_chunks::SIGNATURE;

/// Deflate packs at most 1032 bytes into one, so a smaller file cannot hold the pixels that its header announces.
const MAX_DEFLATE_RATIO: u64 = 1032;

pub(super) fn parse(bytes: &[u8], limits: &Limits) -> Result<ImageInfo> {
    let mut chunks = png_chunks::Chunks::new(bytes)?;
    let first = chunks.next().ok_or_else(|| broken("has no chunks"))??;
    let header = Header::parse(&first)?;
    // Before the checksums of the rest are worked through: a huge picture is refused at once.
    limits.check(&header.info(false))?;

    let mut has_palette = false;
    let mut has_transparency = false;
    let mut packed_bytes = 0_u64;
    let mut ended = false;
    for chunk in &mut chunks {
        let chunk = chunk?;
        match &chunk.kind {
            b"IHDR" => return Err(broken("has two headers")),
            b"PLTE" => has_palette = true,
            b"tRNS" => has_transparency = true,
            b"IDAT" => packed_bytes += chunk.data.len() as u64,
            b"IEND" => ended = true,
            _ => {}
        }
    }
    if !ended {
        return Err(broken("is cut short"));
    }
    if header.colour == Colour::Palette && !has_palette {
        return Err(broken("has no palette"));
    }
    if packed_bytes.saturating_mul(MAX_DEFLATE_RATIO) < header.raw_bytes() {
        return Err(broken("holds less data than its size needs"));
    }
    Ok(header.info(header.colour == Colour::Palette && has_transparency))
}

fn broken(reason: &str) -> ImagingError {
    ImagingError::malformed(Format::Png, reason)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Colour {
    Gray,
    Rgb,
    Palette,
    GrayAlpha,
    Rgba,
}

struct Header {
    width: u32,
    height: u32,
    bit_depth: u8,
    colour: Colour,
}

impl Header {
    fn parse(chunk: &Chunk<'_>) -> Result<Self> {
        if &chunk.kind != b"IHDR" || chunk.data.len() != 13 {
            return Err(broken("does not begin with a header"));
        }
        let mut cursor = Cursor::new(chunk.data);
        let fields = (cursor.u32_be(), cursor.u32_be(), cursor.array::<5>());
        let (Some(width), Some(height), Some([bit_depth, colour, compression, filter, interlace])) = fields
        else {
            return Err(broken("has a short header"));
        };
        let max = i32::MAX as u32;
        if width == 0 || height == 0 || width > max || height > max {
            return Err(broken("has an impossible size"));
        }
        let colour = match (colour, bit_depth) {
            (0, 1 | 2 | 4 | 8 | 16) => Colour::Gray,
            (2, 8 | 16) => Colour::Rgb,
            (3, 1 | 2 | 4 | 8) => Colour::Palette,
            (4, 8 | 16) => Colour::GrayAlpha,
            (6, 8 | 16) => Colour::Rgba,
            _ => return Err(broken("has an unknown colour type or bit depth")),
        };
        if compression != 0 || filter != 0 || interlace > 1 {
            return Err(broken("has an unknown compression, filter or interlace method"));
        }
        Ok(Self { width, height, bit_depth, colour })
    }

    fn info(&self, palette_has_alpha: bool) -> ImageInfo {
        ImageInfo {
            format: Format::Png,
            width: self.width,
            height: self.height,
            frames: 1,
            has_alpha: palette_has_alpha || matches!(self.colour, Colour::GrayAlpha | Colour::Rgba),
            depth: if self.bit_depth == 16 { Depth::Sixteen } else { Depth::Eight },
        }
    }

    /// Returns the unpacked bytes of a picture that is not interlaced (an interlaced one has a few more).
    fn raw_bytes(&self) -> u64 {
        let channels = match self.colour {
            Colour::Gray | Colour::Palette => 1,
            Colour::GrayAlpha => 2,
            Colour::Rgb => 3,
            Colour::Rgba => 4,
        };
        let row_bits = u64::from(self.width) * channels * u64::from(self.bit_depth);
        (1 + row_bits.div_ceil(8)) * u64::from(self.height)
    }
}
