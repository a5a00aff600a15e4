//! Prompts to conditioning: prompt syntax, byte-pair encoding, chunking, and the CLIP text transformer.

mod bpe;
mod chunks;
mod clip;
mod embedding;
mod encoder;
mod files;
mod normalize;
mod prompt;

pub(crate) use bpe::END;
pub use chunks::{CHUNK_TOKENS, PromptWarning, Token, TokenizedPrompt, WeightedToken, tokenize};
pub use embedding::{Embedding, EmbeddingSet, embedding_names};
pub use encoder::{ClipSkip, ClipTextEncoder, TextEncoding};
pub use files::{EncoderKind, encoder_kind};
pub(crate) use files::{family_of, place};
