//! Prompts to conditioning: prompt syntax, byte-pair encoding, chunking, and the CLIP text transformer.

mod bpe;
mod chunks;
mod clip;
mod encoder;
mod normalize;
mod prompt;

pub use chunks::{CHUNK_TOKENS, PromptWarning, TokenizedPrompt, WeightedToken, tokenize};
pub use encoder::{ClipSkip, ClipTextEncoder, TextEncoding};
