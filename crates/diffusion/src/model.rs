//! Loads the parts of a checkpoint, each on its own, so that a service can cache them apart.

use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::adapters::UsedAdapter;
use crate::blocks::{AttentionPrecision, Unet, UnetChanges};
use crate::changes::{Change, ModelSource, OpenModel, Patches, TextFiles, TextSource};
use crate::checkpoint::{Float8, LoadCounter, Target, UnetConfig, VaeConfig, WeightFile, Weights};
use crate::control::{ControlCall, ControlNetwork};
use crate::error::{Error, Result};
use crate::families::{ExtraInputs, Extras, Family, NoiseAugmentation, Side, Start, Training, VectorInput};
use crate::sampling::{ModelInputs, NoiseSchedule, Prediction};
use crate::text::ClipTextEncoder;
use crate::vae::Vae;

/// The diffusion part of a checkpoint: a network and what its family says about using it.
#[derive(Debug)]
pub struct DiffusionModel {
    family: Family,
    training: Training,
    unet: Unet,
    noise_augmentation: NoiseAugmentation,
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
        self.family.latent_scale()
    }

    /// Channels of the latents that samplers work on.
    pub fn latent_channels(&self) -> usize {
        self.unet.config().out_channels
    }

    /// What the network was trained to predict.
    pub fn prediction(&self) -> Prediction {
        self.training.prediction
    }

    /// The noise levels that the network was trained on.
    pub fn schedule(&self) -> &NoiseSchedule {
        &self.training.schedule
    }

    /// Builds what the network is given besides the text.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if something that it needs is missing or of a wrong shape.
    pub fn extra_inputs(&self, extras: &Extras, side: Side, start: &Start<'_>) -> Result<ExtraInputs> {
        let mut inputs = self.family.extra_inputs(extras, side, start)?;
        if self.family.vector_input() == VectorInput::Pictures {
            let width = self.unet.config().adm_channels.unwrap_or_default();
            let (pictures, device) = (&extras.pictures, start.latent.device());
            inputs.vector = Some(self.noise_augmentation.vector(pictures, width, start.seed, device)?);
        }
        Ok(inputs)
    }

    /// Checks that a prompt was encoded for this model.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if it was not.
    pub fn check_text(&self, embedding: &Tensor) -> Result<()> {
        let (found, expected) = (embedding.dims().last().copied(), self.unet.config().context_dim);
        if found == Some(expected) {
            return Ok(());
        }
        Err(Error::InvalidArgument(format!(
            "the prompt was encoded {} wide, this {} model takes {expected}: encode it with the model's own text encoder",
            found.unwrap_or_default(),
            self.family
        )))
    }

    /// Checks that a control network was made for models like this one.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if it was not.
    pub fn check_control(&self, control: &ControlNetwork) -> Result<()> {
        control.check(self.unet.config())
    }

    /// Runs the network; see [`Unet::forward`].
    ///
    /// # Shapes
    /// `x` is `[B, latent_channels, h, w]`; the channels that a family takes besides come with `inputs`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if shapes do not match the network or each other.
    pub fn forward(&self, x: &Tensor, timesteps: &Tensor, inputs: &ModelInputs) -> Result<Tensor> {
        self.forward_with(x, timesteps, inputs, UnetChanges::default())
    }

    /// As [`DiffusionModel::forward`], changed in the ways that `changes` names.
    ///
    /// # Errors
    /// As [`DiffusionModel::forward`].
    pub fn forward_with(
        &self,
        x: &Tensor,
        timesteps: &Tensor,
        inputs: &ModelInputs,
        changes: UnetChanges<'_>,
    ) -> Result<Tensor> {
        let (context, vector) = (&inputs.context, inputs.vector.as_ref());
        let call = ControlCall { x, timesteps, context, vector };
        let signals = inputs.control.as_ref().map(|control| control.signals(&call)).transpose()?;
        let grounding = inputs.grounding.as_ref();
        let changes = UnetChanges { control: signals.as_ref(), grounding, ..changes };
        let x = match &inputs.concat {
            None => x.clone(),
            Some(concat) if concat.rank() == 4 && concat.dims().get(2..) == x.dims().get(2..) => {
                Tensor::cat(&[x, &concat.to_dtype(x.dtype())?], 1)?
            }
            Some(concat) => {
                return Err(Error::InvalidArgument(format!(
                    "channels of shape {:?} do not go with a latent of shape {:?}",
                    concat.dims(),
                    x.dims()
                )));
            }
        };
        self.unet.forward_with(&x, timesteps, (context, vector), changes)
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
    let changes = adapters.iter().cloned().map(Change::Adapter).collect();
    load_model_from(&ModelSource { path: path.into(), stored_as, changes }, device, dtype)
}

/// Loads a diffusion model with everything that is changed about it.
///
/// # Errors
/// As [`load_model`]; also if something that it is merged with cannot be used.
pub fn load_model_from(source: &ModelSource, device: &Device, dtype: DType) -> Result<DiffusionModel> {
    let OpenModel { file, family, config, stored_as, patches } = source.open()?;
    let (target, counter) = (Target { device: device.clone(), dtype, patches }, LoadCounter::default());
    let weights = Weights::new(&file, &target, &counter, UnetConfig::PREFIX).stored_as(stored_as);
    let precision = match family.needs_f32_attention() {
        true => AttentionPrecision::F32,
        false => AttentionPrecision::Weights,
    };
    let unet = Unet::load(&weights, config, dtype, precision)?;
    Ok(DiffusionModel {
        training: family.training(&file)?,
        noise_augmentation: NoiseAugmentation::load(&file)?,
        family,
        unet,
        device: device.clone(),
        weight_bytes: counter.bytes(),
    })
}

/// Loads the text encoders of a checkpoint, or the CLIP-L of a file that holds only the encoder, changed by
/// `adapters`.
///
/// # Errors
/// [`Error::Unsupported`] if one is not in a known place; otherwise what reading the file gives.
pub fn load_clip(
    path: &Path,
    device: &Device,
    dtype: DType,
    adapters: &[UsedAdapter],
) -> Result<ClipTextEncoder> {
    let changes = adapters.iter().cloned().map(Change::Adapter).collect();
    load_clip_from(&TextSource { files: TextFiles::Checkpoint(path.into()), changes }, device, dtype)
}

/// Loads text encoders with everything that is changed about them.
///
/// # Errors
/// [`Error::Unsupported`] if a file holds no text encoder or no family takes these together; otherwise what reading
/// the files gives.
pub fn load_clip_from(source: &TextSource, device: &Device, dtype: DType) -> Result<ClipTextEncoder> {
    ClipTextEncoder::load(source.open()?, device, dtype)
}

/// Loads the autoencoder of a checkpoint, or of a file that holds only the autoencoder.
///
/// # Errors
/// [`Error::Unsupported`] if there is none; otherwise what reading the file gives.
pub fn load_vae(path: &Path, device: &Device, dtype: DType) -> Result<Vae> {
    let file = WeightFile::open(path)?;
    if Vae::is_tiny(file.header()) {
        let (target, counter) =
            (Target { device: device.clone(), dtype, patches: Patches::default() }, LoadCounter::default());
        return Vae::load_joint_tiny(&file, &Weights::new(&file, &target, &counter, ""), dtype);
    }
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
