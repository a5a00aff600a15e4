//! From what nodes attached to a prompt to what the network is given.

use crate::{error, tensors};
use candle_core::Device;
use comfy_artifacts::HostTensor;
use comfy_diffusion::DiffusionModel;
use comfy_diffusion::families::{Extras, SeenPictures, Side, Start};
use comfy_diffusion::sampling::ConditioningEntry;
use comfy_stage::{Data, Inputs, NodeError};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Plain extras that say something about the picture; families that were not trained on them ignore them.
pub(crate) const NUMBERS: [&str; 7] =
    ["width", "height", "crop_w", "crop_h", "target_width", "target_height", "aesthetic_score"];
/// Latent of a picture to change.
pub(crate) const CONCAT_LATENT: &str = "concat_latent_image";
/// Where that picture may change.
pub(crate) const CONCAT_MASK: &str = "concat_mask";
/// Pictures that the prompt is shown: how each counts.
pub(crate) const SEEN: &str = "unclip_conditioning";
/// The tensors of those pictures, numbered.
pub(crate) const SEEN_EMBEDS: &str = "unclip_embeds_";

/// How pictures that a prompt is shown count.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub strength: f64,
    pub noise_augmentation: f64,
}

fn seen(entry: &comfy_stage::ConditioningEntry) -> Result<Vec<Seen>, NodeError> {
    let Some(list) = entry.extras.get(SEEN) else { return Ok(Vec::new()) };
    Vec::deserialize(list).map_err(|error| {
        NodeError::invalid(format!("the pictures of a conditioning cannot be read: {error}"))
    })
}

/// Shows a prompt further pictures.
///
/// # Errors
/// When those it is shown already cannot be read.
pub(crate) fn add_seen(
    entry: &mut comfy_stage::ConditioningEntry,
    added: Seen,
    embeds: &HostTensor,
) -> Result<(), NodeError> {
    let mut list = seen(entry)?;
    entry.tensors.insert(format!("{SEEN_EMBEDS}{}", list.len()), embeds.clone());
    list.push(added);
    entry.extras.insert(SEEN.into(), json!(list));
    Ok(())
}

fn pictures(entry: &comfy_stage::ConditioningEntry, device: &Device) -> Result<Vec<SeenPictures>, NodeError> {
    let picture = |(i, seen): (usize, Seen)| {
        let name = format!("{SEEN_EMBEDS}{i}");
        let embeds = entry.tensors.get(&name).ok_or_else(|| {
            NodeError::invalid(format!("the conditioning lacks the tensor `{name}` of a picture"))
        })?;
        let Seen { strength, noise_augmentation } = seen;
        Ok(SeenPictures { embeds: tensors::to_device(embeds, device)?, strength, noise_augmentation })
    };
    seen(entry)?.into_iter().enumerate().map(picture).collect()
}

/// Adds to a side's entries what the model takes besides the text. `given` are the entries as the link has them.
///
/// # Errors
/// When the model needs something that the conditioning lacks, or it has a wrong shape.
pub(crate) fn complete(
    entries: &mut [ConditioningEntry],
    given: &[comfy_stage::ConditioningEntry],
    side: Side,
    model: &DiffusionModel,
    start: &Start<'_>,
) -> Result<(), NodeError> {
    for (entry, given) in entries.iter_mut().zip(given) {
        model.check_text(&entry.embedding).map_err(error::engine)?;
        let extras = read(given, start.latent.device())?;
        let inputs = model.extra_inputs(&extras, side, start).map_err(error::engine)?;
        (entry.vector, entry.concat) = (inputs.vector, inputs.concat);
    }
    Ok(())
}

/// Returns the conditioning of an input with tensors added to every entry.
///
/// # Errors
/// When the input is no conditioning.
pub(crate) fn attach(inputs: &Inputs, name: &str, added: &[(&str, &HostTensor)]) -> Result<Data, NodeError> {
    let mut conditioning = inputs.conditioning(name)?.clone();
    for entry in &mut conditioning {
        entry.tensors.extend(added.iter().map(|(name, tensor)| ((*name).into(), (*tensor).clone())));
    }
    Ok(Data::Conditioning(conditioning))
}

fn read(entry: &comfy_stage::ConditioningEntry, device: &Device) -> Result<Extras, NodeError> {
    let number = |name: &str| entry.extras.get(name).and_then(serde_json::Value::as_f64);
    let tensor =
        |name: &str| entry.tensors.get(name).map(|host| tensors::to_device(host, device)).transpose();
    Ok(Extras {
        pooled: entry.pooled.as_ref().map(|host| tensors::to_device(host, device)).transpose()?,
        width: number("width"),
        height: number("height"),
        crop_w: number("crop_w"),
        crop_h: number("crop_h"),
        target_width: number("target_width"),
        target_height: number("target_height"),
        aesthetic_score: number("aesthetic_score"),
        concat_latent: tensor(CONCAT_LATENT)?,
        concat_mask: tensor(CONCAT_MASK)?,
        pictures: pictures(entry, device)?,
    })
}
