//! WebP: the RIFF container, its size fields and the three kinds of picture chunk.
//!
//! # Source
//! WebP container specification; RFC 6386 section 9.1 (VP8); WebP lossless bitstream section 3 (VP8L).

use super::bytes::Cursor;
use super::{Depth, Format, ImageInfo};
use crate::error::{ImagingError, Result};

pub(super) fn parse(bytes: &[u8]) -> Result<ImageInfo> {
    let mut cursor = Cursor::new(bytes);
    let riff_size = (|| {
        cursor.take(4)?;
        let size = cursor.u32_le()?;
        cursor.take(4)?;
        Some(size)
    })()
    .ok_or_else(cut_short)?;
    let body_size = riff_size.checked_sub(4).ok_or_else(|| broken("has an impossible size field"))?;
    let mut body = Cursor::new(cursor.take(body_size as usize).ok_or_else(cut_short)?);

    let (first_kind, first) = chunk(&mut body)?;
    match &first_kind {
        b"VP8 " => picture(lossy_size(first)?, false, 1),
        b"VP8L" => {
            let (size, has_alpha) = lossless_header(first)?;
            picture(size, has_alpha, 1)
        }
        b"VP8X" => extended(first, &mut body),
        _ => Err(broken("does not begin with a picture chunk")),
    }
}

fn broken(reason: &str) -> ImagingError {
    ImagingError::malformed(Format::WebP, reason)
}

fn cut_short() -> ImagingError {
    broken("is cut short")
}

fn picture((width, height): (u32, u32), has_alpha: bool, frames: u32) -> Result<ImageInfo> {
    if width == 0 || height == 0 || frames == 0 {
        return Err(broken("has an impossible size"));
    }
    Ok(ImageInfo { format: Format::WebP, width, height, frames, has_alpha, depth: Depth::Eight })
}

/// Takes one chunk; odd ones are padded by a byte, which the last one of some writers lacks.
fn chunk<'a>(cursor: &mut Cursor<'a>) -> Result<([u8; 4], &'a [u8])> {
    let kind = cursor.array::<4>().ok_or_else(cut_short)?;
    let size = cursor.u32_le().ok_or_else(cut_short)?;
    let data = cursor.take(size as usize).ok_or_else(cut_short)?;
    if size % 2 == 1 {
        cursor.take(1);
    }
    Ok((kind, data))
}

fn lossy_size(data: &[u8]) -> Result<(u32, u32)> {
    let mut cursor = Cursor::new(data);
    cursor.take(3).ok_or_else(cut_short)?;
    if cursor.array::<3>() != Some([0x9d, 0x01, 0x2a]) {
        return Err(broken("has no key frame"));
    }
    let fields = (cursor.array::<2>(), cursor.array::<2>());
    let (Some(width), Some(height)) = fields else { return Err(cut_short()) };
    // The two upper bits are a display scale.
    let size = |field| u32::from(u16::from_le_bytes(field) & 0x3fff);
    Ok((size(width), size(height)))
}

fn lossless_header(data: &[u8]) -> Result<((u32, u32), bool)> {
    let mut cursor = Cursor::new(data);
    if cursor.u8() != Some(0x2f) {
        return Err(broken("has no lossless signature"));
    }
    let bits = cursor.u32_le().ok_or_else(cut_short)?;
    Ok((((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1), (bits >> 28) & 1 == 1))
}

/// Reads a file with a `VP8X` header, and checks that no inner picture is larger than the canvas it announces.
fn extended(header: &[u8], body: &mut Cursor<'_>) -> Result<ImageInfo> {
    const ALPHA: u8 = 0x10;
    const ANIMATION: u8 = 0x02;
    let mut cursor = Cursor::new(header);
    let fields = (cursor.array::<4>(), cursor.array::<3>(), cursor.array::<3>());
    let (Some([flags, ..]), Some(width), Some(height)) = fields else { return Err(cut_short()) };
    let canvas = (u24(width) + 1, u24(height) + 1);
    let is_animation = flags & ANIMATION != 0;
    let mut frames = 0;
    while !body.is_empty() {
        let (kind, data) = chunk(body)?;
        match &kind {
            b"ANMF" if is_animation => check_frame(data, canvas)?,
            b"VP8 " | b"VP8L" if !is_animation => check_size(&kind, data, canvas)?,
            _ => continue,
        }
        frames += 1;
    }
    if !is_animation && frames > 1 {
        return Err(broken("has several pictures but is no animation"));
    }
    picture(canvas, flags & ALPHA != 0, frames)
}

fn u24([low, middle, high]: [u8; 3]) -> u32 {
    u32::from_le_bytes([low, middle, high, 0])
}

fn check_frame(data: &[u8], canvas: (u32, u32)) -> Result<()> {
    let mut cursor = Cursor::new(data);
    let mut field = || cursor.array::<3>().map(u24).ok_or_else(cut_short);
    let (x, y) = (field()? * 2, field()? * 2);
    let size = (field()? + 1, field()? + 1);
    cursor.take(4).ok_or_else(cut_short)?;
    if x + size.0 > canvas.0 || y + size.1 > canvas.1 {
        return Err(broken("has a frame outside its canvas"));
    }
    let mut pictures = 0;
    while !cursor.is_empty() {
        let (kind, data) = chunk(&mut cursor)?;
        if matches!(&kind, b"VP8 " | b"VP8L") {
            check_size(&kind, data, size)?;
            pictures += 1;
        }
    }
    if pictures == 1 { Ok(()) } else { Err(broken("has a frame without exactly one picture")) }
}

fn check_size(kind: &[u8; 4], data: &[u8], expected: (u32, u32)) -> Result<()> {
    let size = if kind == b"VP8L" { lossless_header(data)?.0 } else { lossy_size(data)? };
    if size == expected { Ok(()) } else { Err(broken("has a picture of another size than its header says")) }
}
