//! The table of tensors of a PyTorch file.

use crate::error::{Error, Result, check_limit};
use crate::kind::Kind;
use crate::limits::{
    MAX_LISTED_ITEMS, MAX_NAME_BYTES, MAX_NAME_LEVELS, MAX_PICKLE_BYTES, MAX_PLAIN_BYTES, MAX_PLAIN_VALUES,
    MAX_TENSORS, MAX_VISITS,
};
use crate::source::Source;
use crate::value::{Arena, Tensor, Value};
use crate::zip::{self, read_at};
use crate::{legacy, machine};
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

/// The two formats of PyTorch files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    Zip,
    Legacy,
}

/// Where and how one tensor is stored. Every element lies within `storage`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorEntry {
    pub kind: Kind,
    pub shape: Vec<u64>,
    /// Steps between neighbours along each dimension, in elements.
    pub strides: Vec<u64>,
    /// The first element, counted from the beginning of the storage.
    pub offset: u64,
    /// Bytes of the file that hold the storage, perhaps together with other tensors.
    pub storage: Range<u64>,
}

impl TensorEntry {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Bytes without gaps or repetition.
    pub fn bytes(&self) -> u64 {
        self.elements() * self.kind.width()
    }
}

/// What a PyTorch file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PickleIndex {
    pub container: Container,
    pub tensors: BTreeMap<String, TensorEntry>,
    /// Texts, numbers and switches that the outermost dictionary names beside its tensors.
    pub metadata: BTreeMap<String, String>,
}

impl PickleIndex {
    /// Reads the table of a file; no weights are read.
    ///
    /// The outermost dictionary is unwrapped as loaders do it: its `state_dict` if it has one, its only value if
    /// that is a dictionary. Dictionaries, tuples and lists within it are listed with dots between the names. What is
    /// no tensor is left out, except for plain values of the outermost dictionary.
    ///
    /// # Errors
    /// When the file is of another format, damaged, or refers to anything but tensors.
    pub fn open(path: &Path) -> Result<Self> {
        Self::read(&mut std::fs::File::open(path)?)
    }

    /// As [`PickleIndex::open`], from any source.
    pub fn read<R: Read + Seek>(input: &mut R) -> Result<Self> {
        let file_bytes = input.seek(SeekFrom::End(0))?;
        let head = read_at(input, 0, file_bytes.min(512))?;
        let mut arena = Arena::default();
        let (container, root, places) = if head.starts_with(b"PK\x03\x04") {
            let (root, places) = read_zip(input, file_bytes, &mut arena)?;
            (Container::Zip, root, places)
        } else if head.get(257..262) == Some(b"ustar") {
            return Err(Error::Unsupported("it is of the tar format that PyTorch wrote before 2017".into()));
        } else if head.is_empty() {
            return Err(Error::NotPytorch("it is empty"));
        } else {
            let (root, places) = legacy::read(input, file_bytes, &mut arena)?;
            (Container::Legacy, root, places)
        };
        let mut tensors = BTreeMap::new();
        let named = unwrap(&arena, root)?;
        for (name, id) in collect(&arena, named)? {
            let entry = place(&arena, arena.tensor(id), &places)
                .map_err(|problem| Error::Tensor { name: shown(&name), problem })?;
            tensors.insert(name, entry);
        }
        Ok(Self { container, tensors, metadata: plain_values(&arena, named) })
    }
}

fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(200).collect()
}

fn read_zip<R: Read + Seek>(
    input: &mut R,
    file_bytes: u64,
    arena: &mut Arena,
) -> Result<(Value, BTreeMap<String, Range<u64>>)> {
    let entries = zip::read(input, file_bytes)?;
    let mut pickles = entries.keys().filter_map(|name| name.strip_suffix("data.pkl"));
    let folder = pickles.find(|folder| folder.ends_with('/') && folder.matches('/').count() == 1);
    let folder = folder.ok_or(Error::NotPytorch("the archive has no `data.pkl`"))?;
    if let Some(order) = entries.get(&format!("{folder}byteorder"))
        && (order.end - order.start > 16
            || read_at(input, order.start, order.end - order.start)? != b"little")
    {
        return Err(Error::Unsupported("it was not written on a little-endian machine".into()));
    }
    let pickle = &entries[&format!("{folder}data.pkl")];
    let bytes = pickle.end - pickle.start;
    check_limit("bytes of names and shapes", bytes, MAX_PICKLE_BYTES)?;
    let pickle = read_at(input, pickle.start, bytes)?;
    let root = machine::run(&mut Source::new(&pickle[..]), arena)?;
    let prefix = format!("{folder}data/");
    let storages = entries.iter().filter_map(|(name, place)| {
        let key = name.strip_prefix(&prefix)?;
        (!key.is_empty()).then(|| (key.to_owned(), place.clone()))
    });
    Ok((root, storages.collect()))
}

/// The dictionary that names the tensors.
fn unwrap(arena: &Arena, root: Value) -> Result<Value> {
    let no_dict = |what: &str| Error::Unsupported(format!("{what} is not a dictionary of tensors"));
    let pairs = arena.dict(root).ok_or_else(|| no_dict("what it holds"))?;
    if let Some(inner) = arena.get(root, "state_dict") {
        return if arena.dict(inner).is_some() { Ok(inner) } else { Err(no_dict("its `state_dict`")) };
    }
    match *pairs {
        [(_, only)] if arena.dict(only).is_some() => Ok(only),
        _ => Ok(root),
    }
}

/// The plain values of a dictionary, as safetensors files carry them; those beyond a sensible number or length are
/// left out.
fn plain_values(arena: &Arena, dict: Value) -> BTreeMap<String, String> {
    let text = |value| match value {
        Value::Bool(value) => Some(value.to_string()),
        Value::Int(value) => Some(value.to_string()),
        Value::Text(_) => arena.text(value).map(str::to_owned),
        _ => None,
    };
    let pairs = arena.dict(dict).unwrap_or_default().iter();
    let plain = pairs.filter_map(|(key, value)| Some((arena.text(*key)?.to_owned(), text(*value)?)));
    plain
        .filter(|(key, value)| key != "format" && key.len().max(value.len()) <= MAX_PLAIN_BYTES)
        .take(MAX_PLAIN_VALUES)
        .collect()
}

/// The names and values of a container, or nothing for other values.
fn items(arena: &Arena, container: Value) -> Vec<(String, Value)> {
    if let Some(items) = arena.sequence(container).filter(|items| items.len() <= MAX_LISTED_ITEMS) {
        return items.iter().enumerate().map(|(i, value)| (i.to_string(), *value)).collect();
    }
    let name = |key| match key {
        // Hypernetworks are listed by the width of what they change.
        Value::Int(number) => Some(number.to_string()),
        _ => arena.text(key).map(str::to_owned),
    };
    let pairs = arena.dict(container).unwrap_or_default().iter();
    pairs.filter_map(|(key, value)| Some((name(*key)?, *value))).collect()
}

/// Lists the tensors of a dictionary and of those within it.
fn collect(arena: &Arena, root: Value) -> Result<BTreeMap<String, usize>> {
    let mut found = BTreeMap::new();
    let mut visits = 0u64;
    let mut waiting = vec![(String::new(), root, 0)];
    while let Some((prefix, container, level)) = waiting.pop() {
        let entries = items(arena, container);
        visits += entries.len() as u64;
        check_limit("dictionary entries", visits, MAX_VISITS as u64)?;
        for (key, value) in entries {
            check_limit("bytes in a name", (prefix.len() + key.len()) as u64, MAX_NAME_BYTES as u64)?;
            match value {
                Value::Tensor(id) => {
                    found.insert(format!("{prefix}{key}"), id);
                    check_limit("tensors", found.len() as u64, MAX_TENSORS as u64)?;
                }
                Value::Dict(_) | Value::Sequence(_) if level < MAX_NAME_LEVELS => {
                    waiting.push((format!("{prefix}{key}."), value, level + 1));
                }
                _ => {}
            }
        }
    }
    if found.is_empty() {
        return Err(Error::Unsupported("it holds no tensors".into()));
    }
    found.remove("__metadata__");
    Ok(found)
}

/// Finds a tensor's storage in the file and checks that every element lies within it.
fn place(
    arena: &Arena,
    tensor: &Tensor,
    places: &BTreeMap<String, Range<u64>>,
) -> Result<TensorEntry, String> {
    let storage = arena.storage(tensor.storage);
    let width = storage.kind.map_or(1, Kind::width);
    let whole = places
        .get(&storage.key)
        .ok_or_else(|| format!("the file has no storage `{}`", shown(&storage.key)))?;
    let held = whole.end - whole.start;
    let bytes = storage.elements.checked_mul(width);
    let range = match storage.view_offset {
        None if bytes == Some(held) => Some(whole.clone()),
        None => None,
        Some(first) => (|| {
            let start = whole.start.checked_add(first.checked_mul(width)?)?;
            let end = start.checked_add(bytes?)?;
            (end <= whole.end).then_some(start..end)
        })(),
    };
    let range = range.ok_or_else(|| {
        format!("its storage should have {} elements, but the file has {held} bytes of it", storage.elements)
    })?;
    let available = (range.end - range.start) / tensor.kind.width();
    if !fits(tensor, available) {
        return Err(format!("it reaches beyond its storage of {available} elements"));
    }
    Ok(TensorEntry {
        kind: tensor.kind,
        shape: tensor.shape.clone(),
        strides: tensor.strides.clone(),
        offset: tensor.offset,
        storage: range,
    })
}

/// Whether the offset and every step stay within a storage, and the number of elements can be counted.
fn fits(tensor: &Tensor, available: u64) -> bool {
    let width = tensor.kind.width();
    let bytes = tensor.shape.iter().try_fold(width, |product, &size| product.checked_mul(size));
    if bytes.is_none() {
        return false;
    }
    if tensor.shape.contains(&0) {
        return tensor.offset <= available;
    }
    let mut steps = tensor.shape.iter().zip(&tensor.strides);
    let last = steps
        .try_fold(tensor.offset, |last, (&size, &stride)| last.checked_add((size - 1).checked_mul(stride)?));
    last.is_some_and(|last| last < available)
}
