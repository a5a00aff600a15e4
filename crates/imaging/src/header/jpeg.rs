//! JPEG: a walk over the marker segments up to the end-of-image marker.
//!
//! # Source
//! ITU-T T.81, annex B.

use super::bytes::Cursor;
use super::{Depth, Format, ImageInfo};
use crate::error::{ImagingError, Result};
use crate::limits::Limits;

/// A blank picture takes about 340 pixels a byte at most, so a smaller file cannot hold what its header announces.
const MAX_PIXELS_PER_BYTE: u64 = 1024;

const START_OF_SCAN: u8 = 0xda;
const END_OF_IMAGE: u8 = 0xd9;

pub(super) fn parse(bytes: &[u8], limits: &Limits) -> Result<ImageInfo> {
    let mut cursor = Cursor::new(bytes);
    cursor.take(2).ok_or_else(cut_short)?;
    let mut size = None;
    let mut scans = 0;
    loop {
        match next_marker(&mut cursor).ok_or_else(cut_short)? {
            END_OF_IMAGE => break,
            // Markers without a segment: restart intervals and TEM.
            0xd0..=0xd7 | 0x01 => {}
            START_OF_SCAN => {
                segment(&mut cursor)?;
                scans += 1;
            }
            marker if is_start_of_frame(marker) => {
                if size.is_some() {
                    return Err(broken("has two frame headers"));
                }
                let found = frame_size(segment(&mut cursor)?)?;
                limits.check(&info(found))?;
                size = Some(found);
            }
            _ => {
                segment(&mut cursor)?;
            }
        }
    }
    let (width, height) = size.ok_or_else(|| broken("has no frame header"))?;
    if scans == 0 {
        return Err(broken("has no picture data"));
    }
    if u64::from(width) * u64::from(height) > bytes.len() as u64 * MAX_PIXELS_PER_BYTE {
        return Err(broken("holds less data than its size needs"));
    }
    Ok(info((width, height)))
}

fn info((width, height): (u32, u32)) -> ImageInfo {
    ImageInfo { format: Format::Jpeg, width, height, frames: 1, has_alpha: false, depth: Depth::Eight }
}

fn broken(reason: &str) -> ImagingError {
    ImagingError::malformed(Format::Jpeg, reason)
}

fn cut_short() -> ImagingError {
    broken("is cut short")
}

/// Skips entropy-coded data and fill bytes, and takes the next marker's code.
fn next_marker(cursor: &mut Cursor<'_>) -> Option<u8> {
    while !cursor.is_empty() {
        cursor.skip_to(0xff);
        let mut code = cursor.u8()?;
        while code == 0xff {
            code = cursor.u8()?;
        }
        // 0xff00 is a data byte of value 0xff.
        if code != 0 {
            return Some(code);
        }
    }
    None
}

fn segment<'a>(cursor: &mut Cursor<'a>) -> Result<&'a [u8]> {
    let length = cursor.u16_be().ok_or_else(cut_short)?;
    let payload = length.checked_sub(2).ok_or_else(|| broken("has a segment of impossible length"))?;
    cursor.take(usize::from(payload)).ok_or_else(cut_short)
}

/// Tells the frame headers SOF0 to SOF15 from DHT, JPG and DAC, which share their range.
fn is_start_of_frame(marker: u8) -> bool {
    matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc)
}

fn frame_size(segment: &[u8]) -> Result<(u32, u32)> {
    let mut cursor = Cursor::new(segment);
    let fields = (cursor.u8(), cursor.u16_be(), cursor.u16_be(), cursor.u8());
    let (Some(precision), Some(height), Some(width), Some(components)) = fields else {
        return Err(broken("has a short frame header"));
    };
    if precision != 8 {
        return Err(broken("has samples of other than 8 bits"));
    }
    if width == 0 || height == 0 {
        return Err(broken("has an impossible size"));
    }
    if !matches!(components, 1 | 3 | 4) {
        return Err(broken("has an impossible number of colour components"));
    }
    Ok((u32::from(width), u32::from(height)))
}
