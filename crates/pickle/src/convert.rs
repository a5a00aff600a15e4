//! Writes the tensors of a PyTorch file as safetensors.

use crate::error::{Error, Result, check_limit};
use crate::index::{PickleIndex, TensorEntry};
use crate::limits::{GROWTH_SLACK_BYTES, MAX_GROWTH, MAX_SPAN_BYTES};
use crate::zip::read_at;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Bytes copied at a time.
const BLOCK_BYTES: usize = 1 << 20;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Converted {
    pub tensors: usize,
    /// Size of the new file.
    pub bytes: u64,
}

/// The largest file that a conversion of `input_bytes` may give.
pub fn max_output_bytes(input_bytes: u64) -> u64 {
    input_bytes.saturating_mul(MAX_GROWTH).saturating_add(GROWTH_SLACK_BYTES)
}

/// Converts a file. The new file appears whole or not at all; until then it is called [`partial_path`].
///
/// # Errors
/// As [`PickleIndex::open`]; also when the tensors would take far more space than the input, or writing fails.
pub fn convert(input: &Path, output: &Path) -> Result<Converted> {
    let mut file = File::open(input)?;
    let index = PickleIndex::read(&mut file)?;
    let partial = partial_path(output);
    let written = write_whole(&mut file, &index, &partial);
    let moved = written.and_then(|done| std::fs::rename(&partial, output).map(|()| done).map_err(Error::Io));
    if moved.is_err() {
        // The first error is the one to report; a left-over is overwritten by the next attempt.
        let _ = std::fs::remove_file(&partial);
    }
    moved
}

/// Where this process writes a file before it gets its name: `OUTPUT.<process id>.partial`.
pub fn partial_path(output: &Path) -> PathBuf {
    let mut name = OsString::from(output.as_os_str());
    name.push(format!(".{}.partial", std::process::id()));
    name.into()
}

fn write_whole(input: &mut File, index: &PickleIndex, partial: &Path) -> Result<Converted> {
    let file = File::create(partial).map_err(Error::Io)?;
    let mut output = BufWriter::with_capacity(BLOCK_BYTES, file);
    let bytes = write_safetensors(input, index, &mut output)?;
    let file = output.into_inner().map_err(|error| Error::Io(error.into_error()))?;
    file.sync_all().map_err(Error::Io)?;
    Ok(Converted { tensors: index.tensors.len(), bytes })
}

/// Writes the tensors of `index`, which was read from `input`, as a safetensors file; returns its size.
///
/// # Errors
/// When the tensors would take far more space than the input, when one that is not contiguous spans too much of the
/// file, or when reading or writing fails.
pub fn write_safetensors<R: Read + Seek, W: Write>(
    input: &mut R,
    index: &PickleIndex,
    output: &mut W,
) -> Result<u64> {
    let input_bytes = input.seek(SeekFrom::End(0))?;
    let total = index.tensors.values().try_fold(0u64, |sum, tensor| sum.checked_add(tensor.bytes()));
    let limit = max_output_bytes(input_bytes);
    check_limit("bytes of tensors for its size", total.unwrap_or(u64::MAX), limit - GROWTH_SLACK_BYTES / 2)?;
    // Wide formats first, so that every tensor lies at a multiple of its width.
    let mut ordered: Vec<(&String, &TensorEntry)> = index.tensors.iter().collect();
    ordered.sort_by_key(|(_, tensor)| std::cmp::Reverse(tensor.kind.width()));
    let header = header(&ordered, &index.metadata);
    check_limit("bytes of names and shapes", header.len() as u64, GROWTH_SLACK_BYTES / 2)?;
    write(output, &(header.len() as u64).to_le_bytes())?;
    write(output, &header)?;
    for (name, tensor) in &ordered {
        write_tensor(input, tensor, output).map_err(|error| match error {
            Error::Limit { what, limit } => {
                Error::Tensor { name: (*name).clone(), problem: format!("more than {limit} {what}") }
            }
            other => other,
        })?;
    }
    Ok(8 + header.len() as u64 + total.unwrap_or(0))
}

fn header(tensors: &[(&String, &TensorEntry)], plain: &BTreeMap<String, String>) -> Vec<u8> {
    let mut json = Map::new();
    let format = [("format", "pt")].map(|(name, value)| (name.to_owned(), json!(value)));
    let metadata: Map<String, Value> =
        plain.iter().map(|(name, value)| (name.clone(), json!(value))).chain(format).collect();
    json.insert("__metadata__".into(), metadata.into());
    let mut at = 0;
    for (name, tensor) in tensors {
        let end = at + tensor.bytes();
        let entry = json!({"dtype": tensor.kind.name(), "shape": tensor.shape, "data_offsets": [at, end]});
        json.insert((*name).clone(), entry);
        at = end;
    }
    let mut text = Value::Object(json).to_string().into_bytes();
    // The data begins at a multiple of eight bytes.
    text.resize(text.len().next_multiple_of(8), b' ');
    text
}

fn write(output: &mut impl Write, bytes: &[u8]) -> Result<()> {
    // A short write is not an early end of the input.
    output.write_all(bytes).map_err(Error::Io)
}

fn write_tensor<R: Read + Seek, W: Write>(input: &mut R, tensor: &TensorEntry, output: &mut W) -> Result<()> {
    if tensor.elements() == 0 {
        return Ok(());
    }
    let width = tensor.kind.width();
    let start = tensor.storage.start + tensor.offset * width;
    // Dimensions of one element have no steps, whatever their stride.
    let steps: Vec<(u64, u64)> = tensor
        .shape
        .iter()
        .copied()
        .zip(tensor.strides.iter().copied())
        .filter(|&(size, _)| size > 1)
        .collect();
    if is_contiguous(&steps) {
        return copy(input, start, tensor.bytes(), output);
    }
    let span = steps.iter().map(|(size, stride)| (size - 1) * stride).sum::<u64>() + 1;
    check_limit("bytes between its first and last element", span * width, MAX_SPAN_BYTES)?;
    let span = read_at(input, start, span * width)?;
    gather(&span, width as usize, &steps, output)
}

fn is_contiguous(steps: &[(u64, u64)]) -> bool {
    let mut expected = 1;
    steps.iter().rev().all(|&(size, stride)| {
        let fits = stride == expected;
        expected *= size;
        fits
    })
}

fn copy<R: Read + Seek, W: Write>(input: &mut R, start: u64, bytes: u64, output: &mut W) -> Result<()> {
    input.seek(SeekFrom::Start(start))?;
    let mut block = vec![0; BLOCK_BYTES.min(usize::try_from(bytes).unwrap_or(BLOCK_BYTES))];
    let mut left = bytes;
    while left > 0 {
        let step = (block.len() as u64).min(left) as usize;
        input.read_exact(&mut block[..step])?;
        write(output, &block[..step])?;
        left -= step as u64;
    }
    Ok(())
}

/// Writes the elements in order of their indices; `steps` are sizes and strides, the slowest first.
fn gather(span: &[u8], width: usize, steps: &[(u64, u64)], output: &mut impl Write) -> Result<()> {
    let (&(inner_size, inner_stride), outer) = steps.split_last().expect("a single element is contiguous");
    let mut index = vec![0u64; outer.len()];
    let mut row = Vec::new();
    loop {
        let first = index.iter().zip(outer).map(|(i, (_, stride))| i * stride).sum::<u64>();
        row.clear();
        for i in 0..inner_size {
            let at = (first + i * inner_stride) as usize * width;
            row.extend_from_slice(&span[at..at + width]);
            if row.len() >= BLOCK_BYTES {
                write(output, &row)?;
                row.clear();
            }
        }
        write(output, &row)?;
        // Counts up like an odometer.
        let Some(turned) = (0..outer.len()).rev().find(|&d| index[d] + 1 < outer[d].0) else { return Ok(()) };
        index[turned] += 1;
        index[turned + 1..].fill(0);
    }
}
