//! Reads and checks a safetensors header without touching the tensor data.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use safetensors::Dtype;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::names;
use crate::error::{Error, Result};

/// Longest header that is read, the limit of the format's own reference reader is the same.
const MAX_HEADER_BYTES: u64 = 100 << 20;
/// More tensors than any published model by a factor of ten; bounds memory spent on a hostile header.
const MAX_TENSORS: usize = 100_000;
const MAX_RANK: usize = 8;

/// The table of contents of a weight file: names, shapes and types, but no weights.
#[derive(Debug, Clone)]
pub struct CheckpointHeader {
    tensors: BTreeMap<String, TensorInfo>,
    metadata: BTreeMap<String, String>,
    file_bytes: u64,
}

/// Where and how one tensor is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    /// Absolute position in the file.
    pub offset: u64,
    pub bytes: u64,
}

/// Why a file was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderProblem {
    #[error("the file has {bytes} bytes, too few for a header")]
    TooShort { bytes: u64 },
    #[error("it looks like a PyTorch pickle archive, save it as safetensors first")]
    Pickle,
    #[error("the header claims {declared} bytes, the limit is {MAX_HEADER_BYTES}")]
    HeaderTooLong { declared: u64 },
    #[error("the header claims {declared} bytes, but the file has only {available} left")]
    HeaderPastEnd { declared: u64, available: u64 },
    #[error("the header is not UTF-8")]
    NotUtf8,
    #[error("the header cannot be parsed: {0}")]
    Json(String),
    #[error("tensor `{key}` has more elements than can be counted")]
    TooManyElements { key: String },
    #[error("tensor `{key}` spans {found} bytes, its shape and type need {expected}")]
    WrongSize { key: String, expected: u64, found: u64 },
    #[error("tensor `{key}` starts at {found}, expected {expected}: tensors overlap or leave a hole")]
    NotContiguous { key: String, expected: u64, found: u64 },
    #[error("the tensors need {expected} bytes, but the file has {found}: it is truncated or has extra data")]
    DataSize { expected: u64, found: u64 },
}

impl CheckpointHeader {
    /// Reads the header of `path`; no tensor data is read. Names of known other layouts are given as those of the
    /// single-file layout.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Malformed`] if any size or offset in it cannot be true.
    pub fn read(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|source| Error::Io { path: path.into(), source })?;
        Self::read_from(&file, path)
    }

    pub(crate) fn read_from(mut file: &File, path: &Path) -> Result<Self> {
        let io = |source| Error::Io { path: path.into(), source };
        let malformed = |problem| Error::Malformed { path: path.into(), problem };
        let file_bytes = file.metadata().map_err(io)?.len();
        if file_bytes < 8 {
            return Err(malformed(HeaderProblem::TooShort { bytes: file_bytes }));
        }
        let mut prefix = [0u8; 8];
        file.read_exact(&mut prefix).map_err(io)?;
        let length = header_length(prefix, file_bytes).map_err(malformed)?;
        let mut text = vec![0u8; usize::try_from(length).expect("the length is below 100 MiB")];
        file.read_exact(&mut text).map_err(io)?;
        Self::parse(&text, file_bytes).map_err(malformed)
    }

    fn parse(text: &[u8], file_bytes: u64) -> Result<Self, HeaderProblem> {
        let text = std::str::from_utf8(text).map_err(|_| HeaderProblem::NotUtf8)?;
        let raw: RawHeader =
            serde_json::from_str(text).map_err(|error| HeaderProblem::Json(error.to_string()))?;
        let data_start = 8 + text.len() as u64;
        check_layout(&raw.tensors, file_bytes - data_start)?;
        let place = |(name, raw): (String, RawTensor)| {
            let [start, end] = raw.data_offsets;
            let info = TensorInfo {
                dtype: raw.dtype,
                shape: raw.shape.0,
                offset: data_start + start,
                bytes: end - start,
            };
            (name, info)
        };
        let tensors = names::to_single_file(raw.tensors.into_iter().map(place).collect());
        Ok(Self { tensors, metadata: raw.metadata, file_bytes })
    }

    /// The tensor's entry, if the file has it.
    pub fn get(&self, key: &str) -> Option<&TensorInfo> {
        self.tensors.get(key)
    }

    /// The tensor's shape, if the file has it.
    pub fn shape(&self, key: &str) -> Option<&[usize]> {
        self.tensors.get(key).map(|info| info.shape.as_slice())
    }

    /// True if the file has a tensor of that name.
    pub fn contains(&self, key: &str) -> bool {
        self.tensors.contains_key(key)
    }

    /// Names in sorted order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Entries in order of their names.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.tensors.iter().map(|(name, info)| (name.as_str(), info))
    }

    /// The free-form `__metadata__` of the file.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Size of the whole file.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }
}

fn header_length(prefix: [u8; 8], file_bytes: u64) -> Result<u64, HeaderProblem> {
    if prefix.starts_with(b"PK\x03\x04") || prefix.starts_with(&[0x80, 0x02]) {
        return Err(HeaderProblem::Pickle);
    }
    let declared = u64::from_le_bytes(prefix);
    let available = file_bytes - 8;
    if declared > MAX_HEADER_BYTES {
        return Err(HeaderProblem::HeaderTooLong { declared });
    }
    if declared > available {
        return Err(HeaderProblem::HeaderPastEnd { declared, available });
    }
    Ok(declared)
}

/// Checks that the tensors tile the data section exactly, as the format demands.
fn check_layout(tensors: &BTreeMap<String, RawTensor>, data_bytes: u64) -> Result<(), HeaderProblem> {
    let mut by_offset: Vec<_> = tensors.iter().collect();
    by_offset.sort_by_key(|(_, tensor)| tensor.data_offsets);
    let mut expected = 0;
    for (key, tensor) in by_offset {
        let [start, end] = tensor.data_offsets;
        if start != expected || end < start {
            return Err(HeaderProblem::NotContiguous { key: key.clone(), expected, found: start });
        }
        let size = stored_bytes(tensor).ok_or_else(|| HeaderProblem::TooManyElements { key: key.clone() })?;
        if end - start != size {
            return Err(HeaderProblem::WrongSize { key: key.clone(), expected: size, found: end - start });
        }
        expected = end;
    }
    if expected != data_bytes {
        return Err(HeaderProblem::DataSize { expected, found: data_bytes });
    }
    Ok(())
}

fn stored_bytes(tensor: &RawTensor) -> Option<u64> {
    let elements = tensor.shape.0.iter().try_fold(1u64, |n, &dim| n.checked_mul(u64::try_from(dim).ok()?))?;
    let bits = elements.checked_mul(tensor.dtype.bitsize() as u64)?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

struct RawHeader {
    tensors: BTreeMap<String, RawTensor>,
    metadata: BTreeMap<String, String>,
}

#[derive(serde::Deserialize)]
struct RawTensor {
    dtype: Dtype,
    shape: RawShape,
    data_offsets: [u64; 2],
}

struct RawShape(Vec<usize>);

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = RawHeader;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a map of tensor descriptions")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
        let mut tensors = BTreeMap::new();
        let mut metadata = None;
        while let Some(key) = map.next_key::<String>()? {
            let repeated = if key == "__metadata__" {
                metadata.replace(map.next_value()?).is_some()
            } else {
                tensors.insert(key.clone(), map.next_value()?).is_some()
            };
            if repeated {
                return Err(A::Error::custom(format!("key `{key}` appears twice")));
            }
            if tensors.len() > MAX_TENSORS {
                return Err(A::Error::custom(format!("more than {MAX_TENSORS} tensors")));
            }
        }
        Ok(RawHeader { tensors, metadata: metadata.unwrap_or_default() })
    }
}

impl<'de> Deserialize<'de> for RawShape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = RawShape;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "at most {MAX_RANK} dimensions")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawShape, A::Error> {
        let mut dims = Vec::with_capacity(MAX_RANK);
        while let Some(dim) = seq.next_element()? {
            if dims.len() == MAX_RANK {
                return Err(A::Error::invalid_length(MAX_RANK + 1, &self));
            }
            dims.push(dim);
        }
        Ok(RawShape(dims))
    }
}
