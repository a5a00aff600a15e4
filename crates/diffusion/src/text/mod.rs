//! Prompts to conditioning: prompt syntax, byte-pair encoding, chunking, and the CLIP text transformer.

mod bpe;
mod chunks;
mod clip;
mod encoder;
mod normalize;
mod prompt;

pub(crate) use bpe::END;
pub use chunks::{CHUNK_TOKENS, PromptWarning, TokenizedPrompt, WeightedToken, tokenize, tokenize_padded};
pub use encoder::{ClipSkip, ClipTextEncoder, TextEncoding};
