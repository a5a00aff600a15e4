//! What every block of a UNet is told: the timestep, and the vector of the families that take one.

use candle_core::{DType, Device, Tensor};

use super::layers::Linear;
use super::timestep::timestep_embedding;
use crate::checkpoint::{UnetConfig, Weights};
use crate::error::Result;

/// Embeds timesteps and vectors, each by two layers.
#[derive(Debug)]
pub(super) struct Embedder {
    width: usize,
    dtype: DType,
    time: [Linear; 2],
    vector: Option<[Linear; 2]>,
}

impl Embedder {
    /// Loads the layers; `weights` stands at the network's key prefix.
    pub(super) fn load(weights: &Weights<'_>, config: &UnetConfig, dtype: DType) -> Result<Self> {
        let embed = config.time_embed_dim;
        let pair = |names: [&str; 2], width| -> Result<[Linear; 2]> {
            Ok([
                Linear::load(&weights.part(names[0]), width, embed)?,
                Linear::load(&weights.part(names[1]), embed, embed)?,
            ])
        };
        let vector = |width| pair(["label_emb.0.0", "label_emb.0.2"], width);
        Ok(Self {
            width: config.model_channels,
            dtype,
            time: pair(["time_embed.0", "time_embed.2"], config.model_channels)?,
            vector: config.adm_channels.map(vector).transpose()?,
        })
    }

    /// Whether the network takes a vector.
    pub(super) fn takes_vector(&self) -> bool {
        self.vector.is_some()
    }

    /// Returns the sum of what is embedded and of what is `added`, after the SiLU that every block applies first. A
    /// vector is left alone by networks that take none.
    ///
    /// # Shapes
    /// `timesteps` is `[B]`, `vector` `[B, V]`, `added` `[B, E]` or `[1, E]`; the result is `[B, E]`.
    pub(super) fn forward(
        &self,
        timesteps: &Tensor,
        vector: Option<&Tensor>,
        added: Option<&Tensor>,
        device: &Device,
    ) -> Result<Tensor> {
        let time = timestep_embedding(timesteps, self.width, device)?;
        let mut embedding = both(&self.time, &time.to_dtype(self.dtype)?)?;
        if let Some(added) = added {
            embedding = embedding.broadcast_add(added)?;
        }
        if let (Some(layers), Some(vector)) = (&self.vector, vector) {
            embedding = (embedding + both(layers, &vector.to_dtype(self.dtype)?)?)?;
        }
        Ok(embedding.silu()?)
    }
}

fn both(layers: &[Linear; 2], x: &Tensor) -> Result<Tensor> {
    layers[1].forward(&layers[0].forward(x)?.silu()?)
}
