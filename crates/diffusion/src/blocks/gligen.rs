//! Grounded layers: texts that belong to boxes of the picture.

use std::path::Path;
use std::sync::Arc;

use candle_core::{D, DType, Device, Tensor};

use super::attention::{Attention, AttentionPrecision};
use super::layers::{LayerNorm, Linear};

use crate::changes::Patches;
use crate::checkpoint::{CheckpointHeader, LoadCounter, Target, WeightFile, Weights};
use crate::error::{Error, Result};

/// Boxes that a model is given; unused ones are filled with what it learned for none.
const MAX_BOXES: usize = 30;
const HEADS: usize = 8;
const FREQUENCIES: usize = 8;
const TEMPERATURE: f64 = 100.0;
/// Sine and cosine of four coordinates.
const POSITION_WIDTH: usize = FREQUENCIES * 2 * 4;

/// The layers that GLIGEN adds to a network, and the one that turns texts and boxes into what they look at.
///
/// # Source
/// Li et al. 2023 (GLIGEN), eq. 5 to 8; same values as ComfyUI `GLIGENTextBoxApply`.
#[derive(Debug)]
pub struct Gligen {
    projection: [Linear; 3],
    no_text: Tensor,
    no_position: Tensor,
    /// In the order of the network's transformers.
    fusers: Vec<Fuser>,
    dtype: DType,
    weight_bytes: u64,
}

/// A text and the box it belongs to, in shares of the picture's sides.
#[derive(Debug, Clone)]
pub struct GroundedBox {
    /// Pooled text, `[1, D]`.
    pub text: Tensor,
    pub left: f32,
    pub top: f32,
    pub right: f32,
    pub bottom: f32,
}

/// What the layers of a model look at in one call.
#[derive(Debug, Clone)]
pub struct Grounding {
    pub gligen: Arc<Gligen>,
    /// `[B, boxes, D]`.
    pub objects: Tensor,
}

/// Attention of the picture to itself and the boxes, let in by learned gates.
#[derive(Debug)]
struct Fuser {
    width: usize,
    objects: Linear,
    norm1: LayerNorm,
    attention: Attention,
    attention_gate: f64,
    norm2: LayerNorm,
    feed_in: Linear,
    feed_out: Linear,
    feed_gate: f64,
}

impl Gligen {
    /// Loads the layers; widths are read from the tensors.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the file has none; otherwise what reading it gives.
    pub fn load(path: &Path, device: &Device, dtype: DType) -> Result<Self> {
        let file = WeightFile::open(path)?;
        let layout = Layout::read(file.header()).map_err(|reason| Error::Unsupported {
            path: path.into(),
            part: "GLIGEN",
            reason,
        })?;
        let (target, counter) =
            (Target { device: device.clone(), dtype, patches: Patches::default() }, LoadCounter::default());
        let weights = Weights::new(&file, &target, &counter, "");
        let net = weights.part("position_net");
        let linear =
            |i: usize, inputs, outputs| Linear::load(&net.part(format_args!("linears.{i}")), inputs, outputs);
        let (text, hidden, out) = (layout.text, layout.hidden, layout.out);
        let fuser = |(place, width): &(String, usize)| Fuser::load(&weights.part(place), *width, out);
        Ok(Self {
            projection: [
                linear(0, text + POSITION_WIDTH, hidden)?,
                linear(2, hidden, hidden)?,
                linear(4, hidden, out)?,
            ],
            no_text: net.get("null_positive_feature", &[text])?,
            no_position: net.get("null_position_feature", &[POSITION_WIDTH])?,
            fusers: layout.fusers.iter().map(fuser).collect::<Result<_>>()?,
            dtype,
            weight_bytes: counter.bytes(),
        })
    }

    /// Why a file with this header holds no GLIGEN layers, or `None` if it does.
    pub fn refusal(header: &CheckpointHeader) -> Option<String> {
        Layout::read(header).err()
    }

    /// Memory that the weights take.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// Width of the pooled texts that the boxes are given.
    pub fn text_width(&self) -> usize {
        self.no_text.elem_count()
    }

    /// Turns boxes into what the layers look at, `[1, 30, D]`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for too many boxes and texts of another width.
    pub fn objects(&self, boxes: &[GroundedBox]) -> Result<Tensor> {
        if boxes.len() > MAX_BOXES {
            let reason = format!("{} boxes are more than the {MAX_BOXES} that GLIGEN takes", boxes.len());
            return Err(Error::InvalidArgument(reason));
        }
        let device = self.no_text.device();
        let mut rows = Vec::with_capacity(MAX_BOXES);
        for grounded in boxes {
            let text = grounded.text.flatten_all()?;
            if text.elem_count() != self.text_width() {
                let (found, expected) = (text.elem_count(), self.text_width());
                return Err(Error::InvalidArgument(format!(
                    "the text of a box was encoded {found} wide, this GLIGEN model takes {expected}"
                )));
            }
            let position = Tensor::from_vec(grounded.position(), POSITION_WIDTH, device)?;
            rows.push(Tensor::cat(&[text.to_dtype(self.dtype)?, position.to_dtype(self.dtype)?], 0)?);
        }
        let none = Tensor::cat(&[&self.no_text, &self.no_position], 0)?;
        rows.resize(MAX_BOXES, none);
        let rows = Tensor::stack(&rows, 0)?.unsqueeze(0)?;
        let [first, second, third] = &self.projection;
        third.forward(&second.forward(&first.forward(&rows)?.silu()?)?.silu()?)
    }
}

impl Grounding {
    /// Lets a transformer of the network look at the boxes.
    pub(super) fn fuse(&self, transformer: usize, x: Tensor) -> Result<Tensor> {
        let width = x.dim(D::Minus1)?;
        match self.gligen.fusers.get(transformer) {
            Some(fuser) if fuser.width == width => fuser.forward(x, &self.objects),
            _ => Err(Error::InvalidArgument(format!(
                "this GLIGEN model was not made for this network: it has no layer {transformer} of width {width}"
            ))),
        }
    }
}

impl GroundedBox {
    /// Sines and cosines of the corners, by frequency.
    fn position(&self) -> Vec<f32> {
        let corners = [self.left, self.top, self.right, self.bottom];
        (0..FREQUENCIES)
            .flat_map(|i| {
                let frequency = TEMPERATURE.powf(i as f64 / FREQUENCIES as f64) as f32;
                [f32::sin, f32::cos]
                    .into_iter()
                    .flat_map(move |wave| corners.map(|corner| wave(frequency * corner)))
            })
            .collect()
    }
}

impl Fuser {
    fn load(weights: &Weights<'_>, width: usize, objects: usize) -> Result<Self> {
        let gate = |name| -> Result<f64> {
            Ok(f64::from(weights.get(name, &[])?.to_dtype(DType::F32)?.to_scalar::<f32>()?.tanh()))
        };
        Ok(Self {
            width,
            objects: Linear::load(&weights.part("linear"), objects, width)?,
            norm1: LayerNorm::load(&weights.part("norm1"), width)?,
            attention: Attention::load(
                &weights.part("attn"),
                [width, width],
                HEADS,
                AttentionPrecision::Weights,
            )?,
            attention_gate: gate("alpha_attn")?,
            norm2: LayerNorm::load(&weights.part("norm2"), width)?,
            feed_in: Linear::load(&weights.part("ff.net.0.proj"), width, 8 * width)?,
            feed_out: Linear::load(&weights.part("ff.net.2"), 4 * width, width)?,
            feed_gate: gate("alpha_dense")?,
        })
    }

    /// # Shapes
    /// `x` is `[B, places, C]`, `objects` `[B, boxes, D]`; the result is shaped as `x`.
    fn forward(&self, x: Tensor, objects: &Tensor) -> Result<Tensor> {
        let places = x.dim(1)?;
        let all =
            self.norm1.forward(&Tensor::cat(&[&x, &self.objects.forward(&objects.contiguous()?)?], 1)?)?;
        // Only the places of the picture are kept, so only they have to look.
        let seen = self.attention.forward(&all.narrow(1, 0, places)?.contiguous()?, &all, &all)?;
        let x = (x + (seen * self.attention_gate)?)?;
        let fed = self.feed_out.forward(&self.feed_in.forward_geglu(&self.norm2.forward(&x)?)?)?;
        Ok((x + (fed * self.feed_gate)?)?)
    }
}

/// What a file says about its layers.
struct Layout {
    text: usize,
    hidden: usize,
    out: usize,
    /// Where each fuser is and how wide, in the order of the network's transformers.
    fusers: Vec<(String, usize)>,
}

impl Layout {
    fn read(header: &CheckpointHeader) -> std::result::Result<Self, String> {
        let lacks = |name: &str| format!("it lacks `{name}`, as GLIGEN models for text and boxes have it");
        let size = |name: &str| header.shape(name).and_then(|shape| shape.first().copied());
        let (text, hidden, out) = (
            "position_net.null_positive_feature",
            "position_net.linears.0.weight",
            "position_net.linears.4.weight",
        );
        let fusers = header.keys().filter_map(|key| {
            let place = key.strip_suffix(".norm1.weight").filter(|place| place.ends_with(".fuser"))?;
            Some((place.to_owned(), size(key)?))
        });
        let mut fusers: Vec<(String, usize)> = fusers.collect();
        if fusers.is_empty() {
            return Err(lacks("fuser"));
        }
        fusers.sort_by_key(|(place, _)| order(place));
        if let Some((place, width)) = fusers.iter().find(|(_, width)| width % HEADS != 0) {
            return Err(format!("`{place}` is {width} wide, which does not split into {HEADS} heads"));
        }
        let size = |name| size(name).ok_or_else(|| lacks(name));
        Ok(Self { text: size(text)?, hidden: size(hidden)?, out: size(out)?, fusers })
    }
}

/// The place of a layer among the halves of the network, and the numbers in its name.
fn order(place: &str) -> (usize, Vec<u64>) {
    let halves = ["input_blocks.", "middle_block.", "output_blocks."];
    let half = halves.iter().position(|half| place.starts_with(half)).unwrap_or(halves.len());
    (half, place.split('.').filter_map(|part| part.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_in_the_order_of_the_network() {
        let mut places = ["output_blocks.3.1", "input_blocks.11.1", "middle_block.1", "input_blocks.2.1"];
        places.sort_by_key(|place| order(place));
        assert_eq!(places, ["input_blocks.2.1", "input_blocks.11.1", "middle_block.1", "output_blocks.3.1"]);
    }
}
