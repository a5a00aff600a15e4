//! Adapters: small files that change the weights of a model, such as LoRA.
//!
//! A file is read once into [`Adapter`]. Names differ by tool, so every layer of a model is looked up under all the
//! names it is known by ([`layers`]); what is found becomes [`Patches`], which the weight reader applies to each
//! tensor in f32 before it is converted to the type to compute in.

mod delta;
mod groups;
pub(crate) mod layers;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::checkpoint::{CheckpointHeader, ClipConfig, UnetConfig, WeightFile};
use crate::error::{Error, Result};
use delta::Delta;
use layers::Layer;

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

/// Changes to the tensors of one model part, by full key in its checkpoint.
#[derive(Debug, Clone, Default)]
pub struct Patches {
    by_key: HashMap<String, Vec<Patch>>,
}

#[derive(Debug, Clone)]
struct Patch {
    adapter: Arc<Adapter>,
    /// Name of the layer in the adapter file.
    name: String,
    /// Which of three layers stored below each other it changes.
    third: Option<usize>,
    strength: f64,
}

impl Patches {
    /// Finds what `adapters` change in a diffusion model.
    ///
    /// # Errors
    /// If one of them has layers for diffusion models, none of which this model has.
    pub fn for_unet(config: &UnetConfig, adapters: &[UsedAdapter]) -> Result<Self> {
        Self::find(&layers::unet(config), adapters, "diffusion model", layers::is_unet_name)
    }

    /// Finds what `adapters` change in the text encoders of a model.
    ///
    /// # Errors
    /// If one of them has layers for text encoders, none of which is here.
    pub fn for_text(configs: &[ClipConfig], adapters: &[UsedAdapter]) -> Result<Self> {
        Self::find(&layers::text(configs), adapters, "text encoder", layers::is_text_name)
    }

    fn find(
        layers: &[Layer],
        adapters: &[UsedAdapter],
        part: &'static str,
        meant_for_part: fn(&str) -> bool,
    ) -> Result<Self> {
        let mut by_key: HashMap<String, Vec<Patch>> = HashMap::new();
        for UsedAdapter { adapter, strength } in adapters {
            let mut fitting = 0;
            for layer in layers {
                let Some(name) = layer.names.iter().find(|name| adapter.deltas.contains_key(*name)) else {
                    continue;
                };
                fitting += 1;
                by_key.entry(layer.key.clone()).or_default().push(Patch {
                    adapter: Arc::clone(adapter),
                    name: name.clone(),
                    third: layer.third,
                    strength: *strength,
                });
            }
            let meant: Vec<_> = adapter.deltas.keys().filter(|name| meant_for_part(name)).collect();
            if fitting == 0 && !meant.is_empty() {
                return Err(Error::Unsupported {
                    path: adapter.path.clone(),
                    part: "adapter",
                    reason: format!(
                        "none of its {} layers, such as `{}`, is in this {part}",
                        meant.len(),
                        meant[0]
                    ),
                });
            }
            if fitting < meant.len() {
                let (path, left_out) = (adapter.path.display(), meant.len() - fitting);
                tracing::warn!(adapter = %path, part, fitting, left_out, "some layers of an adapter fit no layer of the model");
            }
        }
        Ok(Self { by_key })
    }

    /// Applies everything known for the tensor `key` to its f32 values, in the order the adapters were given.
    ///
    /// `key` is the full key of a weight or a bias.
    ///
    /// # Errors
    /// If an adapter's shapes do not fit the tensor.
    pub(crate) fn apply(&self, key: &str, values: Vec<f32>, shape: &[usize]) -> Result<Vec<f32>> {
        // OpenCLIP writes `attn.in_proj_weight`, everybody else `layer.weight`.
        let Some((layer, kind)) = key.rsplit_once(['.', '_']) else { return Ok(values) };
        let is_bias = match kind {
            "weight" => false,
            "bias" => true,
            _ => return Ok(values),
        };
        let Some(patches) = self.by_key.get(layer) else { return Ok(values) };
        let mut tensor = Tensor::from_vec(values, shape, &Device::Cpu)?;
        for Patch { adapter, name, third, strength } in patches {
            let delta = &adapter.deltas[name];
            let change = |tensor: &Tensor| {
                if is_bias { delta.apply_to_bias(tensor, *strength) } else { delta.apply(tensor, *strength) }
            };
            let changed = match third {
                None => change(&tensor),
                Some(third) => change_third(&tensor, *third, change),
            };
            tensor = changed.map_err(|error| Error::Unsupported {
                path: adapter.path.clone(),
                part: "adapter",
                reason: format!("layer `{name}` does not fit `{key}` of shape {shape:?}: {error}"),
            })?;
        }
        Ok(tensor.flatten_all()?.to_vec1()?)
    }
}

/// Changes the first, second or last third of the rows.
fn change_third(
    tensor: &Tensor,
    third: usize,
    change: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
) -> candle_core::Result<Tensor> {
    let mut thirds = tensor.chunk(3, 0)?;
    thirds[third] = change(&thirds[third].contiguous()?)?;
    Tensor::cat(&thirds, 0)
}
