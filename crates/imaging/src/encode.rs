//! 8-bit levels to the bytes of a picture file.

use magick_rust::{MagickWand, PixelWand};

use crate::error::{ImagingError, Result};
use crate::magick;
use crate::pixels::{Channels, PixelView};
use crate::png_chunks;

/// Encodes an exact PNG of 8 bits a sample with text chunks in the given order.
///
/// `compress_level` is zlib's, 0 to 9; ComfyUI saves with 4 and previews with 1. The same input gives the same bytes.
/// Text that fits Latin-1 becomes `tEXt`, other text `iTXt`.
///
/// # Errors
/// [`ImagingError::InvalidArgument`] for a level over 9 or a text key PNG does not allow, [`ImagingError::Magick`]
/// when the encoder fails.
pub fn encode_png(pixels: PixelView<'_, u8>, texts: &[(&str, &str)], compress_level: u8) -> Result<Vec<u8>> {
    write_png(load(pixels)?, (pixels.channels(), "8"), texts, compress_level)
}

/// Encodes an exact PNG of 16 bits a sample with text chunks in the given order.
///
/// # Errors
/// As [`encode_png`].
pub fn encode_png_16(
    pixels: PixelView<'_, u16>,
    texts: &[(&str, &str)],
    compress_level: u8,
) -> Result<Vec<u8>> {
    let size = (pixels.width(), pixels.height());
    let mut wand = blank(size, pixels.channels(), 16)?;
    // ImageMagick keeps 16 bits a sample, so a fraction of 65535 comes out as the level it was.
    let fractions: Vec<f64> = pixels.data().iter().map(|level| f64::from(*level) / 65535.0).collect();
    wand.import_image_pixels_double(0, 0, size.0, size.1, &fractions, pixels.channels().map())
        .map_err(|error| ImagingError::magick("take over the pixels", error.to_string()))?;
    write_png(wand, (pixels.channels(), "16"), texts, compress_level)
}

fn write_png(
    mut wand: MagickWand,
    (channels, bit_depth): (Channels, &str),
    texts: &[(&str, &str)],
    compress_level: u8,
) -> Result<Vec<u8>> {
    if compress_level > 9 {
        return Err(ImagingError::InvalidArgument {
            name: "compress_level",
            found: compress_level.to_string(),
            expected: "0 to 9",
        });
    }
    let level = compress_level.to_string();
    let colour_type = match channels {
        Channels::Gray => "0",
        Channels::Rgb => "2",
        Channels::Rgba => "6",
    };
    set_options(
        &mut wand,
        &[
            ("png:compression-level", level.as_str()),
            ("png:compression-strategy", "0"),
            // The filter of each row is chosen by the smallest sum of differences, as Pillow does.
            ("png:compression-filter", "5"),
            // Without these a gray or few-coloured picture would be stored in another layout.
            ("png:color-type", colour_type),
            ("png:bit-depth", bit_depth),
        ],
    )?;
    png_chunks::with_only_text(&write(&wand, "PNG")?, texts)
}

/// Encodes a baseline JPEG with halved colour resolution, as Pillow does by default.
///
/// # Errors
/// [`ImagingError::InvalidArgument`] for a quality outside 1 to 100 or pixels with alpha, [`ImagingError::Magick`]
/// when the encoder fails.
pub fn encode_jpeg(pixels: PixelView<'_, u8>, quality: u8) -> Result<Vec<u8>> {
    if pixels.channels() == Channels::Rgba {
        return Err(ImagingError::InvalidArgument {
            name: "channels",
            found: "RGBA".to_owned(),
            expected: "gray or RGB, JPEG has no alpha",
        });
    }
    let mut wand = load(pixels)?;
    set_quality(&mut wand, quality)?;
    set_options(&mut wand, &[("jpeg:sampling-factor", "2x2,1x1,1x1"), ("jpeg:optimize-coding", "true")])?;
    write(&wand, "JPEG")
}

/// How a WebP is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebpOptions {
    /// Whether every pixel is kept as it is.
    pub lossless: bool,
    /// 1 to 100; for a lossless picture the effort.
    pub quality: u8,
    /// 0 for fast to 6 for small.
    pub method: u8,
}

/// Encodes a lossy WebP.
///
/// # Errors
/// As [`encode_webp_with`].
pub fn encode_webp(pixels: PixelView<'_, u8>, quality: u8) -> Result<Vec<u8>> {
    encode_webp_with(pixels, &WebpOptions { lossless: false, quality, method: 4 })
}

/// Encodes a WebP.
///
/// # Errors
/// [`ImagingError::InvalidArgument`] for a quality outside 1 to 100 or a method over 6, [`ImagingError::TooLarge`] for
/// a side over 16383 pixels, [`ImagingError::Magick`] when the encoder fails.
pub fn encode_webp_with(pixels: PixelView<'_, u8>, options: &WebpOptions) -> Result<Vec<u8>> {
    /// The format stores sides in 14 bits.
    const MAX_SIDE_PX: usize = 16_383;
    for (what, found) in [("width", pixels.width()), ("height", pixels.height())] {
        if found > MAX_SIDE_PX {
            return Err(ImagingError::TooLarge { what, found: found as u64, limit: MAX_SIDE_PX as u64 });
        }
    }
    if options.method > 6 {
        return Err(ImagingError::InvalidArgument {
            name: "method",
            found: options.method.to_string(),
            expected: "0 to 6",
        });
    }
    let mut wand = load(pixels)?;
    set_quality(&mut wand, options.quality)?;
    let (method, lossless) = (options.method.to_string(), options.lossless.to_string());
    set_options(
        &mut wand,
        &[("webp:method", &method), ("webp:lossless", &lossless), ("webp:exact", "true")],
    )?;
    write(&wand, "WEBP")
}

/// Puts pixels into a wand. The view's length is checked already: ImageMagick's import is not told the length.
fn load(pixels: PixelView<'_, u8>) -> Result<MagickWand> {
    let size = (pixels.width(), pixels.height());
    let mut wand = blank(size, pixels.channels(), 8)?;
    wand.import_image_pixels(0, 0, size.0, size.1, pixels.data(), pixels.channels().map())
        .map_err(|error| ImagingError::magick("take over the pixels", error.to_string()))?;
    Ok(wand)
}

/// A wand with an empty picture of that size, for samples of `depth` bits.
fn blank((width, height): (usize, usize), channels: Channels, depth: usize) -> Result<MagickWand> {
    let failed =
        |error: magick_rust::MagickError| ImagingError::magick("take over the pixels", error.to_string());
    let mut wand = magick::new_wand();
    let mut background = PixelWand::new();
    background.set_color(if channels == Channels::Rgba { "none" } else { "black" }).map_err(failed)?;
    wand.new_image(width, height, &background).map_err(failed)?;
    wand.set_image_depth(depth).map_err(failed)?;
    Ok(wand)
}

fn set_quality(wand: &mut MagickWand, quality: u8) -> Result<()> {
    if !(1..=100).contains(&quality) {
        return Err(ImagingError::InvalidArgument {
            name: "quality",
            found: quality.to_string(),
            expected: "1 to 100",
        });
    }
    wand.set_image_compression_quality(usize::from(quality))
        .map_err(|error| ImagingError::magick("set the quality", error.to_string()))
}

fn set_options(wand: &mut MagickWand, options: &[(&str, &str)]) -> Result<()> {
    for (name, value) in options {
        wand.set_option(name, value)
            .map_err(|error| ImagingError::magick("set an option", error.to_string()))?;
    }
    Ok(())
}

fn write(wand: &MagickWand, coder: &str) -> Result<Vec<u8>> {
    wand.write_image_blob(coder)
        .map_err(|error| ImagingError::magick("encode the picture", error.to_string()))
}
