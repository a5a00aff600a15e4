//! Animations: frames that are encoded one by one, put together into one PNG or WebP file.
//!
//! ImageMagick encodes each frame. The containers are written here, because its own writers choose frame rectangles,
//! delays and metadata by rules of their own.
//!
//! # Source
//! PNG Specification, Third Edition (W3C), section 11.3.6; WebP container specification, "Animation" and "Metadata".

use crate::encode::{WebpOptions, encode_png, encode_webp_with};
use crate::error::{ImagingError, Result};
use crate::header::Format;
use crate::pixels::{Channels, PixelView};
use crate::png_chunks::{Chunks, SIGNATURE, write_chunk};

/// How long each frame is shown, in milliseconds; the animation repeats for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameDelay(u32);

impl FrameDelay {
    /// Returns the delay of a number of frames a second, cut to whole milliseconds.
    ///
    /// # Errors
    /// [`ImagingError::InvalidArgument`] for a rate that is not positive or slower than a frame in 4 hours.
    pub fn from_rate(frames_per_second: f64) -> Result<Self> {
        let milliseconds = 1000.0 / frames_per_second;
        if milliseconds.is_finite() && (0.0..f64::from(1 << 24)).contains(&milliseconds) {
            return Ok(Self(milliseconds as u32));
        }
        Err(ImagingError::InvalidArgument {
            name: "fps",
            found: frames_per_second.to_string(),
            expected: "a positive number of frames a second",
        })
    }
}

fn need_frames<T>(frames: &[T]) -> Result<()> {
    if frames.is_empty() {
        return Err(ImagingError::InvalidArgument {
            name: "frames",
            found: "0".into(),
            expected: "at least one",
        });
    }
    Ok(())
}

/// Encodes frames of one size as an animated PNG; a single one as a plain PNG.
///
/// `texts` go into `comf` chunks behind the pixels, where ComfyUI keeps the workflow of an animation.
///
/// # Errors
/// [`ImagingError::InvalidArgument`] without frames, for frames of different sizes or a level over 9, and
/// [`ImagingError::Magick`] when the encoder fails.
pub fn encode_animated_png(
    frames: &[PixelView<'_, u8>],
    delay: FrameDelay,
    texts: &[(&str, &str)],
    compress_level: u8,
) -> Result<Vec<u8>> {
    need_frames(frames)?;
    let is_animated = frames.len() > 1;
    let mut out = SIGNATURE.to_vec();
    let mut sequence = 0_u32;
    let mut next_number = || {
        sequence += 1;
        (sequence - 1).to_be_bytes()
    };
    for (index, frame) in frames.iter().enumerate() {
        let encoded = encode_png(*frame, &[], compress_level)?;
        let mut is_controlled = !is_animated;
        for chunk in Chunks::new(&encoded)? {
            let chunk = chunk?;
            match &chunk.kind {
                b"IHDR" if index == 0 => {
                    out.extend_from_slice(chunk.raw);
                    if is_animated {
                        let count = (frames.len() as u32).to_be_bytes();
                        write_chunk(&mut out, *b"acTL", &[count, [0; 4]].concat())?;
                    }
                }
                b"IHDR" if chunk.data != first_header(&out) => return Err(different_sizes(frames, index)),
                b"IDAT" => {
                    if !is_controlled {
                        is_controlled = true;
                        write_chunk(&mut out, *b"fcTL", &frame_control(next_number(), *frame, delay))?;
                    }
                    if index == 0 {
                        out.extend_from_slice(chunk.raw);
                    } else {
                        write_chunk(&mut out, *b"fdAT", &[&next_number()[..], chunk.data].concat())?;
                    }
                }
                _ => {}
            }
        }
    }
    for (key, value) in texts {
        write_chunk(&mut out, *b"comf", &[key.as_bytes(), &[0], value.as_bytes()].concat())?;
    }
    write_chunk(&mut out, *b"IEND", &[])?;
    Ok(out)
}

/// The content of the `IHDR` chunk that a file begins with.
fn first_header(file: &[u8]) -> &[u8] {
    let start = SIGNATURE.len() + 8;
    file.get(start..start + 13).unwrap_or_default()
}

fn different_sizes(frames: &[PixelView<'_, u8>], index: usize) -> ImagingError {
    let (width, height) = (frames[index].width(), frames[index].height());
    let found = format!("frame {index} of {width}x{height}");
    ImagingError::InvalidArgument { name: "frames", found, expected: "frames of one size and kind" }
}

fn frame_control(number: [u8; 4], frame: PixelView<'_, u8>, FrameDelay(milliseconds): FrameDelay) -> Vec<u8> {
    // The fraction has 16 bits a side; a long delay is told in whole seconds.
    let (numerator, denominator) = match u16::try_from(milliseconds) {
        Ok(milliseconds) => (milliseconds, 1000_u16),
        Err(_) => (u16::try_from(milliseconds / 1000).unwrap_or(u16::MAX), 1),
    };
    let mut data = number.to_vec();
    for side in [frame.width() as u32, frame.height() as u32, 0, 0] {
        data.extend(side.to_be_bytes());
    }
    data.extend(numerator.to_be_bytes());
    data.extend(denominator.to_be_bytes());
    // Neither cleared afterwards nor mixed with what was there.
    data.extend([0, 0]);
    data
}

/// Encodes frames of one size as an animated WebP; a single one as a plain WebP.
///
/// `texts` become EXIF tags, the first `Model`, the others `Make` and the tags below it, each as `key:value`, where
/// ComfyUI keeps the workflow of a WebP.
///
/// # Errors
/// [`ImagingError::InvalidArgument`] without frames or for frames of different sizes, and those of encoding one frame.
pub fn encode_animated_webp(
    frames: &[PixelView<'_, u8>],
    delay: FrameDelay,
    texts: &[(&str, &str)],
    options: &WebpOptions,
) -> Result<Vec<u8>> {
    need_frames(frames)?;
    let (width, height) = (frames[0].width(), frames[0].height());
    let is_animated = frames.len() > 1;
    let mut body = Vec::new();
    let mut has_alpha = false;
    for (index, frame) in frames.iter().enumerate() {
        if (frame.width(), frame.height()) != (width, height) {
            return Err(different_sizes(frames, index));
        }
        has_alpha |= frame.channels() == Channels::Rgba;
        let picture = picture_chunks(&encode_webp_with(*frame, options)?)?;
        if is_animated {
            riff_chunk(&mut body, b"ANMF", &[animation_frame((width, height), delay), picture].concat());
        } else {
            body.extend(picture);
        }
    }
    if !texts.is_empty() {
        riff_chunk(&mut body, b"EXIF", &exif(texts));
    }
    let flags = [(has_alpha, 0x10), (!texts.is_empty(), 0x08), (is_animated, 0x02)];
    let flags: u8 = flags.iter().filter(|(is_set, _)| *is_set).map(|(_, bit)| bit).sum();
    let mut header = Vec::new();
    let extended = [&[flags, 0, 0, 0][..], &u24(width - 1), &u24(height - 1)].concat();
    riff_chunk(&mut header, b"VP8X", &extended);
    if is_animated {
        // Black, transparent background; repeated for ever.
        riff_chunk(&mut header, b"ANIM", &[0; 6]);
    }
    let length = (4 + header.len() + body.len()) as u32;
    Ok([b"RIFF", &length.to_le_bytes()[..], b"WEBP", &header, &body].concat())
}

fn u24(value: usize) -> [u8; 3] {
    let [low, middle, high, _] = (value as u32).to_le_bytes();
    [low, middle, high]
}

fn riff_chunk(out: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    out.extend(kind);
    out.extend((data.len() as u32).to_le_bytes());
    out.extend(data);
    // Chunks begin at even places.
    out.extend(std::iter::repeat_n(0, data.len() % 2));
}

fn animation_frame((width, height): (usize, usize), FrameDelay(milliseconds): FrameDelay) -> Vec<u8> {
    let place = [0; 6];
    // Not mixed with the frame before.
    let flags = [0b10];
    [&place[..], &u24(width - 1), &u24(height - 1), &u24(milliseconds as usize), &flags].concat()
}

/// The chunks of a still WebP that hold its picture.
fn picture_chunks(file: &[u8]) -> Result<Vec<u8>> {
    let broken = || ImagingError::malformed(Format::WebP, "of one frame is cut short");
    let mut rest = file.get(12..).ok_or_else(broken)?;
    let mut out = Vec::new();
    while let Some((kind, after)) = rest.split_first_chunk::<4>() {
        let (length, after) = after.split_first_chunk::<4>().ok_or_else(broken)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (data, _) = after.split_at_checked(length).ok_or_else(broken)?;
        if matches!(kind, b"ALPH" | b"VP8 " | b"VP8L") {
            riff_chunk(&mut out, kind, data);
        }
        rest = after.get(length + length % 2..).unwrap_or_default();
    }
    Ok(out)
}

/// Writes texts as the tags of a TIFF directory.
fn exif(texts: &[(&str, &str)]) -> Vec<u8> {
    const MODEL: u16 = 0x0110;
    const MAKE: u16 = 0x010f;
    /// Type of a tag that holds text.
    const ASCII: u16 = 2;
    let tags = std::iter::once(MODEL).chain((0..=MAKE).rev());
    let mut entries: Vec<(u16, Vec<u8>)> = texts
        .iter()
        .zip(tags)
        .map(|((key, value), tag)| (tag, [key.as_bytes(), b":", value.as_bytes(), &[0]].concat()))
        .collect();
    entries.sort_by_key(|(tag, _)| *tag);
    let mut out = b"II\x2a\0\x08\0\0\0".to_vec();
    out.extend((entries.len() as u16).to_le_bytes());
    let mut values: Vec<u8> = Vec::new();
    let values_start = out.len() + entries.len() * 12 + 4;
    for (tag, value) in &entries {
        out.extend(tag.to_le_bytes());
        out.extend(ASCII.to_le_bytes());
        out.extend((value.len() as u32).to_le_bytes());
        // Up to four bytes are kept in the entry itself.
        if let Ok(short) = <[u8; 4]>::try_from([&value[..], &[0; 4][..4 - value.len().min(4)]].concat()) {
            out.extend(short);
        } else {
            out.extend(((values_start + values.len()) as u32).to_le_bytes());
            values.extend(value);
        }
    }
    // No directory follows.
    out.extend([0; 4]);
    out.extend(values);
    out
}
