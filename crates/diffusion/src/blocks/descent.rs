//! The descending half of a UNet with its middle, which is what networks for control signals are made of.

use candle_core::{DType, Tensor};

use super::AttentionPrecision;
use super::changes::{Place, UnetChanges};
use super::embedder::Embedder;
use super::unet::{Input, Middle, load_middle};
use crate::checkpoint::{UnetConfig, Weights};
use crate::error::{Error, Result};

/// A UNet without its ascending half.
#[derive(Debug)]
pub(crate) struct Descent {
    config: UnetConfig,
    dtype: DType,
    embedder: Embedder,
    blocks: Vec<Input>,
    middle: Middle,
}

/// What a [`Descent`] is given.
pub(crate) struct DescentInputs<'a> {
    /// `[B, in_channels, h, w]`.
    pub x: &'a Tensor,
    /// `[B]` f32.
    pub timesteps: &'a Tensor,
    /// `[B, T, context_dim]`; of no use to a network without transformers.
    pub context: &'a Tensor,
    /// `[B, adm_channels]`; networks that take none leave it alone.
    pub vector: Option<&'a Tensor>,
    /// Added to the embedding of the timestep, `[1, E]`.
    pub embedding: Option<&'a Tensor>,
    /// Added to what the first block gives, `[B, C, h, w]` or `[1, C, h, w]`.
    pub guide: &'a Tensor,
}

impl Descent {
    /// Loads the network; `weights` stands at its key prefix.
    pub(crate) fn load(
        weights: &Weights<'_>,
        config: UnetConfig,
        dtype: DType,
        precision: AttentionPrecision,
    ) -> Result<Self> {
        Ok(Self {
            dtype,
            embedder: Embedder::load(weights, &config, dtype)?,
            blocks: Input::load_all(weights, &config, precision)?,
            middle: load_middle(&weights.part("middle_block"), &config, precision)?,
            config,
        })
    }

    pub(crate) fn config(&self) -> &UnetConfig {
        &self.config
    }

    /// Returns what every block gives, and the middle.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the network needs a vector and gets none.
    pub(crate) fn forward(&self, inputs: &DescentInputs<'_>) -> Result<(Vec<Tensor>, Tensor)> {
        if self.embedder.takes_vector() && inputs.vector.is_none() {
            let reason = "the control network takes a vector that this model has not";
            return Err(Error::InvalidArgument(reason.into()));
        }
        let embedding =
            self.embedder.forward(inputs.timesteps, inputs.vector, inputs.embedding, inputs.x.device())?;
        let context = inputs.context.to_dtype(self.dtype)?;
        let mut h = inputs.x.to_dtype(self.dtype)?;
        let latent = [h.dim(2)?, h.dim(3)?];
        // What changes the attention of the network that is steered leaves this one alone.
        let (changes, first_width) = (UnetChanges::default(), self.config.model_channels);
        let mut place = Place { changes, latent, first_width, middle: false, transformer: 0 };
        let mut given = Vec::with_capacity(self.blocks.len());
        for (i, block) in self.blocks.iter().enumerate() {
            h = match block {
                Input::Convolution(convolution) => convolution.forward(&h)?,
                Input::Stage(stage) => stage.forward(&h, &embedding, &context, &mut place)?,
            };
            if i == 0 {
                h = h.broadcast_add(inputs.guide)?;
            }
            given.push(h.clone());
        }
        if let Some(stage) = &self.middle.0 {
            h = stage.forward(&h, &embedding, &context, &mut place)?;
        }
        if let Some(residual) = &self.middle.1 {
            h = residual.forward(&h, Some(&embedding))?;
        }
        Ok((given, h))
    }
}
