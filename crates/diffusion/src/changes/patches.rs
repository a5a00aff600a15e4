//! Changes of one model part, in the order they are made.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::AttentionFactors;
use super::merge::OpenMerge;
use crate::adapters::layers::Layer;
use crate::adapters::{AdapterLayer, UsedAdapter};
use crate::error::Result;

/// Changes to the tensors of one model part, made one after the other.
#[derive(Debug, Clone, Default)]
pub struct Patches {
    steps: Vec<Step>,
}

#[derive(Debug, Clone)]
enum Step {
    /// By the layer's full key in its checkpoint.
    Layers(HashMap<String, Vec<LayerChange>>),
    Merge(Arc<OpenMerge>),
}

/// A change to one layer, or to one of three layers stored below each other.
#[derive(Debug, Clone)]
struct LayerChange {
    third: Option<usize>,
    change: LayerChangeKind,
}

#[derive(Debug, Clone)]
enum LayerChangeKind {
    Adapter(AdapterLayer),
    Factor(f64),
}

impl Patches {
    pub(super) fn push_merge(&mut self, merge: OpenMerge) {
        self.steps.push(Step::Merge(Arc::new(merge)));
    }

    /// Adds what an adapter changes about `layers`, and returns of how many layers.
    pub(super) fn push_adapter(&mut self, layers: &[Layer], used: &UsedAdapter) -> usize {
        self.push_layers(layers, |layer| used.layer(&layer.names).map(LayerChangeKind::Adapter))
    }

    /// Adds the factors of attention layers, and returns of how many layers.
    pub(super) fn push_factors(&mut self, layers: &[Layer], factors: &AttentionFactors) -> usize {
        let factors = factors.by_name();
        self.push_layers(layers, |layer| {
            let fits = |end: &str| layer.names.iter().any(|name| name.ends_with(end));
            let factor = factors.iter().find(|(end, _)| fits(end))?.1;
            Some(LayerChangeKind::Factor(factor))
        })
    }

    fn push_layers(&mut self, layers: &[Layer], change: impl Fn(&Layer) -> Option<LayerChangeKind>) -> usize {
        let mut by_key: HashMap<String, Vec<LayerChange>> = HashMap::new();
        let mut count = 0;
        for layer in layers {
            let Some(change) = change(layer) else { continue };
            count += 1;
            by_key.entry(layer.key.clone()).or_default().push(LayerChange { third: layer.third, change });
        }
        if count > 0 {
            self.steps.push(Step::Layers(by_key));
        }
        count
    }

    /// Makes all changes to the tensor `key`, given by its f32 values.
    ///
    /// # Errors
    /// If an adapter's shapes do not fit the tensor, or another file cannot be read.
    pub(crate) fn apply(&self, key: &str, mut values: Vec<f32>, shape: &[usize]) -> Result<Vec<f32>> {
        for step in &self.steps {
            values = match step {
                Step::Merge(merge) => merge.apply(key, values, shape)?,
                Step::Layers(by_key) => change_layer(by_key, key, values, shape)?,
            };
        }
        Ok(values)
    }
}

fn change_layer(
    by_key: &HashMap<String, Vec<LayerChange>>,
    key: &str,
    values: Vec<f32>,
    shape: &[usize],
) -> Result<Vec<f32>> {
    // OpenCLIP writes `attn.in_proj_weight`, everybody else `layer.weight`.
    let Some((layer, kind)) = key.rsplit_once(['.', '_']) else { return Ok(values) };
    let is_bias = match kind {
        "weight" => false,
        "bias" => true,
        _ => return Ok(values),
    };
    let Some(changes) = by_key.get(layer) else { return Ok(values) };
    let mut tensor = Tensor::from_vec(values, shape, &Device::Cpu)?;
    for LayerChange { third, change } in changes {
        let changed = |tensor: &Tensor| match change {
            LayerChangeKind::Adapter(layer) => layer.apply(tensor, is_bias),
            LayerChangeKind::Factor(factor) => tensor * *factor,
        };
        let changed = match third {
            None => changed(&tensor),
            Some(third) => change_third(&tensor, *third, changed),
        };
        tensor = changed.map_err(|error| match change {
            LayerChangeKind::Adapter(layer) => layer.refused(key, shape, &error),
            LayerChangeKind::Factor(_) => error.into(),
        })?;
    }
    Ok(tensor.flatten_all()?.to_vec1()?)
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
