//! Weighted tokens in chunks of the length that the text transformer takes.

use super::bpe::{END, START, encode};
use super::prompt::{Piece, parse_weights, split_embeddings};

/// Tokens of a chunk, with its start and end.
pub const CHUNK_TOKENS: usize = 77;
/// A stretch of at least this many tokens is cut at the end of a chunk; a shorter one moves to the next.
const LONG_STRETCH: usize = 8;

/// A token and how strongly it counts against the empty prompt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WeightedToken {
    pub id: u32,
    pub weight: f64,
}

/// Something in a prompt that was left out; the rest still works.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PromptWarning {
    #[error("embedding `{name}` was left out: textual inversion files are not supported yet")]
    EmbeddingIgnored { name: String },
}

/// A prompt as the text transformer reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenizedPrompt {
    /// At least one chunk, each of [`CHUNK_TOKENS`] tokens.
    pub chunks: Vec<Vec<WeightedToken>>,
    pub warnings: Vec<PromptWarning>,
}

/// Tokenizes a prompt with weights, as ComfyUI does for SD1.
pub fn tokenize(prompt: &str) -> TokenizedPrompt {
    tokenize_padded(prompt, END)
}

/// Tokenizes a prompt for a text encoder that was trained with `padding` after the end of a chunk.
pub fn tokenize_padded(prompt: &str, padding: u32) -> TokenizedPrompt {
    let mut warnings = Vec::new();
    let mut chunks = Chunks::new(padding);
    for segment in parse_weights(prompt) {
        for piece in split_embeddings(&segment.text) {
            let text = match piece {
                Piece::Text(text) => text,
                Piece::Embedding { name, rest } => {
                    let bare = name.trim_end_matches(',');
                    warnings.push(PromptWarning::EmbeddingIgnored { name: bare.to_owned() });
                    format!("{} {rest}", &name[bare.len()..])
                }
            };
            chunks.add(&encode(&text), segment.weight);
        }
    }
    TokenizedPrompt { chunks: chunks.finish(), warnings }
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
        chunk.push(WeightedToken { id: START, weight: 1.0 });
        chunk
    }

    fn add(&mut self, mut ids: &[u32], weight: f64) {
        let may_be_cut = ids.len() >= LONG_STRETCH;
        loop {
            // One place is kept for the end token.
            let room = CHUNK_TOKENS - 1 - self.current.len();
            let fits = match (ids.len() <= room, may_be_cut) {
                (true, _) => ids.len(),
                (false, true) => room,
                (false, false) => 0,
            };
            let (now, later) = ids.split_at(fits);
            self.current.extend(now.iter().map(|&id| WeightedToken { id, weight }));
            if later.is_empty() {
                return;
            }
            self.close();
            ids = later;
        }
    }

    /// Ends the current chunk and fills it up.
    fn close(&mut self) {
        let mut chunk = std::mem::replace(&mut self.current, Self::started());
        chunk.push(WeightedToken { id: END, weight: 1.0 });
        chunk.resize(CHUNK_TOKENS, WeightedToken { id: self.padding, weight: 1.0 });
        self.finished.push(chunk);
    }

    fn finish(mut self) -> Vec<Vec<WeightedToken>> {
        self.close();
        self.finished
    }
}
