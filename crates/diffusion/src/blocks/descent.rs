//! The descending half of a UNet with its middle, which is what networks for control signals are made of.

use candle_core::{DType, Tensor};

use super::changes::{Place, UnetChanges};
use super::unet::{Input, Middle, embed, load_embedding, load_middle};
use super::{AttentionPrecision, Linear, timestep_embedding};
use crate::checkpoint::{UnetConfig, Weights};
use crate::error::{Error, Result};

/// A UNet without its ascending half.
#[derive(Debug)]
pub(crate) struct Descent {
    config: UnetConfig,
    dtype: DType,
    time_embed: [Linear; 2],
    vector_embed: Option<[Linear; 2]>,
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
        let (stem, embed) = (config.model_channels, config.time_embed_dim);
        let vector_embed = config
            .adm_channels
            .map(|width| load_embedding(weights, ["label_emb.0.0", "label_emb.0.2"], [width, embed]))
            .transpose()?;
        Ok(Self {
            dtype,
            time_embed: load_embedding(weights, ["time_embed.0", "time_embed.2"], [stem, embed])?,
            vector_embed,
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
        let embedding = self.embedding(inputs)?;
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

    /// The embedding of timestep and vector after its SiLU.
    fn embedding(&self, inputs: &DescentInputs<'_>) -> Result<Tensor> {
        let x = timestep_embedding(inputs.timesteps, self.config.model_channels, inputs.x.device())?;
        let mut embedding = embed(&self.time_embed, &x.to_dtype(self.dtype)?)?;
        if let Some(added) = inputs.embedding {
            embedding = embedding.broadcast_add(added)?;
        }
        if let Some(layers) = &self.vector_embed {
            let vector = inputs.vector.ok_or_else(|| {
                Error::InvalidArgument("the control network takes a vector that this model has not".into())
            })?;
            embedding = (embedding + embed(layers, &vector.to_dtype(self.dtype)?)?)?;
        }
        Ok(embedding.silu()?)
    }
}
