//! Loads the parts of a checkpoint, each on its own, so that a service can cache them apart.

use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::adapters::{Patches, UsedAdapter};
use crate::blocks::Unet;
use crate::checkpoint::{Float8, LoadCounter, Target, UnetConfig, VaeConfig, WeightFile, Weights, detect};
use crate::error::{Error, Result};
use crate::families::{Family, sd1};
use crate::text::ClipTextEncoder;
use crate::vae::Vae;

/// The diffusion part of a checkpoint: a network and what its family says about using it.
#[derive(Debug)]
pub struct DiffusionModel {
    family: Family,
    unet: Unet,
    device: Device,
    weight_bytes: u64,
}

impl DiffusionModel {
    pub fn family(&self) -> &Family {
        &self.family
    }

    pub fn unet(&self) -> &Unet {
        &self.unet
    }

    /// The device that inputs must be on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Memory that the weights take.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// Factor between the latents that samplers work on and those of the autoencoder.
    pub fn latent_scale(&self) -> f64 {
        sd1::LATENT_SCALE
    }

    /// Runs the network; see [`Unet::forward`].
    pub fn forward(&self, x: &Tensor, timesteps: &Tensor, context: &Tensor) -> Result<Tensor> {
        self.unet.forward(x, timesteps, context)
    }
}

/// Loads the diffusion model of a checkpoint, changed by `adapters`.
///
/// # Errors
/// [`Error::Unsupported`] if the file is of a family that cannot be run, with a reason fit for a user; otherwise
/// what reading and checking the file gives.
pub fn load_model(
    path: &Path,
    device: &Device,
    dtype: DType,
    adapters: &[UsedAdapter],
) -> Result<DiffusionModel> {
    load_model_stored_as(path, device, dtype, adapters, None)
}

/// As [`load_model`], with the file's weights rounded as a file of the given 8-bit format would hold them.
///
/// # Errors
/// As [`load_model`].
pub fn load_model_stored_as(
    path: &Path,
    device: &Device,
    dtype: DType,
    adapters: &[UsedAdapter],
    stored_as: Option<Float8>,
) -> Result<DiffusionModel> {
    let file = WeightFile::open(path)?;
    let detection = detect(file.header());
    let refused = |reason| Error::Unsupported { path: path.into(), part: "diffusion model", reason };
    if let Some(reason) = detection.family.refusal() {
        return Err(refused(reason));
    }
    let config = detection.unet.ok_or_else(|| refused("its layout could not be read".into()))?;
    let patches = Patches::for_unet(&config, adapters)?;
    let (target, counter) = (Target { device: device.clone(), dtype, patches }, LoadCounter::default());
    let weights = Weights::new(&file, &target, &counter, UnetConfig::PREFIX).stored_as(stored_as);
    let unet = Unet::load(&weights, config, dtype)?;
    Ok(DiffusionModel {
        family: detection.family,
        unet,
        device: device.clone(),
        weight_bytes: counter.bytes(),
    })
}

/// Loads the CLIP text encoder of an SD1 checkpoint, or of a file that holds only the encoder, changed by `adapters`.
///
/// # Errors
/// [`Error::Unsupported`] if there is none in a known place; otherwise what reading the file gives.
pub fn load_clip(
    path: &Path,
    device: &Device,
    dtype: DType,
    adapters: &[UsedAdapter],
) -> Result<ClipTextEncoder> {
    let file = WeightFile::open(path)?;
    let config = crate::checkpoint::ClipConfig::from_header(file.header())
        .map_err(|reason| Error::Unsupported { path: path.into(), part: "text encoder", reason })?;
    let patches = Patches::for_clip(&config, adapters)?;
    let (target, counter) = (Target { device: device.clone(), dtype, patches }, LoadCounter::default());
    let prefix = config.prefix.clone();
    ClipTextEncoder::load(&Weights::new(&file, &target, &counter, &prefix), config, device)
}

/// Loads the autoencoder of a checkpoint, or of a file that holds only the autoencoder.
///
/// # Errors
/// [`Error::Unsupported`] if there is none; otherwise what reading the file gives.
pub fn load_vae(path: &Path, device: &Device, dtype: DType) -> Result<Vae> {
    let file = WeightFile::open(path)?;
    let config = VaeConfig::from_header(file.header()).map_err(|reason| Error::Unsupported {
        path: path.into(),
        part: "vae",
        reason,
    })?;
    let patches = Patches::default();
    let (target, counter) = (Target { device: device.clone(), dtype, patches }, LoadCounter::default());
    let prefix = config.prefix.clone();
    Vae::load(&Weights::new(&file, &target, &counter, &prefix), config, dtype)
}
