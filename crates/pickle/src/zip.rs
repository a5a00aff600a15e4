//! Finds the entries of a zip archive, as PyTorch writes it: stored, never compressed.
//!
//! Only the table of contents at the end is believed, and only after each entry's own header agrees with it.

use crate::error::{Error, Result, check_limit};
use crate::limits::{MAX_ZIP_DIRECTORY_BYTES, MAX_ZIP_ENTRIES};
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;

const END_BYTES: u64 = 22;
const LOCATOR_BYTES: u64 = 20;
const END64_BYTES: u64 = 56;
const ENTRY_BYTES: usize = 46;
const LOCAL_BYTES: u64 = 30;
const MAX_COMMENT_BYTES: u64 = 65_535;

/// Where each entry's bytes are in the file, by name.
pub(crate) type Entries = BTreeMap<String, Range<u64>>;

/// Reads the table of contents.
///
/// # Errors
/// When it is missing or contradicts the file, when entries overlap or share a name, or when one is compressed or
/// encrypted.
pub(crate) fn read<R: Read + Seek>(input: &mut R, file_bytes: u64) -> Result<Entries> {
    let directory = find_directory(input, file_bytes)?;
    let table = read_at(input, directory.start, directory.end - directory.start)?;
    let mut listed = parse_table(&table, directory.start)?;
    listed.sort_by_key(|entry| entry.header);
    let mut entries = Entries::new();
    let mut free = 0;
    for entry in listed {
        if entry.header < free {
            return Err(Error::damaged(format!("`{}` overlaps another entry", shown(&entry.name))));
        }
        let data = locate(input, &entry, directory.start)?;
        free = data.end;
        if entries.insert(entry.name.clone(), data).is_some() {
            return Err(Error::damaged(format!("`{}` is there twice", shown(&entry.name))));
        }
    }
    Ok(entries)
}

fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(100).collect()
}

pub(crate) fn read_at<R: Read + Seek>(input: &mut R, offset: u64, bytes: u64) -> Result<Vec<u8>> {
    input.seek(SeekFrom::Start(offset))?;
    let length = usize::try_from(bytes).map_err(|_| Error::damaged("a part of it is too large"))?;
    let mut buffer = vec![0; length];
    input.read_exact(&mut buffer)?;
    Ok(buffer)
}

fn u16_at(bytes: &[u8], at: usize) -> u64 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]]).into()
}

fn u32_at(bytes: &[u8], at: usize) -> u64 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")).into()
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Where the table of contents is.
fn find_directory<R: Read + Seek>(input: &mut R, file_bytes: u64) -> Result<Range<u64>> {
    let missing =
        || Error::damaged("the archive has no table of contents: it is cut off or not a zip archive");
    let tail_bytes = file_bytes.min(END_BYTES + MAX_COMMENT_BYTES);
    let tail_start = file_bytes - tail_bytes;
    let tail = read_at(input, tail_start, tail_bytes)?;
    let is_end = |&at: &usize| {
        tail[at..].starts_with(b"PK\x05\x06")
            && u16_at(&tail, at + 20) == (tail.len() - at) as u64 - END_BYTES
    };
    let last = tail.len().checked_sub(END_BYTES as usize).ok_or_else(missing)?;
    let at = (0..=last).rev().find(is_end).ok_or_else(missing)?;
    let end = &tail[at..];
    let position = tail_start + at as u64;
    let (mut count, mut bytes, mut start) = (u16_at(end, 10), u32_at(end, 12), u32_at(end, 16));
    let mut limit = position;
    if count == 0xffff || bytes == 0xffff_ffff || start == 0xffff_ffff {
        (count, bytes, start, limit) = find_directory64(input, position)?;
    }
    check_limit("entries in the archive", count, MAX_ZIP_ENTRIES)?;
    check_limit("bytes in the archive's table of contents", bytes, MAX_ZIP_DIRECTORY_BYTES)?;
    let directory_end = start.checked_add(bytes).filter(|&end| end <= limit);
    let directory_end =
        directory_end.ok_or_else(|| Error::damaged("the archive's table of contents is misplaced"))?;
    if bytes < count * ENTRY_BYTES as u64 {
        return Err(Error::damaged("the archive's table of contents is too short"));
    }
    Ok(start..directory_end)
}

/// Count, size and start of the table of contents of a large archive, and where it must end at the latest.
fn find_directory64<R: Read + Seek>(input: &mut R, end: u64) -> Result<(u64, u64, u64, u64)> {
    let bad = || Error::damaged("the archive's 64-bit table of contents is missing");
    let locator_start = end.checked_sub(LOCATOR_BYTES).ok_or_else(bad)?;
    let locator = read_at(input, locator_start, LOCATOR_BYTES)?;
    let at = u64_at(&locator, 8);
    let fits = at.checked_add(END64_BYTES).is_some_and(|end| end <= locator_start);
    if !locator.starts_with(b"PK\x06\x07") || !fits {
        return Err(bad());
    }
    let end64 = read_at(input, at, END64_BYTES)?;
    if !end64.starts_with(b"PK\x06\x06") {
        return Err(bad());
    }
    Ok((u64_at(&end64, 32), u64_at(&end64, 40), u64_at(&end64, 48), at))
}

/// An entry as the table of contents has it.
struct Listed {
    name: String,
    /// Position of the entry's own header.
    header: u64,
    bytes: u64,
}

fn parse_table(table: &[u8], table_start: u64) -> Result<Vec<Listed>> {
    let short = || Error::damaged("the archive's table of contents is cut off");
    let mut listed = Vec::new();
    let mut rest = table;
    while !rest.is_empty() {
        let entry = rest.get(..ENTRY_BYTES).ok_or_else(short)?;
        if !entry.starts_with(b"PK\x01\x02") {
            return Err(Error::damaged("the archive's table of contents holds something else"));
        }
        let [name_bytes, extra_bytes, comment_bytes] = [28, 30, 32].map(|at| u16_at(entry, at) as usize);
        let extra_start = ENTRY_BYTES + name_bytes;
        let next = extra_start + extra_bytes + comment_bytes;
        let name = rest.get(ENTRY_BYTES..extra_start).ok_or_else(short)?;
        let extra = rest.get(extra_start..extra_start + extra_bytes).ok_or_else(short)?;
        let name = std::str::from_utf8(name).map_err(|_| Error::damaged("an entry's name is not UTF-8"))?;
        if u16_at(entry, 8) & 1 != 0 {
            return Err(Error::Unsupported(format!("`{}` in the archive is encrypted", shown(name))));
        }
        let [stored, bytes, header] = wide_sizes(entry, extra)?;
        if u16_at(entry, 10) != 0 {
            let name = shown(name);
            return Err(Error::Unsupported(format!(
                "`{name}` in the archive is compressed, PyTorch only stores"
            )));
        }
        if stored != bytes || header >= table_start {
            return Err(Error::damaged(format!("the size or place of `{}` is wrong", shown(name))));
        }
        listed.push(Listed { name: name.to_owned(), header, bytes });
        check_limit("entries in the archive", listed.len() as u64, MAX_ZIP_ENTRIES)?;
        rest = rest.get(next..).ok_or_else(short)?;
    }
    Ok(listed)
}

/// Stored size, true size and position of an entry; those that do not fit 32 bits are in the extra field.
fn wide_sizes(entry: &[u8], extra: &[u8]) -> Result<[u64; 3]> {
    let mut sizes = [u32_at(entry, 20), u32_at(entry, 24), u32_at(entry, 42)];
    // In the extra field the true size comes first.
    let wide: Vec<usize> = [1, 0, 2].into_iter().filter(|&i| sizes[i] == 0xffff_ffff).collect();
    if wide.is_empty() {
        return Ok(sizes);
    }
    let bad = || Error::damaged("an entry's 64-bit size is missing");
    let mut rest = extra;
    while rest.len() >= 4 {
        let (id, length) = (u16_at(rest, 0), u16_at(rest, 2) as usize);
        let field = rest.get(4..4 + length).ok_or_else(bad)?;
        if id == 1 {
            for (place, size) in wide.into_iter().enumerate() {
                let bytes = field.get(8 * place..8 * place + 8).ok_or_else(bad)?;
                sizes[size] = u64_at(bytes, 0);
            }
            return Ok(sizes);
        }
        rest = &rest[4 + length..];
    }
    Err(bad())
}

/// The bytes of an entry, after its own header was compared with the table of contents.
fn locate<R: Read + Seek>(input: &mut R, entry: &Listed, limit: u64) -> Result<Range<u64>> {
    let wrong = || Error::damaged(format!("the entry `{}` is misplaced", shown(&entry.name)));
    let room = |end: Option<u64>| end.filter(|&end| end <= limit).ok_or_else(wrong);
    let header_end = room(entry.header.checked_add(LOCAL_BYTES))?;
    let header = read_at(input, entry.header, LOCAL_BYTES)?;
    if !header.starts_with(b"PK\x03\x04") || u16_at(&header, 8) != 0 {
        return Err(wrong());
    }
    let (name_bytes, extra_bytes) = (u16_at(&header, 26), u16_at(&header, 28));
    room(header_end.checked_add(name_bytes))?;
    if read_at(input, header_end, name_bytes)? != entry.name.as_bytes() {
        return Err(wrong());
    }
    let start = room(header_end.checked_add(name_bytes + extra_bytes))?;
    let end = room(start.checked_add(entry.bytes))?;
    Ok(start..end)
}
