//! Adapters: small files that change the weights of a model, such as LoRA.
//!
//! A file is read once into [`Adapter`]. Names differ by tool, so every layer of a model is looked up under all the
//! names it is known by ([`layers`]); what is found becomes [`crate::changes::Patches`], which the weight reader applies
//! to each tensor in f32 before it is converted to the type to compute in.

mod delta;
mod groups;
pub(crate) mod layers;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::Tensor;

use crate::checkpoint::{CheckpointHeader, WeightFile};
use crate::error::{Error, Result};
use delta::Delta;

/// Largest adapter file: it is read as a whole, and the biggest in use are about 2 GiB.
const MAX_BYTES: u64 = 8 << 30;

/// A LoRA, LoCon, LoHa, LoKr or full-difference file.
#[derive(Debug)]
pub struct Adapter {
    path: std::path::PathBuf,
    /// What to change, by the layer's name in the file.
    deltas: HashMap<String, Delta>,
}

impl Adapter {
    /// Reads a whole adapter file.
    ///
    /// # Errors
    /// If it is not a valid safetensors file, holds no adapter, or one of a kind that is not supported.
    pub fn open(path: &Path) -> Result<Self> {
        let file = WeightFile::open(path)?;
        let refused = |reason: String| Error::Unsupported { path: path.into(), part: "adapter", reason };
        let bytes: u64 = file.header().tensors().map(|(_, info)| info.bytes).sum();
        if bytes > MAX_BYTES {
            return Err(refused(format!("its {bytes} bytes are more than {MAX_BYTES}")));
        }
        let deltas = groups::read(&file).map_err(|error| match error {
            Error::InvalidArgument(reason) => refused(reason),
            other => other,
        })?;
        if deltas.is_empty() {
            return Err(refused("there is no adapter layer in it".into()));
        }
        Ok(Self { path: path.into(), deltas })
    }

    /// Whether a file's header looks like an adapter's.
    pub fn is_in(header: &CheckpointHeader) -> bool {
        header.keys().any(groups::is_part)
    }

    /// Returns `weight` as the layer `name` of this file changes it.
    ///
    /// # Shapes
    /// `weight`: `[out, in]` or `[out, in, kh, kw]`, f32; the result has the same.
    ///
    /// # Errors
    /// If there is no such layer or its shapes do not fit.
    ///
    /// # Source
    /// LoRA: arXiv 2106.09685; LoHa: 2108.06098; LoCon and LoKr: 2309.14859; DoRA: 2402.09353.
    pub fn apply(&self, name: &str, weight: &Tensor, strength: f64) -> Result<Tensor> {
        let delta = self.deltas.get(name);
        let delta = delta.ok_or_else(|| Error::InvalidArgument(format!("there is no layer `{name}`")))?;
        Ok(delta.apply(weight, strength)?)
    }
}

/// An adapter and how much of it to apply.
#[derive(Debug, Clone)]
pub struct UsedAdapter {
    pub adapter: Arc<Adapter>,
    pub strength: f64,
}

/// What an adapter changes about one layer.
#[derive(Debug, Clone)]
pub(crate) struct AdapterLayer {
    adapter: Arc<Adapter>,
    /// Name of the layer in the adapter file.
    name: String,
    strength: f64,
}

impl UsedAdapter {
    /// What it changes about a layer that is known by these names.
    pub(crate) fn layer(&self, names: &[String]) -> Option<AdapterLayer> {
        let name = names.iter().find(|name| self.adapter.deltas.contains_key(*name))?.clone();
        Some(AdapterLayer { adapter: Arc::clone(&self.adapter), name, strength: self.strength })
    }
}

impl AdapterLayer {
    /// Returns the changed weight or bias, given in f32.
    pub(crate) fn apply(&self, tensor: &Tensor, is_bias: bool) -> candle_core::Result<Tensor> {
        let delta = &self.adapter.deltas[&self.name];
        if is_bias { delta.apply_to_bias(tensor, self.strength) } else { delta.apply(tensor, self.strength) }
    }

    /// Says that the change does not fit a tensor.
    pub(crate) fn refused(&self, key: &str, shape: &[usize], error: &candle_core::Error) -> Error {
        Error::Unsupported {
            path: self.adapter.path.clone(),
            part: "adapter",
            reason: format!("layer `{}` does not fit `{key}` of shape {shape:?}: {error}", self.name),
        }
    }
}

/// Checks that an adapter changes something of the part that it has layers for; `fitting` is how many it changes.
///
/// # Errors
/// If it has layers for the part, none of which fits.
pub(crate) fn check_fit(
    UsedAdapter { adapter, .. }: &UsedAdapter,
    fitting: usize,
    part: &'static str,
    meant_for_part: fn(&str) -> bool,
) -> Result<()> {
    let meant: Vec<_> = adapter.deltas.keys().filter(|name| meant_for_part(name)).collect();
    if fitting == 0 && !meant.is_empty() {
        return Err(Error::Unsupported {
            path: adapter.path.clone(),
            part: "adapter",
            reason: format!("none of its {} layers, such as `{}`, is in this {part}", meant.len(), meant[0]),
        });
    }
    if fitting < meant.len() {
        let (path, left_out) = (adapter.path.display(), meant.len() - fitting);
        tracing::warn!(adapter = %path, part, fitting, left_out, "some layers of an adapter fit no layer of the model");
    }
    Ok(())
}
