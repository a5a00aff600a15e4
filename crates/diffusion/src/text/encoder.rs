//! Prompts to conditioning.

use candle_core::{D, DType, Device, Tensor};

use super::bpe::{END, START};
use super::chunks::{CHUNK_TOKENS, PromptWarning, Token, TokenizedPrompt, WeightedToken, tokenize_for};
use super::clip::{ClipTransformer, Stop};
use super::embedding::EmbeddingSet;
use crate::changes::OpenText;
use crate::checkpoint::{ClipConfig, LoadCounter, Target, Weights};
use crate::error::{Error, Result};
use crate::families::TextPart;

/// Which layer of the text transformer the conditioning is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClipSkip(Option<i64>);

impl ClipSkip {
    /// The layer that the family was trained with.
    pub const DEFAULT: Self = Self(None);
    /// The last layer.
    pub const LAST: Self = Self(Some(-1));

    /// Takes ComfyUI's `stop_at_clip_layer`: -1 is the last layer, -2 the one before it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] outside -24..=-1.
    pub fn new(stop_at_clip_layer: i64) -> Result<Self> {
        if (-24..=-1).contains(&stop_at_clip_layer) {
            return Ok(Self(Some(stop_at_clip_layer)));
        }
        Err(Error::InvalidArgument(format!(
            "`stop_at_clip_layer` is {stop_at_clip_layer}, expected -24 to -1"
        )))
    }

    /// Where to stop in a transformer of `layers` layers; a value below the first layer means the normalised last.
    fn stop(self, layers: usize, part: &TextPart) -> Stop {
        let left_out = usize::try_from(-1 - self.0.unwrap_or(part.layer)).unwrap_or(0);
        if left_out < layers {
            Stop { layers: layers - left_out, norm: part.norm }
        } else {
            Stop { layers, norm: true }
        }
    }
}

/// A prompt as the diffusion model is conditioned on it.
#[derive(Debug, Clone)]
pub struct TextEncoding {
    /// `[1, 77 n, D]` in f32, for the n chunks of the prompt.
    pub embedding: Tensor,
    /// `[1, P]` in f32: the last layer at the first chunk's end token, projected where the encoder has a projection.
    pub pooled: Tensor,
    /// The same before the projection, `[1, D]`.
    pub unprojected: Tensor,
    pub warnings: Vec<PromptWarning>,
}

/// The text part of a checkpoint: one encoder, or two side by side.
#[derive(Debug)]
pub struct ClipTextEncoder {
    towers: Vec<Tower>,
    device: Device,
    weight_bytes: u64,
}

/// One text encoder.
#[derive(Debug)]
struct Tower {
    part: TextPart,
    config: ClipConfig,
    transformer: ClipTransformer,
}

impl ClipTextEncoder {
    /// Loads the encoders, in the order their outputs are joined.
    pub(crate) fn load(encoders: Vec<OpenText>, device: &Device, dtype: DType) -> Result<Self> {
        let counter = LoadCounter::default();
        let mut towers = Vec::with_capacity(encoders.len());
        for OpenText { part, config, file, patches } in encoders {
            let target = Target { device: device.clone(), dtype, patches };
            let transformer = ClipTransformer::load(&Weights::new(&file, &target, &counter, ""), &config)?;
            towers.push(Tower { part, config, transformer });
        }
        if towers.is_empty() {
            return Err(Error::InvalidArgument("a text encoder has at least one part".into()));
        }
        Ok(Self { towers, device: device.clone(), weight_bytes: counter.bytes() })
    }

    /// The layouts of the encoders, in the order their outputs are joined.
    pub fn configs(&self) -> impl Iterator<Item = &ClipConfig> {
        self.towers.iter().map(|tower| &tower.config)
    }

    /// Memory that the weights take.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// Tokenizes and encodes a prompt, the same for every encoder.
    pub fn encode(&self, prompt: &str, skip: ClipSkip) -> Result<TextEncoding> {
        self.encode_with(prompt, skip, &EmbeddingSet::new())
    }

    /// As [`ClipTextEncoder::encode`], with the embeddings that the prompt names.
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn encode_with(
        &self,
        prompt: &str,
        skip: ClipSkip,
        embeddings: &EmbeddingSet,
    ) -> Result<TextEncoding> {
        let prompts = self.towers.iter().map(|tower| tower.tokenize(prompt, embeddings)).collect();
        self.encode_tokens(prompts, skip)
    }

    /// Tokenizes and encodes a prompt for each of two encoders.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if there are not two.
    pub fn encode_pair(
        &self,
        [first, second]: [&str; 2],
        skip: ClipSkip,
        embeddings: &EmbeddingSet,
    ) -> Result<TextEncoding> {
        let [one, two] = &self.towers[..] else {
            return Err(Error::InvalidArgument(
                "a prompt in two parts needs the two text encoders of Stable Diffusion XL".into(),
            ));
        };
        let mut prompts = vec![one.tokenize(first, embeddings), two.tokenize(second, embeddings)];
        let chunks = prompts.iter().map(|prompt| prompt.chunks.len()).max().unwrap_or(1);
        for (prompt, tower) in prompts.iter_mut().zip([one, two]) {
            prompt.chunks.resize(chunks, tower.empty_chunk());
        }
        self.encode_tokens(prompts, skip)
    }

    /// Encodes a tokenized prompt per encoder and joins their channels; the pooled text is the last encoder's.
    fn encode_tokens(&self, prompts: Vec<TokenizedPrompt>, skip: ClipSkip) -> Result<TextEncoding> {
        let mut embeddings = Vec::with_capacity(self.towers.len());
        let mut pooled = None;
        for (tower, prompt) in self.towers.iter().zip(&prompts) {
            let (embedding, last) = tower.encode(prompt, skip, &self.device)?;
            embeddings.push(embedding);
            pooled = Some((tower.transformer.project(&last)?, last));
        }
        let (pooled, unprojected) = pooled.expect("there is at least one encoder, `load` checks it");
        let mut warnings: Vec<PromptWarning> = Vec::new();
        for warning in prompts.into_iter().flat_map(|prompt| prompt.warnings) {
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
        }
        Ok(TextEncoding { embedding: Tensor::cat(&embeddings, D::Minus1)?, pooled, unprojected, warnings })
    }
}

impl Tower {
    fn tokenize(&self, prompt: &str, embeddings: &EmbeddingSet) -> TokenizedPrompt {
        tokenize_for(prompt, &self.part, self.config.width, embeddings)
    }

    fn empty_chunk(&self) -> Vec<WeightedToken> {
        let mut chunk = vec![WeightedToken::new(self.part.padding, 1.0); CHUNK_TOKENS];
        (chunk[0].token, chunk[1].token) = (Token::Id(START), Token::Id(END));
        chunk
    }

    /// Encodes a tokenized prompt to its embedding and its pooled text before the projection.
    ///
    /// # Source
    /// As ComfyUI: chunks are encoded apart and joined along the sequence; a weighted token is moved along the line
    /// from the empty prompt's state at its position.
    fn encode(&self, prompt: &TokenizedPrompt, skip: ClipSkip, device: &Device) -> Result<(Tensor, Tensor)> {
        let tokens = |chunk: &Vec<WeightedToken>| chunk.iter().map(|token| token.token).collect::<Vec<_>>();
        let mut chunks: Vec<Vec<Token>> = prompt.chunks.iter().map(tokens).collect();
        let count = chunks.len();
        let end = chunks.first().and_then(|chunk| chunk.iter().position(|&token| token == Token::Id(END)));
        let well_formed = chunks.iter().all(|chunk| chunk.len() == CHUNK_TOKENS);
        let (Some(end), true) = (end, well_formed) else {
            return Err(Error::InvalidArgument(format!(
                "a prompt is chunks of {CHUNK_TOKENS} tokens with an end"
            )));
        };
        let weighted = prompt.chunks.iter().flatten().any(|token| token.weight != 1.0);
        if weighted {
            chunks.push(tokens(&self.empty_chunk()));
        }
        let hidden = {
            let stop = skip.stop(self.config.layers, &self.part);
            self.transformer.forward(&chunks, &prompt.vectors, stop, device)?
        };
        let mut embedding = hidden.output.narrow(0, 0, count)?;
        if weighted {
            let empty = hidden.output.narrow(0, count, 1)?;
            embedding = weigh(&embedding, &empty, prompt)?;
        }
        let pooled = hidden.last.narrow(0, 0, 1)?.narrow(1, end, 1)?.squeeze(1)?;
        Ok((embedding.reshape((1, count * CHUNK_TOKENS, ()))?, pooled))
    }
}

fn weigh(embedding: &Tensor, empty: &Tensor, prompt: &TokenizedPrompt) -> Result<Tensor> {
    let weights: Vec<f32> = prompt.chunks.iter().flatten().map(|token| token.weight as f32).collect();
    let weights = Tensor::from_vec(weights, (prompt.chunks.len(), CHUNK_TOKENS, 1), embedding.device())?;
    let moved = embedding.broadcast_sub(empty)?.broadcast_mul(&weights)?.broadcast_add(empty)?;
    // Tokens of weight one keep their exact value instead of one that went through the subtraction.
    let plain = weights.eq(1f64)?.broadcast_as(embedding.shape())?;
    Ok(plain.where_cond(embedding, &moved)?)
}
