//! Small picture work of the HTTP surface: previews, single channels, masks.

use crate::error::ApiError;
use axum::http::StatusCode;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::{DynamicImage, ImageReader, Limits, RgbaImage};
use std::io::Cursor;

/// Larger pictures are refused: a few bytes can claim any size.
const MAX_SIDE_PX: u32 = 32_768;
const MAX_DECODED_BYTES: u64 = 1 << 30;

/// A picture ready to be sent.
pub struct Rendered {
    pub mime: &'static str,
    pub bytes: Vec<u8>,
}

/// Which channels a client wants to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    All,
    Rgb,
    Alpha,
}

impl Channel {
    /// Reads `channel`; other values mean all channels, as in ComfyUI.
    pub fn parse(text: Option<&str>) -> Self {
        match text {
            Some("rgb") => Self::Rgb,
            Some("a") => Self::Alpha,
            _ => Self::All,
        }
    }
}

/// How a preview is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreviewFormat {
    Webp { quality: u8 },
    Jpeg { quality: u8 },
}

impl PreviewFormat {
    /// Reads `preview=webp;90`. As in ComfyUI, anything but `jpeg` is WebP, and so is JPEG when alpha is wanted.
    ///
    /// # Errors
    /// 400 when the quality is above 100.
    pub fn parse(text: &str, channel: &str) -> Result<Self, ApiError> {
        let (format, quality) = text.split_once(';').unwrap_or((text, ""));
        let quality: u32 = quality.trim().parse().unwrap_or(90);
        if quality > 100 {
            return Err(ApiError::bad_request(format!("`{quality}` is not a quality of 0..=100")));
        }
        Ok(match format {
            "jpeg" if !channel.contains('a') => Self::Jpeg { quality: quality.max(1) as u8 },
            _ => Self::Webp { quality: quality as u8 },
        })
    }
}

/// Encodes a preview of a picture.
///
/// # Errors
/// 400 when the file is not a picture that can be read.
pub fn preview(file: &[u8], format: PreviewFormat, channel: Channel) -> Result<Rendered, ApiError> {
    let picture = select(decode(file)?, channel);
    let mut bytes = Vec::new();
    let (mime, encoded) = match format {
        PreviewFormat::Jpeg { quality } => {
            let encoder = JpegEncoder::new_with_quality(&mut bytes, quality);
            ("image/jpeg", picture.to_rgb8().write_with_encoder(encoder))
        }
        PreviewFormat::Webp { quality } => return encode_webp(&picture, quality),
    };
    encoded.map_err(|error| ApiError::bad_request(format!("the picture cannot be encoded: {error}")))?;
    Ok(Rendered { mime, bytes })
}

fn encode_webp(picture: &DynamicImage, quality: u8) -> Result<Rendered, ApiError> {
    let encode = |encoder: webp::Encoder<'_>| encoder.encode_simple(false, quality.into());
    let encoded = if picture.color().has_alpha() {
        let pixels = picture.to_rgba8();
        encode(webp::Encoder::from_rgba(&pixels, pixels.width(), pixels.height()))
    } else {
        let pixels = picture.to_rgb8();
        encode(webp::Encoder::from_rgb(&pixels, pixels.width(), pixels.height()))
    };
    // WebP ends at 16383 pixels a side.
    let encoded = encoded
        .map_err(|error| ApiError::bad_request(format!("the picture cannot be encoded: {error:?}")))?;
    Ok(Rendered { mime: "image/webp", bytes: encoded.to_vec() })
}

/// Re-encodes a picture as PNG with some of its channels.
///
/// # Errors
/// 400 when the file is not a picture that can be read.
pub fn channel(file: &[u8], channel: Channel) -> Result<Rendered, ApiError> {
    Ok(Rendered { mime: "image/png", bytes: encode_png(&select(decode(file)?, channel))? })
}

/// Gives a picture the alpha channel of a mask of the same size; text chunks of a PNG stay.
///
/// # Errors
/// 400 when one of them cannot be read or the sizes differ.
pub fn with_alpha_of(original: &[u8], mask: &[u8]) -> Result<Vec<u8>, ApiError> {
    let (mut picture, mask) = (decode(original)?.to_rgba8(), decode(mask)?.to_rgba8());
    if picture.dimensions() != mask.dimensions() {
        let ((w, h), (mask_w, mask_h)) = (picture.dimensions(), mask.dimensions());
        return Err(ApiError::bad_request(format!("the mask is {mask_w}x{mask_h}, the picture {w}x{h}")));
    }
    for (pixel, mask) in picture.pixels_mut().zip(mask.pixels()) {
        pixel[3] = mask[3];
    }
    let png = encode_png(&DynamicImage::ImageRgba8(picture))?;
    Ok(insert_chunks(&png, &text_chunks(original)))
}

fn decode(file: &[u8]) -> Result<DynamicImage, ApiError> {
    let unreadable = |reason: String| {
        ApiError::new(StatusCode::BAD_REQUEST, "not_a_picture", "the file is not a picture that can be read")
            .details(reason)
    };
    let mut reader = ImageReader::new(Cursor::new(file))
        .with_guessed_format()
        .map_err(|error| unreadable(error.to_string()))?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE_PX);
    limits.max_image_height = Some(MAX_SIDE_PX);
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    reader.limits(limits);
    reader.decode().map_err(|error| unreadable(error.to_string()))
}

fn select(picture: DynamicImage, channel: Channel) -> DynamicImage {
    match channel {
        Channel::All => picture,
        Channel::Rgb => DynamicImage::ImageRgb8(picture.to_rgb8()),
        // Black with the picture's alpha; opaque where the picture has none.
        Channel::Alpha => {
            let rgba = picture.to_rgba8();
            let alpha = RgbaImage::from_fn(rgba.width(), rgba.height(), |x, y| {
                image::Rgba([0, 0, 0, rgba.get_pixel(x, y)[3]])
            });
            DynamicImage::ImageRgba8(alpha)
        }
    }
}

fn encode_png(picture: &DynamicImage) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    picture
        .write_with_encoder(PngEncoder::new(&mut bytes))
        .map_err(|error| ApiError::internal(format!("the picture cannot be encoded: {error}")))?;
    Ok(bytes)
}

const PNG_SIGNATURE_BYTES: usize = 8;
const PNG_HEADER_CHUNK_BYTES: usize = 25;

/// The text chunks of a PNG, whole; empty for anything else.
fn text_chunks(file: &[u8]) -> Vec<u8> {
    let mut chunks = Vec::new();
    let mut rest = file.strip_prefix(b"\x89PNG\r\n\x1a\n").unwrap_or_default();
    // A chunk is length, type, data and checksum.
    while let Some((length, kind)) = rest.split_first_chunk::<4>() {
        let whole = (u32::from_be_bytes(*length) as usize).saturating_add(12);
        let Some(chunk) = rest.get(..whole) else { break };
        if [&b"tEXt"[..], b"iTXt", b"zTXt"].iter().any(|text| kind.starts_with(text)) {
            chunks.extend_from_slice(chunk);
        }
        rest = &rest[whole..];
    }
    chunks
}

/// Puts chunks behind the header of a PNG that this module has encoded.
fn insert_chunks(png: &[u8], chunks: &[u8]) -> Vec<u8> {
    let (head, tail) = png.split_at(PNG_SIGNATURE_BYTES + PNG_HEADER_CHUNK_BYTES);
    [head, chunks, tail].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(alpha: u8) -> Vec<u8> {
        encode_png(&DynamicImage::ImageRgba8(RgbaImage::from_pixel(3, 2, image::Rgba([10, 20, 30, alpha]))))
            .unwrap()
    }

    #[test]
    fn masks_replace_alpha_and_keep_text() {
        // `tEXt` with the keyword "k" and the text "v"; decoders here do not check its sum.
        let text = [&3u32.to_be_bytes()[..], b"tEXtk\0v", &[0x5f, 0xd1, 0x02, 0xa5]].concat();
        let original = insert_chunks(&png(255), &text);
        let result = with_alpha_of(&original, &png(7)).unwrap();
        assert_eq!(text_chunks(&result), text);
        let plain = with_alpha_of(&png(255), &png(7)).unwrap();
        assert_eq!(decode(&plain).unwrap().to_rgba8().get_pixel(2, 1).0, [10, 20, 30, 7]);
    }

    #[test]
    fn channels_are_those_asked_for() {
        let rgb = decode(&channel(&png(9), Channel::Rgb).unwrap().bytes).unwrap();
        assert_eq!(rgb.to_rgba8().get_pixel(0, 0).0, [10, 20, 30, 255]);
        let alpha = decode(&channel(&png(9), Channel::Alpha).unwrap().bytes).unwrap();
        assert_eq!(alpha.to_rgba8().get_pixel(0, 0).0, [0, 0, 0, 9]);
    }

    #[test]
    fn previews_follow_comfyui_rules() {
        for (text, channel, format) in [
            ("webp;80", "", PreviewFormat::Webp { quality: 80 }),
            ("png", "", PreviewFormat::Webp { quality: 90 }),
            ("", "", PreviewFormat::Webp { quality: 90 }),
            ("jpeg", "", PreviewFormat::Jpeg { quality: 90 }),
            ("jpeg;50", "rgb", PreviewFormat::Jpeg { quality: 50 }),
            ("jpeg;90", "rgba", PreviewFormat::Webp { quality: 90 }),
        ] {
            assert_eq!(PreviewFormat::parse(text, channel).unwrap(), format, "{text} {channel}");
        }
        assert!(PreviewFormat::parse("webp;500", "").is_err());
        let preview = preview(&png(9), PreviewFormat::Webp { quality: 90 }, Channel::All).unwrap();
        assert_eq!(&preview.bytes[8..12], b"WEBP");
        // Lossy with an alpha plane; `VP8L` would be lossless.
        assert_eq!(&preview.bytes[12..16], b"VP8X");
    }

    #[test]
    fn what_is_no_picture_is_said() {
        for file in [&b"this is not a png"[..], b"", &png(1)[..30]] {
            assert_eq!(channel(file, Channel::Rgb).err().unwrap().code, "not_a_picture");
        }
    }
}
