//! `RebatchLatents`: a list of batches as a list of batches of another size.

use super::latent_planes::{Planes, items};
use crate::state::SamplerState;
use crate::{error, memory, tensors};
use candle_core::Device;
use comfy_artifacts::HostTensor;
use comfy_diffusion::families::sd1::DOWNSCALE;
use comfy_diffusion::sampling::{Crop, ResizeMethod, resize_latent};
use comfy_graph::{InputSpec, NodeSpec, OutputSpec};
use comfy_stage::{Ctx, Data, FnNode, Inputs, Latent, Node, NodeError, Outputs};

pub(super) const NODES: &[&dyn Node<SamplerState>] = &[&FnNode { spec: rebatch_spec, run: rebatch }];

fn rebatch_spec() -> NodeSpec {
    let inputs = vec![InputSpec::socket("latents", "LATENT"), InputSpec::int("batch_size", 1, (1, 4096), 1)];
    let spec = NodeSpec::new("RebatchLatents", "latent/batch", inputs, &[]);
    NodeSpec { input_is_list: true, outputs: vec![OutputSpec::of("LATENT").list()], ..spec }
        .titled("Rebatch Latents")
        .about("Deals latents out into batches of one size. What follows runs once per batch.")
}

/// One latent of a batch with what belongs to it.
struct Item {
    samples: HostTensor,
    /// `[1, 1, height, width]` in pixels of the picture; none lets everything change.
    mask: Option<HostTensor>,
    place: u64,
}

fn rebatch(inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
    let size = inputs.int_as::<usize>("batch_size")?.max(1);
    let mut all = Vec::new();
    for latent in inputs.latents("latents")? {
        let seen = all.len();
        all.extend(split(latent, seen)?);
    }
    let mut dealt = Vec::new();
    // Latents of another size begin a batch of their own.
    for same in all.chunk_by(|a: &Item, b: &Item| a.samples.shape() == b.samples.shape()) {
        for group in same.chunks(size) {
            dealt.push(Data::Latent(joined(group)?));
        }
    }
    Ok(Outputs::one(Data::List(dealt)))
}

/// Takes a batch apart. Places that nobody named go on from those of the batches before.
fn split(latent: &Latent, seen: usize) -> Result<Vec<Item>, NodeError> {
    let planes = Planes::of(&latent.samples)?;
    let (height, width) = (planes.height * DOWNSCALE, planes.width * DOWNSCALE);
    let masks = latent.noise_mask.as_ref().map(|mask| fitted(mask, (height, width))).transpose()?;
    let mask = |index: usize| {
        let Some(masks) = &masks else { return Ok(None) };
        // One mask for all is shared, not copied.
        let there = masks.shape()[0];
        if there == 1 { Ok(Some(masks.clone())) } else { items(masks, index % there, 1).map(Some) }
    };
    (0..planes.batch)
        .map(|index| {
            let named = latent.batch_index.as_ref().and_then(|places| places.get(index).copied());
            Ok(Item {
                samples: items(&latent.samples, index, 1)?,
                mask: mask(index)?,
                place: named.unwrap_or((seen + index) as u64),
            })
        })
        .collect()
}

/// Brings masks to the size of the picture.
fn fitted(mask: &HostTensor, (height, width): (usize, usize)) -> Result<HostTensor, NodeError> {
    let &[.., old_height, old_width] = mask.shape() else {
        return Err(NodeError::invalid(format!("a mask has 2 or 3 dimensions, got {:?}", mask.shape())));
    };
    if mask.data().is_empty() {
        return Err(NodeError::invalid("the mask is empty"));
    }
    let shape = vec![mask.data().len() / (old_height * old_width), 1, old_height, old_width];
    let mask = HostTensor::new(shape, mask.data().to_vec()).map_err(error::bundle)?;
    if (old_height, old_width) == (height, width) {
        return Ok(mask);
    }
    let planes = tensors::to_device(&mask, &Device::Cpu)?;
    let resized = resize_latent(&planes, ResizeMethod::Bilinear, height, width, Crop::Disabled);
    tensors::to_host(&resized.map_err(error::sampling)?)
}

fn joined(group: &[Item]) -> Result<Latent, NodeError> {
    let samples: Vec<&HostTensor> = group.iter().map(|item| &item.samples).collect();
    let batch_index = Some(group.iter().map(|item| item.place).collect());
    Ok(Latent { samples: stacked(&samples)?, noise_mask: joined_mask(group)?, batch_index })
}

fn joined_mask(group: &[Item]) -> Result<Option<HostTensor>, NodeError> {
    // A mask that lets everything change is none.
    let limits = |mask: &HostTensor| mask.data().iter().any(|sample| *sample != 1.0);
    let Some(some) = group.iter().filter_map(|item| item.mask.as_ref()).find(|mask| limits(mask)) else {
        return Ok(None);
    };
    let needed = memory::activations(some.data().len(), group.len(), 1);
    memory::require("masks for a batch of this size", needed)?;
    let open = HostTensor::full(some.shape().to_vec(), 1.0);
    let masks: Vec<&HostTensor> = group.iter().map(|item| item.mask.as_ref().unwrap_or(&open)).collect();
    stacked(&masks).map(Some)
}

fn stacked(parts: &[&HostTensor]) -> Result<HostTensor, NodeError> {
    let mut shape = parts[0].shape().to_vec();
    shape[0] = parts.len();
    let data = parts.iter().flat_map(|part| part.data()).copied().collect();
    HostTensor::new(shape, data).map_err(error::bundle)
}
