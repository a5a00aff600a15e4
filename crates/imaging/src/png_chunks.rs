//! The chunks of a PNG file: walking them with checksums, reading text, writing text.
//!
//! # Source
//! PNG Specification, Third Edition (W3C), sections 5 and 11.3.3.

use std::io::Read;

use flate2::read::ZlibDecoder;

use crate::error::{ImagingError, Result};
use crate::header::Format;

pub(crate) const SIGNATURE: [u8; 8] = [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n'];

/// The most that one compressed text may unpack to; a workflow is well under 1 MiB.
const MAX_TEXT_BYTES: u64 = 16 << 20;

/// One chunk whose checksum is right.
pub(crate) struct Chunk<'a> {
    pub(crate) kind: [u8; 4],
    pub(crate) data: &'a [u8],
    /// Length, kind, data and checksum as stored.
    pub(crate) raw: &'a [u8],
}

/// Walks the chunks of a file up to and with `IEND`, or to the first broken one.
pub(crate) struct Chunks<'a> {
    rest: &'a [u8],
    done: bool,
}

impl<'a> Chunks<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self> {
        let rest = bytes.strip_prefix(&SIGNATURE).ok_or_else(|| broken("has no PNG signature"))?;
        Ok(Self { rest, done: false })
    }

    fn take(&mut self) -> Result<Chunk<'a>> {
        let cut_short = || broken("is cut short");
        let (length, _) = self.rest.split_first_chunk::<4>().ok_or_else(cut_short)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (raw, rest) = length
            .checked_add(12)
            .and_then(|total| self.rest.split_at_checked(total))
            .ok_or_else(cut_short)?;
        let (body, checksum) = raw.split_last_chunk::<4>().ok_or_else(cut_short)?;
        let (kind, data) = body[4..].split_first_chunk::<4>().ok_or_else(cut_short)?;
        if crc32fast::hash(&body[4..]) != u32::from_be_bytes(*checksum) {
            return Err(broken("has a chunk with a wrong checksum"));
        }
        self.rest = rest;
        Ok(Chunk { kind: *kind, data, raw })
    }
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Result<Chunk<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done || self.rest.is_empty() {
            return None;
        }
        let chunk = self.take();
        self.done = !matches!(&chunk, Ok(chunk) if &chunk.kind != b"IEND");
        Some(chunk)
    }
}

fn broken(reason: &str) -> ImagingError {
    ImagingError::malformed(Format::Png, reason)
}

/// Reads the text chunks of a PNG in file order: `tEXt`, `zTXt` and `iTXt`.
///
/// # Errors
/// [`ImagingError::Malformed`] when the file is no PNG, is cut short or a text breaks the format's rules.
pub fn read_png_text(bytes: &[u8]) -> Result<Vec<(String, String)>> {
    let mut texts = Vec::new();
    for chunk in Chunks::new(bytes)? {
        let chunk = chunk?;
        let text = match &chunk.kind {
            b"tEXt" => split_at_zero(chunk.data).map(|(key, value)| (latin1(key), latin1(value))),
            b"zTXt" => compressed_text(chunk.data)?,
            b"iTXt" => international_text(chunk.data)?,
            _ => continue,
        };
        texts.push(text.ok_or_else(|| broken("has a malformed text chunk"))?);
    }
    Ok(texts)
}

fn compressed_text(data: &[u8]) -> Result<Option<(String, String)>> {
    let Some((key, [0, packed @ ..])) = split_at_zero(data) else { return Ok(None) };
    Ok(Some((latin1(key), latin1(&unpack(packed)?))))
}

fn international_text(data: &[u8]) -> Result<Option<(String, String)>> {
    let Some((key, [is_packed, 0, rest @ ..])) = split_at_zero(data) else { return Ok(None) };
    let Some((_language, rest)) = split_at_zero(rest) else { return Ok(None) };
    let Some((_translated_key, stored)) = split_at_zero(rest) else { return Ok(None) };
    let value = if *is_packed == 0 { stored.to_vec() } else { unpack(stored)? };
    Ok(String::from_utf8(value).ok().map(|value| (latin1(key), value)))
}

fn unpack(packed: &[u8]) -> Result<Vec<u8>> {
    let mut value = Vec::new();
    let read = ZlibDecoder::new(packed).take(MAX_TEXT_BYTES + 1).read_to_end(&mut value);
    if read.is_err() || value.len() as u64 > MAX_TEXT_BYTES {
        return Err(broken("has a compressed text that is broken or too long"));
    }
    Ok(value)
}

fn split_at_zero(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let position = data.iter().position(|byte| *byte == 0)?;
    Some((&data[..position], &data[position + 1..]))
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// Rebuilds a PNG with only the chunks that its pixels need, and the given texts after the header.
///
/// Text that fits Latin-1 becomes `tEXt`, other text `iTXt`, as Pillow writes them. Dates, gamma, colour profiles and
/// the encoder's own texts are dropped, so equal pixels and texts give equal files.
pub(crate) fn with_only_text(encoded: &[u8], texts: &[(&str, &str)]) -> Result<Vec<u8>> {
    let mut out =
        Vec::with_capacity(encoded.len() + texts.iter().map(|text| text.1.len() + 64).sum::<usize>());
    out.extend_from_slice(&SIGNATURE);
    for chunk in Chunks::new(encoded)? {
        let chunk = chunk?;
        match &chunk.kind {
            b"IHDR" => {
                out.extend_from_slice(chunk.raw);
                for (key, value) in texts {
                    write_text(&mut out, key, value)?;
                }
            }
            b"PLTE" | b"tRNS" | b"IDAT" | b"IEND" => out.extend_from_slice(chunk.raw),
            _ => {}
        }
    }
    Ok(out)
}

fn write_text(out: &mut Vec<u8>, key: &str, value: &str) -> Result<()> {
    let invalid = |name, found: &str, expected| {
        Err(ImagingError::InvalidArgument { name, found: found.to_owned(), expected })
    };
    let Some(key_bytes) =
        to_latin1(key).filter(|bytes| (1..=79).contains(&bytes.len()) && !bytes.contains(&0))
    else {
        return invalid("text key", key, "1 to 79 Latin-1 characters without NUL");
    };
    if value.contains('\0') {
        return invalid("text value", key, "text without NUL");
    }
    let mut data = key_bytes;
    let kind = match to_latin1(value) {
        Some(value_bytes) => {
            data.push(0);
            data.extend_from_slice(&value_bytes);
            b"tEXt"
        }
        None => {
            // Not compressed, method 0, no language, no translated key.
            data.extend_from_slice(&[0, 0, 0, 0, 0]);
            data.extend_from_slice(value.as_bytes());
            b"iTXt"
        }
    };
    write_chunk(out, *kind, &data)
}

/// Writes a chunk with its length and checksum.
pub(crate) fn write_chunk(out: &mut Vec<u8>, kind: [u8; 4], data: &[u8]) -> Result<()> {
    let length = u32::try_from(data.len()).ok().filter(|length| *length <= i32::MAX as u32).ok_or(
        ImagingError::TooLarge { what: "text length", found: data.len() as u64, limit: i32::MAX as u64 },
    )?;
    out.extend_from_slice(&length.to_be_bytes());
    let start = out.len();
    out.extend_from_slice(&kind);
    out.extend_from_slice(data);
    let checksum = crc32fast::hash(&out[start..]);
    out.extend_from_slice(&checksum.to_be_bytes());
    Ok(())
}

fn to_latin1(text: &str) -> Option<Vec<u8>> {
    text.chars().map(|character| u8::try_from(u32::from(character)).ok()).collect()
}
