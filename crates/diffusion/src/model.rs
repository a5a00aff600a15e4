//! Loads the parts of a checkpoint, each on its own, so that a service can cache them apart.

use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::blocks::{FreeU, Unet};
use crate::checkpoint::{LoadCounter, Target, UnetConfig, VaeConfig, WeightFile, Weights, detect};
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

    /// Runs the network with weights on the inputs of its ascending half; see [`Unet::forward_with`].
    pub fn forward_with(
        &self,
        x: &Tensor,
        timesteps: &Tensor,
        context: &Tensor,
        free_u: &[FreeU],
    ) -> Result<Tensor> {
        self.unet.forward_with(x, timesteps, context, free_u)
    }
}

/// Loads the diffusion model of a checkpoint.
///
/// # Errors
/// [`Error::Unsupported`] if the file is of a family that cannot be run, with a reason fit for a user; otherwise
/// what reading and checking the file gives.
pub fn load_model(path: &Path, device: &Device, dtype: DType) -> Result<DiffusionModel> {
    let file = WeightFile::open(path)?;
    let detection = detect(file.header());
    let refused = |reason| Error::Unsupported { path: path.into(), part: "diffusion model", reason };
    if let Some(reason) = detection.family.refusal() {
        return Err(refused(reason));
    }
    let config = detection.unet.ok_or_else(|| refused("its layout could not be read".into()))?;
    let (target, counter) = (Target { device: device.clone(), dtype }, LoadCounter::default());
    let weights = Weights::new(&file, &target, &counter, UnetConfig::PREFIX);
    let unet = Unet::load(&weights, config, dtype)?;
    Ok(DiffusionModel {
        family: detection.family,
        unet,
        device: device.clone(),
        weight_bytes: counter.bytes(),
    })
}

/// Loads the CLIP text encoder of an SD1 checkpoint, or of a file that holds only the encoder.
///
/// # Errors
/// [`Error::Unsupported`] if there is none in a known place; otherwise what reading the file gives.
pub fn load_clip(path: &Path, device: &Device, dtype: DType) -> Result<ClipTextEncoder> {
    let file = WeightFile::open(path)?;
    let config = crate::checkpoint::ClipConfig::from_header(file.header())
        .map_err(|reason| Error::Unsupported { path: path.into(), part: "text encoder", reason })?;
    let (target, counter) = (Target { device: device.clone(), dtype }, LoadCounter::default());
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
    let (target, counter) = (Target { device: device.clone(), dtype }, LoadCounter::default());
    let prefix = config.prefix.clone();
    Vae::load(&Weights::new(&file, &target, &counter, &prefix), config, dtype)
}
