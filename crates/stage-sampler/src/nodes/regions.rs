//! Where a conditioning counts, as links carry it, for the engine.

use crate::tensors;
use candle_core::Device;
use comfy_diffusion::sampling::{Area, Region, RegionMask};
use comfy_stage::{ConditioningEntry, NodeError};
use serde::Deserialize;

/// Extras of a conditioning that the samplers apply themselves.
pub(super) const APPLIED: [&str; 7] =
    ["strength", "start_percent", "end_percent", "area", "mask", "mask_strength", "set_area_to_bounds"];

/// An area as it is written into the extras.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum WrittenArea {
    Pixels { x: usize, y: usize, width: usize, height: usize },
    Shares { x: f64, y: f64, width: f64, height: f64 },
}

/// Reads the area of an entry.
pub(super) fn area(entry: &ConditioningEntry) -> Result<Option<Region>, NodeError> {
    let Some(area) = entry.extras.get("area") else { return Ok(None) };
    let written = WrittenArea::deserialize(area)
        .map_err(|error| NodeError::invalid(format!("the area of a conditioning cannot be read: {error}")))?;
    Ok(Some(match written {
        WrittenArea::Pixels { x, y, width, height } => Region::Pixels(Area { x, y, width, height }),
        WrittenArea::Shares { x, y, width, height } => Region::Shares { x, y, width, height },
    }))
}

/// Brings the mask of an entry to the device.
pub(super) fn mask(entry: &ConditioningEntry, device: &Device) -> Result<Option<RegionMask>, NodeError> {
    let Some(mask) = entry.tensors.get("mask") else { return Ok(None) };
    let strength = entry.extras.get("mask_strength").and_then(serde_json::Value::as_f64).unwrap_or(1.0);
    let bounds = entry.extras.get("set_area_to_bounds").and_then(serde_json::Value::as_bool);
    let values = tensors::to_device(mask, device)?;
    Ok(Some(RegionMask { values, strength, area_from_bounds: bounds.unwrap_or(false) }))
}
