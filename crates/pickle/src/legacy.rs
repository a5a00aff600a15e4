//! The format before PyTorch 1.6: five pickles, then the storages one after another.

use crate::error::{Error, Result};
use crate::machine;
use crate::source::Source;
use crate::value::{Arena, Value};
use crate::zip::read_at;
use std::collections::{BTreeMap, HashMap};
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::ops::Range;

const FORMAT_VERSION: i64 = 1001;

/// Reads the pickles and finds the storages.
///
/// # Errors
/// When the file is of another format, or does not hold the storages that it lists.
pub(crate) fn read<R: Read + Seek>(
    input: &mut R,
    file_bytes: u64,
    arena: &mut Arena,
) -> Result<(Value, BTreeMap<String, Range<u64>>)> {
    input.seek(SeekFrom::Start(0))?;
    let mut source = Source::new(BufReader::new(&mut *input));
    let not_pytorch = || Error::NotPytorch("it is neither a zip archive nor of the legacy format");
    match machine::run(&mut source, arena) {
        Ok(Value::Magic) => {}
        Ok(_) | Err(Error::Damaged(_)) => return Err(not_pytorch()),
        Err(other) => return Err(other),
    }
    if machine::run(&mut source, arena)? != Value::Int(FORMAT_VERSION) {
        return Err(Error::Unsupported(format!("its format version is not {FORMAT_VERSION}")));
    }
    let system = machine::run(&mut source, arena)?;
    if arena.get(system, "little_endian") == Some(Value::Bool(false)) {
        return Err(Error::Unsupported("it was written on a big-endian machine".into()));
    }
    let root = machine::run(&mut source, arena)?;
    let keys = machine::run(&mut source, arena)?;
    let storages_start = source.consumed();
    drop(source);
    let places = place_storages(input, file_bytes, arena, keys, storages_start)?;
    Ok((root, places))
}

fn place_storages<R: Read + Seek>(
    input: &mut R,
    file_bytes: u64,
    arena: &Arena,
    keys: Value,
    start: u64,
) -> Result<BTreeMap<String, Range<u64>>> {
    let mut widths = HashMap::new();
    for storage in arena.storages() {
        let width = storage.kind.map_or(1, |kind| kind.width());
        if *widths.entry(storage.key.as_str()).or_insert(width) != width {
            return Err(Error::damaged("one storage has two number formats"));
        }
    }
    let keys = arena.sequence(keys).ok_or_else(|| Error::damaged("the list of storages is no list"))?;
    let mut places = BTreeMap::new();
    let mut at = start;
    for &key in keys {
        let key = arena.text(key).ok_or_else(|| Error::damaged("a storage's name is no text"))?;
        let width =
            widths.get(key).ok_or_else(|| Error::damaged("a storage is listed that no tensor has"))?;
        let header_end = at.checked_add(8).filter(|&end| end <= file_bytes);
        let data = header_end.ok_or_else(|| Error::damaged("it ends before its storages do"))?;
        let elements = u64::from_le_bytes(read_at(input, at, 8)?.try_into().expect("eight bytes"));
        let end = elements.checked_mul(*width).and_then(|bytes| data.checked_add(bytes));
        let end = end.filter(|&end| end <= file_bytes);
        at = end.ok_or_else(|| Error::damaged("it ends before its storages do"))?;
        if places.insert(key.to_owned(), data..at).is_some() {
            return Err(Error::damaged("one storage is listed twice"));
        }
    }
    Ok(places)
}
