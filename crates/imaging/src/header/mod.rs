//! The header gate: tells format, size and frames from the bytes alone, without ImageMagick.
//!
//! It walks the whole container (chunks, segments), so a file cut short is refused here and not half decoded.

use std::fmt;

use crate::error::{ImagingError, Result};
use crate::limits::Limits;

mod bytes;
mod jpeg;
mod png;
mod webp;

/// The formats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    Png,
    Jpeg,
    WebP,
}

impl Format {
    /// Returns ImageMagick's name of the coder.
    pub(crate) fn coder(self) -> &'static str {
        match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::WebP => "WEBP",
        }
    }

    /// Returns the media type for HTTP.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::WebP => "image/webp",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Png => "PNG",
            Self::Jpeg => "JPEG",
            Self::WebP => "WebP",
        })
    }
}

/// What a picture's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageInfo {
    pub format: Format,
    /// Stored width in pixels, before the EXIF orientation is applied.
    pub width: u32,
    /// Stored height in pixels, before the EXIF orientation is applied.
    pub height: u32,
    /// Pictures that [`crate::decode`] gives: 1, or the frames of an animated WebP. An animated PNG counts as its
    /// default picture.
    pub frames: u32,
    /// Whether the format carries a real alpha channel (a PNG colour key is none, as in Pillow).
    pub has_alpha: bool,
    /// Bits of a sample: 8, or 16 for a deep PNG.
    pub depth: Depth,
}

/// Bits of a sample once decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Up to eight bits.
    Eight,
    /// Sixteen bits (PNG only).
    Sixteen,
}

/// Reads the header of a picture and checks its size, decoding nothing.
///
/// # Errors
/// [`ImagingError::UnsupportedFormat`] for any other kind of file, [`ImagingError::Malformed`] for one that is cut
/// short or inconsistent, [`ImagingError::TooLarge`] past `limits`.
pub fn probe(bytes: &[u8], limits: &Limits) -> Result<ImageInfo> {
    let info = match sniff(bytes)? {
        Format::Png => png::parse(bytes, limits)?,
        Format::Jpeg => jpeg::parse(bytes, limits)?,
        Format::WebP => webp::parse(bytes)?,
    };
    limits.check(&info)?;
    Ok(info)
}

fn sniff(bytes: &[u8]) -> Result<Format> {
    if bytes.starts_with(&png::SIGNATURE) {
        return Ok(Format::Png);
    }
    if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        return Ok(Format::Jpeg);
    }
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        return Ok(Format::WebP);
    }
    Err(ImagingError::UnsupportedFormat { found: describe(bytes) })
}

/// Names what a refused file looks like, for the message only.
fn describe(bytes: &[u8]) -> &'static str {
    const KNOWN: &[(&[u8], &str)] = &[
        (b"GIF8", "a GIF file"),
        (b"BM", "a BMP file"),
        (b"II*\0", "a TIFF file"),
        (b"MM\0*", "a TIFF file"),
        (b"%PDF", "a PDF file"),
        (b"%!PS", "a PostScript file"),
        (b"8BPS", "a Photoshop file"),
        (b"\x1f\x8b", "a gzip file"),
        (b"PK\x03\x04", "a zip file"),
        (b"push graphic-context", "an MVG file"),
    ];
    if bytes.is_empty() {
        return "an empty file";
    }
    if let Some((_, name)) = KNOWN.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return name;
    }
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    if text.starts_with(b"<") {
        return if text.windows(4).take(1024).any(|part| part.eq_ignore_ascii_case(b"<svg")) {
            "an SVG file"
        } else {
            "an XML or HTML file"
        };
    }
    "an unknown kind of file"
}
