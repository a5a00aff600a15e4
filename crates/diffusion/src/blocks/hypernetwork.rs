//! Small networks that change what attention looks at.

use std::path::Path;
use std::sync::Arc;

use candle_core::{D, DType, Device, Tensor};

use super::layers::{LayerNorm, Linear};
use crate::changes::Patches;
use crate::checkpoint::{CheckpointHeader, LoadCounter, Target, WeightFile, Weights};
use crate::error::{Error, Result};

/// Wider than any network's features.
const MAX_WIDTH: usize = 1 << 16;

/// A hypernetwork: for each width of what is looked at, a network for the keys and one for the values.
///
/// # Source
/// NovelAI 2022 ("hypernetworks"), files as the AUTOMATIC1111 web UI trains them; same values as ComfyUI
/// `HypernetworkLoader`.
#[derive(Debug)]
pub struct Hypernetwork {
    /// By width.
    pairs: Vec<(usize, [Vec<Layer>; 2])>,
    weight_bytes: u64,
}

/// A hypernetwork and how much of its change to apply.
#[derive(Debug, Clone)]
pub struct UsedHypernetwork {
    pub network: Arc<Hypernetwork>,
    pub strength: f64,
}

#[derive(Debug)]
enum Layer {
    Linear(Linear),
    Norm(LayerNorm),
    Activation(Activation),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Activation {
    Relu,
    LeakyRelu,
    Elu,
    HardSwish,
    Tanh,
    Sigmoid,
    Softsign,
    Mish,
}

const ACTIVATIONS: [(&str, Option<Activation>); 9] = [
    ("linear", None),
    ("relu", Some(Activation::Relu)),
    ("leakyrelu", Some(Activation::LeakyRelu)),
    ("elu", Some(Activation::Elu)),
    ("swish", Some(Activation::HardSwish)),
    ("tanh", Some(Activation::Tanh)),
    ("sigmoid", Some(Activation::Sigmoid)),
    ("softsign", Some(Activation::Softsign)),
    ("mish", Some(Activation::Mish)),
];

impl Hypernetwork {
    /// Loads a hypernetwork; widths and depths are read from the tensors.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the file is none or has an unknown activation; otherwise what reading it gives.
    pub fn load(path: &Path, device: &Device, dtype: DType) -> Result<Self> {
        let file = WeightFile::open(path)?;
        let refused = |reason| Error::Unsupported { path: path.into(), part: "hypernetwork", reason };
        let layout = Layout::read(file.header()).map_err(refused)?;
        let (target, counter) =
            (Target { device: device.clone(), dtype, patches: Patches::default() }, LoadCounter::default());
        let weights = Weights::new(&file, &target, &counter, "");
        let mut pairs = Vec::with_capacity(layout.widths.len());
        for width in &layout.widths {
            let load = |half| layout.layers(file.header(), &weights, *width, half);
            pairs.push((*width, [load(0)?, load(1)?]));
        }
        Ok(Self { pairs, weight_bytes: counter.bytes() })
    }

    /// Why a file with this header is no hypernetwork, or `None` if it is one.
    pub fn refusal(header: &CheckpointHeader) -> Option<String> {
        Layout::read(header).err()
    }

    /// Memory that the weights take.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }
}

impl UsedHypernetwork {
    /// Changes what keys and values are made of; widths that the network does not know are left alone.
    pub(super) fn apply(&self, [keys, values]: [Tensor; 2]) -> Result<[Tensor; 2]> {
        let width = keys.dim(D::Minus1)?;
        let Some((_, [first, second])) = self.network.pairs.iter().find(|(known, _)| *known == width) else {
            return Ok([keys, values]);
        };
        let change = |x: Tensor, layers: &[Layer]| -> Result<Tensor> {
            let mut y = x.contiguous()?;
            for layer in layers {
                y = layer.forward(&y)?;
            }
            Ok((x + (y * self.strength)?)?)
        };
        Ok([change(keys, first)?, change(values, second)?])
    }
}

/// What a file says about its networks.
struct Layout {
    widths: Vec<usize>,
    activation: Option<Activation>,
    activate_output: bool,
}

impl Layout {
    fn read(header: &CheckpointHeader) -> std::result::Result<Self, String> {
        let width = |key: &str| key.split_once(".0.").and_then(|(width, _)| width.parse::<usize>().ok());
        let mut widths: Vec<usize> = header.keys().filter_map(width).filter(|w| *w <= MAX_WIDTH).collect();
        widths.sort_unstable();
        widths.dedup();
        if widths.is_empty() {
            return Err("it has no networks named by the width of what they change".into());
        }
        let said = |name: &str| header.metadata().get(name).map(String::as_str);
        let name = said("activation_func").unwrap_or("linear");
        let known = ACTIVATIONS.iter().find(|(known, _)| *known == name);
        let Some((_, activation)) = known else {
            let choices: Vec<&str> = ACTIVATIONS.iter().map(|(name, _)| *name).collect();
            return Err(format!("its activation is `{name}`, known are `{}`", choices.join("`, `")));
        };
        let activate_output = said("activate_output") == Some("true");
        Ok(Self { widths, activation: *activation, activate_output })
    }

    /// Loads one network of a pair, in the order of its layer numbers.
    fn layers(
        &self,
        header: &CheckpointHeader,
        weights: &Weights<'_>,
        width: usize,
        half: usize,
    ) -> Result<Vec<Layer>> {
        let prefix = format!("{width}.{half}.");
        let names = header.keys().filter_map(|key| key.strip_prefix(&prefix)?.strip_suffix(".weight"));
        let mut names: Vec<&str> = names.collect();
        names.sort_by_key(|name| number(name));
        let mut layers = Vec::new();
        let mut at = width;
        for (i, name) in names.iter().enumerate() {
            let part = weights.part(format_args!("{width}.{half}.{name}"));
            match *header.shape(&format!("{prefix}{name}.weight")).unwrap_or_default() {
                [_] => layers.push(Layer::Norm(LayerNorm::load(&part, at)?)),
                [outputs, _] => {
                    layers.push(Layer::Linear(Linear::load(&part, at, outputs)?));
                    at = outputs;
                    // A normalisation that follows the last layer counts as a layer here, as it does in ComfyUI.
                    let last = i + 1 == names.len();
                    if let Some(activation) = self.activation.filter(|_| !last || self.activate_output) {
                        layers.push(Layer::Activation(activation));
                    }
                }
                _ => return Err(Error::InvalidArgument(format!("`{prefix}{name}.weight` is no layer"))),
            }
        }
        if layers.is_empty() || at != width {
            let reason = format!("network {half} of width {width} does not end as wide as it begins");
            return Err(Error::InvalidArgument(reason));
        }
        Ok(layers)
    }
}

/// The number at the end of a layer's name.
fn number(name: &str) -> u64 {
    let digits = name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    name[digits..].parse().unwrap_or(0)
}

impl Layer {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Linear(linear) => linear.forward(x),
            Self::Norm(norm) => norm.forward(x),
            Self::Activation(activation) => activation.forward(x),
        }
    }
}

impl Activation {
    fn forward(self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Relu => x.relu()?,
            Self::LeakyRelu => x.maximum(&(x * 0.01)?)?,
            Self::Elu => x.elu(1.0)?,
            Self::HardSwish => ((x + 3.0)?.clamp(0.0, 6.0)? * x)?.affine(1.0 / 6.0, 0.0)?,
            Self::Tanh => x.tanh()?,
            Self::Sigmoid => candle_nn::ops::sigmoid(x)?,
            Self::Softsign => (x / (x.abs()? + 1.0)?)?,
            // ln(1 + e^x), written so that neither end overflows.
            Self::Mish => {
                let softplus = (x.relu()? + (x.abs()?.neg()?.exp()? + 1.0)?.log()?)?;
                (x * softplus.tanh()?)?
            }
        })
    }
}
