//! Weighted tokens in chunks of the length that the text transformer takes.

use super::bpe::{END, START, encode};
use super::embedding::EmbeddingSet;
use super::prompt::{Piece, parse_weights, split_embeddings};
use crate::families::TextPart;

/// Tokens of a chunk, with its start and end.
pub const CHUNK_TOKENS: usize = 77;
/// A stretch of at least this many tokens is cut at the end of a chunk; a shorter one moves to the next.
const LONG_STRETCH: usize = 8;

/// What stands at one position of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// A word of the vocabulary.
    Id(u32),
    /// A vector of an embedding file, by its place among [`TokenizedPrompt::vectors`].
    Vector(usize),
}

/// A token and how strongly it counts against the empty prompt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WeightedToken {
    pub token: Token,
    pub weight: f64,
}

impl WeightedToken {
    /// A word of the vocabulary.
    pub fn new(id: u32, weight: f64) -> Self {
        Self { token: Token::Id(id), weight }
    }
}

/// Something in a prompt that was left out; the rest still works.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PromptWarning {
    #[error("embedding `{name}` was left out: there is no usable file of that name")]
    EmbeddingMissing { name: String },
    #[error("embedding `{name}` was left out of {encoder}: it is {found} wide, the encoder takes {expected}")]
    EmbeddingWidth { name: String, encoder: &'static str, found: usize, expected: usize },
}

/// A prompt as the text transformer reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenizedPrompt {
    /// At least one chunk, each of [`CHUNK_TOKENS`] tokens.
    pub chunks: Vec<Vec<WeightedToken>>,
    pub vectors: Vec<Vec<f32>>,
    pub warnings: Vec<PromptWarning>,
}

/// Tokenizes a prompt with weights, as ComfyUI does for SD1, without any embeddings.
pub fn tokenize(prompt: &str) -> TokenizedPrompt {
    let [part] = crate::families::Family::Sd1.text() else { unreachable!("it has one text encoder") };
    tokenize_for(prompt, part, 0, &EmbeddingSet::new())
}

/// Tokenizes a prompt for a text encoder of the given width.
///
/// # Source
/// As ComfyUI: the vectors of an embedding take the place of a word of as many tokens; those of another width are
/// taken out once the chunks are made, and the chunk is filled up.
pub(super) fn tokenize_for(
    prompt: &str,
    part: &TextPart,
    width: usize,
    embeddings: &EmbeddingSet,
) -> TokenizedPrompt {
    let mut prompts = TokenizedPrompt { chunks: Vec::new(), vectors: Vec::new(), warnings: Vec::new() };
    let mut chunks = Chunks::new(part.padding);
    for segment in parse_weights(prompt) {
        for piece in split_embeddings(&segment.text) {
            let text = match piece {
                Piece::Text(text) => text,
                Piece::Embedding { name, rest } => {
                    let (used, behind) = prompts.add_embedding(&name, part, width, embeddings);
                    chunks.add(&used, segment.weight);
                    format!("{behind} {rest}")
                }
            };
            let ids: Vec<Token> = encode(&text).into_iter().map(Token::Id).collect();
            chunks.add(&ids, segment.weight);
        }
    }
    prompts.chunks = chunks.finish();
    prompts.leave_out_other_widths(width, part.padding);
    prompts
}

impl TokenizedPrompt {
    /// Returns the tokens of an embedding and the part of `name` that is no name but text behind it.
    fn add_embedding<'a>(
        &mut self,
        name: &'a str,
        part: &TextPart,
        width: usize,
        embeddings: &EmbeddingSet,
    ) -> (Vec<Token>, &'a str) {
        let bare = name.trim_matches(',');
        let (found, behind) = match (embeddings.get(name), embeddings.get(bare)) {
            (Some(whole), _) => (Some(whole), ""),
            (None, bare_one) => (bare_one, &name[bare.len()..]),
        };
        let Some(vectors) = found.map(|embedding| embedding.for_encoder(part.name)) else {
            self.warnings.push(PromptWarning::EmbeddingMissing { name: bare.to_owned() });
            return (Vec::new(), behind);
        };
        if vectors.width != width {
            self.warnings.push(PromptWarning::EmbeddingWidth {
                name: bare.to_owned(),
                encoder: part.name,
                found: vectors.width,
                expected: width,
            });
        }
        let first = self.vectors.len();
        self.vectors.extend(vectors.rows().map(<[f32]>::to_vec));
        ((first..self.vectors.len()).map(Token::Vector).collect(), behind)
    }

    fn leave_out_other_widths(&mut self, width: usize, padding: u32) {
        let fits = |token: &WeightedToken| match token.token {
            Token::Id(_) => true,
            Token::Vector(index) => self.vectors[index].len() == width,
        };
        for chunk in &mut self.chunks {
            chunk.retain(fits);
            chunk.resize(CHUNK_TOKENS, WeightedToken::new(padding, 1.0));
        }
    }
}

struct Chunks {
    finished: Vec<Vec<WeightedToken>>,
    current: Vec<WeightedToken>,
    padding: u32,
}

impl Chunks {
    fn new(padding: u32) -> Self {
        Self { finished: Vec::new(), current: Self::started(), padding }
    }

    fn started() -> Vec<WeightedToken> {
        let mut chunk = Vec::with_capacity(CHUNK_TOKENS);
        chunk.push(WeightedToken::new(START, 1.0));
        chunk
    }

    fn add(&mut self, mut tokens: &[Token], weight: f64) {
        let may_be_cut = tokens.len() >= LONG_STRETCH;
        loop {
            // One place is kept for the end token.
            let room = CHUNK_TOKENS - 1 - self.current.len();
            let fits = match (tokens.len() <= room, may_be_cut) {
                (true, _) => tokens.len(),
                (false, true) => room,
                (false, false) => 0,
            };
            let (now, later) = tokens.split_at(fits);
            self.current.extend(now.iter().map(|&token| WeightedToken { token, weight }));
            if later.is_empty() {
                return;
            }
            self.close();
            tokens = later;
        }
    }

    /// Ends the current chunk and fills it up.
    fn close(&mut self) {
        let mut chunk = std::mem::replace(&mut self.current, Self::started());
        chunk.push(WeightedToken::new(END, 1.0));
        chunk.resize(CHUNK_TOKENS, WeightedToken::new(self.padding, 1.0));
        self.finished.push(chunk);
    }

    fn finish(mut self) -> Vec<Vec<WeightedToken>> {
        self.close();
        self.finished
    }
}
