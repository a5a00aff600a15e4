//! Prompts to conditioning.

use candle_core::{Device, Tensor};

use super::bpe::{END, START};
use super::chunks::{CHUNK_TOKENS, PromptWarning, TokenizedPrompt, tokenize};
use super::clip::ClipTransformer;
use crate::checkpoint::{ClipConfig, Weights};
use crate::error::{Error, Result};

/// Which layer of the text transformer the conditioning is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClipSkip(i64);

impl ClipSkip {
    /// The last layer, which is what the family was trained with.
    pub const LAST: Self = Self(-1);

    /// Takes ComfyUI's `stop_at_clip_layer`: -1 is the last layer, -2 the one before it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] outside -24..=-1.
    pub fn new(stop_at_clip_layer: i64) -> Result<Self> {
        if (-24..=-1).contains(&stop_at_clip_layer) {
            return Ok(Self(stop_at_clip_layer));
        }
        Err(Error::InvalidArgument(format!(
            "`stop_at_clip_layer` is {stop_at_clip_layer}, expected -24 to -1"
        )))
    }

    /// How many of `layers` layers to run; a value below the first layer means the last one.
    fn layers(self, layers: usize) -> usize {
        let left_out = usize::try_from(-1 - self.0).expect("the value was checked to be negative");
        if left_out < layers { layers - left_out } else { layers }
    }
}

/// A prompt as the diffusion model is conditioned on it.
#[derive(Debug, Clone)]
pub struct TextEncoding {
    /// `[1, 77 n, D]` in f32, for the n chunks of the prompt.
    pub embedding: Tensor,
    /// `[1, D]` in f32: the last layer at the first chunk's end token.
    pub pooled: Tensor,
    pub warnings: Vec<PromptWarning>,
}

/// The text part of a checkpoint.
#[derive(Debug)]
pub struct ClipTextEncoder {
    config: ClipConfig,
    transformer: ClipTransformer,
    device: Device,
    weight_bytes: u64,
}

impl ClipTextEncoder {
    pub(crate) fn load(weights: &Weights<'_>, config: ClipConfig, device: &Device) -> Result<Self> {
        let transformer = ClipTransformer::load(weights, &config)?;
        Ok(Self { config, transformer, device: device.clone(), weight_bytes: weights.loaded_bytes() })
    }

    pub fn config(&self) -> &ClipConfig {
        &self.config
    }

    /// Memory that the weights take.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// Tokenizes and encodes a prompt.
    pub fn encode(&self, prompt: &str, skip: ClipSkip) -> Result<TextEncoding> {
        self.encode_tokens(&tokenize(prompt), skip)
    }

    /// Encodes a tokenized prompt.
    ///
    /// # Source
    /// As ComfyUI for SD1: chunks are encoded apart and joined along the sequence; a weighted token is moved along
    /// the line from the empty prompt's state at its position; the norm is applied to skipped layers too.
    pub fn encode_tokens(&self, prompt: &TokenizedPrompt, skip: ClipSkip) -> Result<TextEncoding> {
        let mut chunks: Vec<Vec<u32>> =
            prompt.chunks.iter().map(|chunk| chunk.iter().map(|token| token.id).collect()).collect();
        let count = chunks.len();
        let end = chunks.first().and_then(|chunk| chunk.iter().position(|&id| id == END));
        let well_formed = chunks.iter().all(|chunk| chunk.len() == CHUNK_TOKENS);
        let (Some(end), true) = (end, well_formed) else {
            return Err(Error::InvalidArgument(format!(
                "a prompt is chunks of {CHUNK_TOKENS} tokens with an end"
            )));
        };
        let weighted = prompt.chunks.iter().flatten().any(|token| token.weight != 1.0);
        if weighted {
            let mut empty = vec![END; CHUNK_TOKENS];
            empty[0] = START;
            chunks.push(empty);
        }
        let hidden = self.transformer.forward(&chunks, skip.layers(self.config.layers), &self.device)?;
        let mut embedding = hidden.output.narrow(0, 0, count)?;
        if weighted {
            let empty = hidden.output.narrow(0, count, 1)?;
            embedding = self.weigh(&embedding, &empty, prompt)?;
        }
        Ok(TextEncoding {
            embedding: embedding.reshape((1, count * CHUNK_TOKENS, ()))?,
            pooled: hidden.last.narrow(0, 0, 1)?.narrow(1, end, 1)?.squeeze(1)?,
            warnings: prompt.warnings.clone(),
        })
    }

    fn weigh(&self, embedding: &Tensor, empty: &Tensor, prompt: &TokenizedPrompt) -> Result<Tensor> {
        let weights: Vec<f32> = prompt.chunks.iter().flatten().map(|token| token.weight as f32).collect();
        let weights = Tensor::from_vec(weights, (prompt.chunks.len(), CHUNK_TOKENS, 1), &self.device)?;
        let moved = embedding.broadcast_sub(empty)?.broadcast_mul(&weights)?.broadcast_add(empty)?;
        // Tokens of weight one keep their exact value instead of one that went through the subtraction.
        let plain = weights.eq(1f64)?.broadcast_as(embedding.shape())?;
        Ok(plain.where_cond(embedding, &moved)?)
    }
}
