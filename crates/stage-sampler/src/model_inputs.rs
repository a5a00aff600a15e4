//! From what nodes attached to a prompt to what the network is given.

use crate::{error, tensors};
use candle_core::Device;
use comfy_artifacts::HostTensor;
use comfy_diffusion::DiffusionModel;
use comfy_diffusion::families::{Extras, Side, Start};
use comfy_diffusion::sampling::ConditioningEntry;
use comfy_stage::{Data, Inputs, NodeError};

/// Plain extras that say something about the picture; families that were not trained on them ignore them.
pub(crate) const NUMBERS: [&str; 7] =
    ["width", "height", "crop_w", "crop_h", "target_width", "target_height", "aesthetic_score"];
/// Latent of a picture to change.
pub(crate) const CONCAT_LATENT: &str = "concat_latent_image";
/// Where that picture may change.
pub(crate) const CONCAT_MASK: &str = "concat_mask";

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
        let inputs = model.family().extra_inputs(&extras, side, start).map_err(error::engine)?;
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
    })
}
