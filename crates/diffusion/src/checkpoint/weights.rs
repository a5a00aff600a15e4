//! Loads tensors out of a checked weight file, converting them to the compute type on the way.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::{DType, Device, Shape, Tensor};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;

use super::float8::Float8;
use super::header::{CheckpointHeader, TensorInfo};
use crate::changes::Patches;
use crate::error::{Error, Result};

/// Elements converted at a time by one thread: small enough to stay in cache, large enough for the disk.
const CHUNK: usize = 1 << 18;

/// An open weight file whose header has been checked.
///
/// Data is read at explicit positions instead of through a memory map: a file that shrinks while it is being
/// loaded then gives an error instead of killing the process, and no unsafe code is needed.
#[derive(Debug)]
pub struct WeightFile {
    path: PathBuf,
    file: File,
    header: CheckpointHeader,
}

impl WeightFile {
    /// Opens `path` and checks its header.
    ///
    /// # Errors
    /// As [`CheckpointHeader::read`].
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|source| Error::Io { path: path.into(), source })?;
        let header = CheckpointHeader::read_from(&file, path)?;
        Ok(Self { path: path.into(), file, header })
    }

    pub fn header(&self) -> &CheckpointHeader {
        &self.header
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        read_exact_at(&self.file, buffer, offset)
            .map_err(|source| Error::Io { path: self.path.clone(), source })
    }

    /// Reads one tensor as f32 values.
    pub(crate) fn read_f32(&self, key: &str, info: &TensorInfo) -> Result<Vec<f32>> {
        let count = info.shape.iter().product::<usize>();
        let mut values = vec![0f32; count];
        let width = info.dtype.bitsize() as u64 / 8;
        let convert = |(index, out): (usize, &mut [f32])| {
            let offset = info.offset + (index * CHUNK) as u64 * width;
            match info.dtype {
                Dtype::F32 => {
                    self.read_at(bytemuck::cast_slice_mut(out), offset)?;
                    if cfg!(target_endian = "big") {
                        out.iter_mut()
                            .for_each(|value| *value = f32::from_bits(value.to_bits().swap_bytes()));
                    }
                }
                Dtype::F16 => {
                    let mut stored = vec![f16::ZERO; out.len()];
                    self.read_at(bytemuck::cast_slice_mut(&mut stored), offset)?;
                    stored
                        .iter_mut()
                        .for_each(|value| *value = f16::from_bits(u16::from_le(value.to_bits())));
                    stored.convert_to_f32_slice(out);
                }
                Dtype::BF16 => {
                    let mut stored = vec![bf16::ZERO; out.len()];
                    self.read_at(bytemuck::cast_slice_mut(&mut stored), offset)?;
                    stored
                        .iter_mut()
                        .for_each(|value| *value = bf16::from_bits(u16::from_le(value.to_bits())));
                    stored.convert_to_f32_slice(out);
                }
                Dtype::F64 => {
                    let mut stored = vec![0u64; out.len()];
                    self.read_at(bytemuck::cast_slice_mut(&mut stored), offset)?;
                    for (value, bits) in out.iter_mut().zip(stored) {
                        *value = f64::from_bits(u64::from_le(bits)) as f32;
                    }
                }
                Dtype::F8_E4M3 => self.read_float8(Float8::E4m3, out, offset)?,
                Dtype::F8_E5M2 => self.read_float8(Float8::E5m2, out, offset)?,
                other => {
                    return Err(Error::TensorType { key: key.into(), found: other.to_string() });
                }
            }
            Ok(())
        };
        values.par_chunks_mut(CHUNK).enumerate().try_for_each(convert)?;
        Ok(values)
    }

    /// Reads a tensor as f32 values, scaled by the factor that belongs to it, rounded to a format and then changed.
    /// `None` if the file does not have it.
    pub(crate) fn read_changed(
        &self,
        key: &str,
        stored_as: Option<Float8>,
        patches: &Patches,
    ) -> Result<Option<(Vec<f32>, Vec<usize>)>> {
        let Some(info) = self.header.get(key) else { return Ok(None) };
        let mut values = self.read_f32(key, info)?;
        if let Some(scale) = self.scale(key)? {
            values.par_iter_mut().for_each(|value| *value *= scale);
        }
        if let Some(format) = stored_as {
            values.par_iter_mut().for_each(|value| *value = format.round(*value));
        }
        Ok(Some((patches.apply(key, values, &info.shape)?, info.shape.clone())))
    }

    fn read_float8(&self, format: Float8, out: &mut [f32], offset: u64) -> Result<()> {
        let mut stored = vec![0u8; out.len()];
        self.read_at(&mut stored, offset)?;
        let table = format.table();
        for (value, byte) in out.iter_mut().zip(stored) {
            *value = table[usize::from(byte)];
        }
        Ok(())
    }

    /// The factor that belongs to a weight stored in 8 bits, if the file has one.
    fn scale(&self, key: &str) -> Result<Option<f32>> {
        let Some(layer) = key.strip_suffix(".weight") else { return Ok(None) };
        let key = format!("{layer}.scale_weight");
        let Some(info) = self.header.get(&key) else { return Ok(None) };
        if info.shape.iter().product::<usize>() != 1 {
            return Err(Error::TensorShape { key, expected: vec![1], found: info.shape.clone() });
        }
        Ok(self.read_f32(&key, info)?.first().copied())
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    while !buffer.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, buffer, offset)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        buffer = &mut buffer[read..];
        offset += read as u64;
    }
    Ok(())
}

/// Where loaded weights go, and what is changed about them on the way.
#[derive(Debug, Clone)]
pub struct Target {
    /// The device to compute on.
    pub device: Device,
    /// The type to compute in.
    pub dtype: DType,
    pub patches: Patches,
}

/// Counts what a loader has put into memory.
#[derive(Debug, Default)]
pub struct LoadCounter(AtomicU64);

impl LoadCounter {
    /// Bytes of all tensors loaded so far, as they are kept.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A view of a weight file below one key prefix.
#[derive(Clone)]
pub struct Weights<'a> {
    file: &'a WeightFile,
    target: &'a Target,
    counter: &'a LoadCounter,
    prefix: String,
    stored_as: Option<Float8>,
    base: Option<Base<'a>>,
}

/// Other weights that those of a file are a change of.
#[derive(Clone)]
struct Base<'a> {
    weights: &'a Weights<'a>,
    /// Length of the prefix that the base's names lack.
    cut: usize,
    join: Join,
}

/// How weights and those they are based on make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Join {
    /// By adding up, where both have a tensor.
    Sum,
    /// Tensors that the file lacks are the base's, plus the product of `up` and `down` where the file has these.
    LowRank,
}

impl<'a> Weights<'a> {
    /// Starts at `prefix`, which is either empty or ends in a dot.
    pub fn new(file: &'a WeightFile, target: &'a Target, counter: &'a LoadCounter, prefix: &str) -> Self {
        Self { file, target, counter, prefix: prefix.into(), stored_as: None, base: None }
    }

    /// Rounds every weight as a file of that format would hold it.
    pub fn stored_as(self, format: Option<Float8>) -> Self {
        Self { stored_as: format, ..self }
    }

    /// Takes the file's weights as changes of others, which stand at their own prefix.
    pub(crate) fn over(self, weights: &'a Weights<'a>, join: Join) -> Self {
        let base = Base { weights, cut: self.prefix.len(), join };
        Self { base: Some(base), ..self }
    }

    /// Bytes loaded so far through this view and the others of the same loader.
    pub fn loaded_bytes(&self) -> u64 {
        self.counter.bytes()
    }

    /// Notes that what was counted as `before` bytes is kept in `after` bytes.
    pub(crate) fn repacked(&self, before: usize, after: usize) {
        self.counter.0.fetch_add(after as u64, Ordering::Relaxed);
        self.counter.0.fetch_sub(before as u64, Ordering::Relaxed);
    }

    /// Steps into a named part.
    pub fn part(&self, name: impl std::fmt::Display) -> Self {
        Self { prefix: format!("{}{name}.", self.prefix), ..self.clone() }
    }

    /// Steps below a prefix as it is: either empty or ending in a dot.
    pub fn below(&self, prefix: &str) -> Self {
        Self { prefix: format!("{}{prefix}", self.prefix), ..self.clone() }
    }

    /// True if the file has `name` below this prefix.
    pub fn has(&self, name: &str) -> bool {
        self.file.header.contains(&format!("{}{name}", self.prefix))
    }

    /// Loads a tensor whose shape is known.
    ///
    /// # Errors
    /// If it is missing, of another shape, of a type that holds no weights, or cannot be read.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let values = self.values(&format!("{}{name}", self.prefix), shape)?;
        let tensor = Tensor::from_vec(values, Shape::from(shape), &Device::Cpu)?
            .to_dtype(self.target.dtype)?
            .to_device(&self.target.device)?;
        let bytes = tensor.elem_count() * tensor.dtype().size_in_bytes();
        self.counter.0.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(tensor)
    }

    /// Reads the values of a tensor by its whole key, joined with those they are based on.
    fn values(&self, key: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let Some(Base { weights, cut, join }) = &self.base else { return self.own_values(key, shape) };
        let in_base = format!("{}{}", weights.prefix, &key[*cut..]);
        let add = |mut values: Vec<f32>, more: &[f32]| {
            values.par_iter_mut().zip(more).for_each(|(value, more)| *value += more);
            values
        };
        match join {
            Join::Sum if weights.file.header.contains(&in_base) => {
                Ok(add(self.own_values(key, shape)?, &weights.values(&in_base, shape)?))
            }
            Join::LowRank if !self.file.header.contains(key) => {
                let values = weights.values(&in_base, shape)?;
                Ok(match self.product(key, shape)? {
                    Some(product) => add(values, &product),
                    None => values,
                })
            }
            Join::Sum | Join::LowRank => self.own_values(key, shape),
        }
    }

    /// Multiplies the two factors of a change to a weight, if the file has them.
    fn product(&self, key: &str, shape: &[usize]) -> Result<Option<Vec<f32>>> {
        let Some(layer) = key.strip_suffix(".weight") else { return Ok(None) };
        let factor = |name: &str| {
            let key = format!("{layer}.{name}");
            let Some(info) = self.file.header.get(&key) else { return Ok(None) };
            if info.shape.len() < 2 || info.shape.contains(&0) {
                return Err(Error::TensorShape { key, expected: shape.into(), found: info.shape.clone() });
            }
            let values =
                Tensor::from_vec(self.file.read_f32(&key, info)?, info.shape.as_slice(), &Device::Cpu)?;
            Ok(Some(values.flatten_from(1)?))
        };
        let (Some(up), Some(down)) = (factor("up")?, factor("down")?) else { return Ok(None) };
        let expected = [shape[0], shape[1..].iter().product()];
        if [up.dim(0)?, down.dim(1)?] != expected || up.dim(1)? != down.dim(0)? {
            let found = [up.dims(), down.dims()].concat();
            return Err(Error::TensorShape { key: format!("{layer}.up"), expected: expected.into(), found });
        }
        Ok(Some(up.matmul(&down)?.flatten_all()?.to_vec1()?))
    }

    fn own_values(&self, key: &str, shape: &[usize]) -> Result<Vec<f32>> {
        if let Some(info) = self.file.header.get(key)
            && info.shape != shape
        {
            let (key, expected, found) = (key.into(), shape.into(), info.shape.clone());
            return Err(Error::TensorShape { key, expected, found });
        }
        let read = self.file.read_changed(key, self.stored_as, &self.target.patches)?;
        read.map(|(values, _)| values).ok_or_else(|| Error::MissingTensor { key: key.into() })
    }
}
