//! Nodes that join conditionings and say where, when and how strongly they count.

use super::MAX_SIDE;
use crate::state::SamplerState;
use crate::{error, tensors};
use candle_core::{Device, Tensor};
use comfy_artifacts::HostTensor;
use comfy_graph::{InputSpec, NodeSpec, OutputSpec};
use comfy_stage::{Conditioning, ConditioningEntry, Ctx, Data, Inputs, Node, NodeError, Outputs};
use serde_json::json;

/// Pixels of a picture per pixel of its latent.
const DOWNSCALE: usize = 8;

fn spec(class: &str, name: &str, description: &str, inputs: Vec<InputSpec>) -> NodeSpec {
    NodeSpec {
        class: class.into(),
        display_name: name.into(),
        description: description.into(),
        category: "conditioning".into(),
        version: 1,
        inputs,
        outputs: vec![OutputSpec::of("CONDITIONING")],
        ..NodeSpec::default()
    }
}

fn socket(name: &str) -> InputSpec {
    InputSpec::socket(name, "CONDITIONING")
}

fn strength() -> InputSpec {
    InputSpec::float("strength", 1.0, (0.0, 10.0), 0.01, None).tooltip("Weight against other prompts.")
}

fn given(conditioning: Conditioning) -> Result<Outputs, NodeError> {
    Ok(Outputs::one(Data::Conditioning(conditioning)))
}

/// Gives the conditioning back with every entry changed.
fn change(inputs: &Inputs, each: impl Fn(&mut ConditioningEntry)) -> Result<Outputs, NodeError> {
    let mut conditioning = inputs.conditioning("conditioning")?.clone();
    conditioning.iter_mut().for_each(each);
    given(conditioning)
}

pub(super) struct ConditioningCombine;

impl Node<SamplerState> for ConditioningCombine {
    fn spec(&self) -> NodeSpec {
        let description = "Puts two conditionings side by side: the sampler follows both.";
        let inputs = vec![socket("conditioning_1"), socket("conditioning_2")];
        spec("ConditioningCombine", "Conditioning (Combine)", description, inputs)
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let (first, second) =
            (inputs.conditioning("conditioning_1")?, inputs.conditioning("conditioning_2")?);
        given([first.as_slice(), second].concat())
    }
}

/// Takes the only entry that counts of the conditioning that others are joined with.
fn first<'a>(
    inputs: &'a Inputs,
    name: &str,
    ctx: &Ctx<'_, SamplerState>,
) -> Result<&'a ConditioningEntry, NodeError> {
    let entries = inputs.conditioning(name)?;
    if entries.len() > 1 {
        let (node, left_out) = (ctx.node_id, entries.len() - 1);
        tracing::warn!(node, input = name, left_out, "only the first entry of a conditioning is used");
    }
    entries.first().ok_or_else(|| NodeError::invalid(format!("input `{name}` has no entries")))
}

pub(super) struct ConditioningConcat;

impl Node<SamplerState> for ConditioningConcat {
    fn spec(&self) -> NodeSpec {
        let description = "Appends one prompt's text to another's, as if it had been written behind it.";
        let inputs = vec![socket("conditioning_to"), socket("conditioning_from")];
        spec("ConditioningConcat", "Conditioning (Concat)", description, inputs)
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let from = host(&first(inputs, "conditioning_from", ctx)?.embedding)?;
        let join = |entry: &ConditioningEntry| {
            let to = host(&entry.embedding)?;
            same_width(&to, &from)?;
            let embedding = tensors::to_host(&Tensor::cat(&[&to, &from], 1).map_err(error::tensor)?)?;
            Ok(ConditioningEntry { embedding, ..entry.clone() })
        };
        given(inputs.conditioning("conditioning_to")?.iter().map(join).collect::<Result<_, NodeError>>()?)
    }
}

fn host(tensor: &HostTensor) -> Result<Tensor, NodeError> {
    tensors::to_device(tensor, &Device::Cpu)
}

fn same_width(to: &Tensor, from: &Tensor) -> Result<(), NodeError> {
    let fits = matches!((to.dims(), from.dims()), (&[b, _, d], &[c, _, e]) if b == c && d == e);
    if fits {
        return Ok(());
    }
    let (to, from) = (to.dims(), from.dims());
    Err(NodeError::invalid(format!("texts of shapes {to:?} and {from:?} do not go together")))
}

pub(super) struct ConditioningAverage;

impl Node<SamplerState> for ConditioningAverage {
    fn spec(&self) -> NodeSpec {
        let description = "Mixes two prompts into one.";
        let inputs = vec![
            socket("conditioning_to"),
            socket("conditioning_from"),
            InputSpec::float("conditioning_to_strength", 1.0, (0.0, 1.0), 0.01, None)
                .tooltip("The share of the first prompt."),
        ];
        spec("ConditioningAverage", "ConditioningAverage", description, inputs)
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let from = first(inputs, "conditioning_from", ctx)?;
        let share = inputs.float("conditioning_to_strength")?;
        let from_embedding = host(&from.embedding)?;
        let average = |entry: &ConditioningEntry| {
            let to = host(&entry.embedding)?;
            same_width(&to, &from_embedding)?;
            let fitted =
                fit_tokens(&from_embedding, to.dim(1).map_err(error::tensor)?).map_err(error::tensor)?;
            let pooled = match (&entry.pooled, &from.pooled) {
                (Some(to), Some(from)) => Some(mix(&host(to)?, &host(from)?, share)?),
                (None, from) => from.clone(),
                (to, None) => to.clone(),
            };
            Ok(ConditioningEntry { embedding: mix(&to, &fitted, share)?, pooled, ..entry.clone() })
        };
        given(inputs.conditioning("conditioning_to")?.iter().map(average).collect::<Result<_, NodeError>>()?)
    }
}

fn mix(to: &Tensor, from: &Tensor, share: f64) -> Result<HostTensor, NodeError> {
    let mixed = to.affine(share, 0.0).and_then(|to| to + from.affine(1.0 - share, 0.0)?);
    tensors::to_host(&mixed.map_err(error::tensor)?)
}

/// Cuts or fills a text with zeros to a number of tokens.
fn fit_tokens(text: &Tensor, tokens: usize) -> candle_core::Result<Tensor> {
    let have = text.dim(1)?;
    if have >= tokens { text.narrow(1, 0, tokens) } else { text.pad_with_zeros(1, 0, tokens - have) }
}

pub(super) struct ConditioningSetArea;

impl Node<SamplerState> for ConditioningSetArea {
    fn spec(&self) -> NodeSpec {
        let description = "Makes a prompt count in a rectangle of the picture, given in pixels.";
        let inputs = vec![
            socket("conditioning"),
            InputSpec::int("width", 64, (64, MAX_SIDE), 8),
            InputSpec::int("height", 64, (64, MAX_SIDE), 8),
            InputSpec::int("x", 0, (0, MAX_SIDE), 8),
            InputSpec::int("y", 0, (0, MAX_SIDE), 8),
            strength(),
        ];
        spec("ConditioningSetArea", "Conditioning (Set Area)", description, inputs)
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let side = |name| inputs.int_as::<usize>(name).map(|pixels| pixels / DOWNSCALE);
        let (x, y, width, height) = (side("x")?, side("y")?, side("width")?, side("height")?);
        let area = json!({"pixels": {"x": x, "y": y, "width": width, "height": height}});
        set_area(inputs, &area)
    }
}

fn set_area(inputs: &Inputs, area: &serde_json::Value) -> Result<Outputs, NodeError> {
    let strength = inputs.float("strength")?;
    change(inputs, |entry| {
        entry.extras.insert("area".into(), area.clone());
        entry.extras.insert("strength".into(), json!(strength));
        entry.extras.insert("set_area_to_bounds".into(), json!(false));
    })
}

pub(super) struct ConditioningSetAreaPercentage;

impl Node<SamplerState> for ConditioningSetAreaPercentage {
    fn spec(&self) -> NodeSpec {
        let share = |name, default| InputSpec::float(name, default, (0.0, 1.0), 0.01, None);
        let description = "Makes a prompt count in a rectangle of the picture, given in shares of its sides.";
        let inputs = vec![
            socket("conditioning"),
            share("width", 1.0),
            share("height", 1.0),
            share("x", 0.0),
            share("y", 0.0),
            strength(),
        ];
        spec("ConditioningSetAreaPercentage", "Conditioning (Set Area with Percentage)", description, inputs)
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let (x, y) = (inputs.float("x")?, inputs.float("y")?);
        let (width, height) = (inputs.float("width")?, inputs.float("height")?);
        set_area(inputs, &json!({"shares": {"x": x, "y": y, "width": width, "height": height}}))
    }
}

pub(super) struct ConditioningSetAreaStrength;

impl Node<SamplerState> for ConditioningSetAreaStrength {
    fn spec(&self) -> NodeSpec {
        let description = "Sets the weight of a prompt against other prompts.";
        let inputs = vec![socket("conditioning"), strength()];
        spec("ConditioningSetAreaStrength", "ConditioningSetAreaStrength", description, inputs)
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let strength = inputs.float("strength")?;
        change(inputs, |entry| {
            entry.extras.insert("strength".into(), json!(strength));
        })
    }
}

pub(super) struct ConditioningSetMask;

impl Node<SamplerState> for ConditioningSetMask {
    fn spec(&self) -> NodeSpec {
        let description = "Makes a prompt count where a mask is white.";
        let inputs = vec![
            socket("conditioning"),
            InputSpec::socket("mask", "MASK"),
            strength(),
            InputSpec::combo("set_cond_area", &["default", "mask bounds"])
                .tooltip("Whether the network sees the whole picture or only the box around the mask."),
        ];
        spec("ConditioningSetMask", "Conditioning (Set Mask)", description, inputs)
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let (mask, strength) = (inputs.mask("mask")?, inputs.float("strength")?);
        let to_bounds = match inputs.text("set_cond_area")? {
            "default" => false,
            "mask bounds" => true,
            other => {
                return Err(NodeError::invalid(format!(
                    "input `set_cond_area` is `{other}`, expected `default` or `mask bounds`"
                )));
            }
        };
        change(inputs, |entry| {
            entry.tensors.insert("mask".into(), mask.clone());
            entry.extras.insert("mask_strength".into(), json!(strength));
            entry.extras.insert("set_area_to_bounds".into(), json!(to_bounds));
        })
    }
}

pub(super) struct ConditioningSetTimestepRange;

impl Node<SamplerState> for ConditioningSetTimestepRange {
    fn spec(&self) -> NodeSpec {
        let share = |name, default| InputSpec::float(name, default, (0.0, 1.0), 0.001, None);
        let description = "Makes a prompt count during a part of the sampling only.";
        let inputs = vec![
            socket("conditioning"),
            share("start", 0.0).tooltip("Share of the sampling at which it begins to count."),
            share("end", 1.0).tooltip("Share of the sampling at which it ceases to count."),
        ];
        let spec = spec("ConditioningSetTimestepRange", "ConditioningSetTimestepRange", description, inputs);
        NodeSpec { category: "advanced/conditioning".into(), ..spec }
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let (start, end) = (inputs.float("start")?, inputs.float("end")?);
        change(inputs, |entry| {
            entry.extras.insert("start_percent".into(), json!(start));
            entry.extras.insert("end_percent".into(), json!(end));
        })
    }
}

pub(super) struct ConditioningZeroOut;

impl Node<SamplerState> for ConditioningZeroOut {
    fn spec(&self) -> NodeSpec {
        let description = "Replaces a prompt's text by zeros, which some models take for no prompt at all.";
        let spec =
            spec("ConditioningZeroOut", "ConditioningZeroOut", description, vec![socket("conditioning")]);
        NodeSpec { category: "advanced/conditioning".into(), ..spec }
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let zeros = |tensor: &HostTensor| HostTensor::full(tensor.shape().to_vec(), 0.0);
        change(inputs, |entry| {
            entry.embedding = zeros(&entry.embedding);
            entry.pooled = entry.pooled.as_ref().map(zeros);
        })
    }
}
