//! Textual inversion: words of a prompt whose vectors are in a file.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use safetensors::Dtype;

use super::prompt::{Piece, parse_weights, split_embeddings};
use crate::checkpoint::{CheckpointHeader, TensorInfo, WeightFile};
use crate::error::{Error, Result};

/// The vectors of a prompt are a few hundred kilobytes; a file larger than this is something else.
const MAX_BYTES: u64 = 64 << 20;
/// Where web UIs keep the vectors in files of their own format.
const WEB_UI: &str = "string_to_param.";
/// Names that begin so are embeddings that a LoRA file brings along.
const BUNDLED: &str = "bundle_emb.";
const BUNDLED_WEB_UI: &str = ".string_to_param.*";

/// The embeddings that the prompts of a job may name.
pub type EmbeddingSet = HashMap<String, Arc<Embedding>>;

/// The names under which a prompt's embeddings may be found. White space ends a name; a comma may belong to it.
pub fn embedding_names(prompt: &str) -> Vec<String> {
    let mut names = Vec::new();
    for segment in parse_weights(prompt) {
        for piece in split_embeddings(&segment.text) {
            let Piece::Embedding { name, .. } = piece else { continue };
            names.push(name.trim_matches(',').to_owned());
            names.push(name);
        }
    }
    names.sort();
    names.dedup();
    names.retain(|name| !name.is_empty());
    names
}

/// The vectors of an embedding file.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// By tensor name, in order.
    tensors: Vec<(String, Vectors)>,
}

/// Rows of equal width.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Vectors {
    pub width: usize,
    values: Vec<f32>,
}

impl Vectors {
    pub(super) fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.width)
    }
}

/// Whether a tensor may hold the vectors of words.
fn is_vectors(info: &TensorInfo) -> bool {
    let numbers = matches!(info.dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16);
    numbers && matches!(info.shape[..], [width] | [_, width] if width > 0) && info.bytes > 0
}

impl Embedding {
    /// Says why a file is no embedding.
    pub fn refusal(header: &CheckpointHeader) -> Option<String> {
        if header.file_bytes() > MAX_BYTES {
            return Some(format!("its {} bytes are too many for an embedding", header.file_bytes()));
        }
        let found = header.tensors().any(|(_, info)| is_vectors(info));
        (!found).then(|| "there is no embedding in it".to_owned())
    }

    /// Reads an embedding file.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if it holds no vectors; otherwise what reading the file gives.
    pub fn open(path: &Path) -> Result<Self> {
        let file = WeightFile::open(path)?;
        if let Some(reason) = Self::refusal(file.header()) {
            return Err(Error::Unsupported { path: path.into(), part: "embedding", reason });
        }
        let mut tensors = Vec::new();
        for (name, info) in file.header().tensors().filter(|(_, info)| is_vectors(info)) {
            let width = *info.shape.last().unwrap_or(&1);
            tensors.push((name.to_owned(), Vectors { width, values: file.read_f32(name, info)? }));
        }
        Ok(Self { tensors })
    }

    /// The vectors for a text encoder: those of its name, or the only ones.
    ///
    /// # Source
    /// The order in which ComfyUI looks: a web UI's own format, the encoder's name, bundles, whatever is first.
    pub(super) fn for_encoder(&self, encoder: &str) -> Vectors {
        let first = |fits: &dyn Fn(&str) -> bool| {
            self.tensors.iter().find(|(name, _)| fits(name)).map(|(_, vectors)| vectors.clone())
        };
        first(&|name| name.starts_with(WEB_UI))
            .or_else(|| first(&|name| name == encoder))
            .or_else(|| self.bundled(BUNDLED_WEB_UI))
            .or_else(|| self.bundled(&format!(".{encoder}")))
            .or_else(|| first(&|_| true))
            .expect("a file without vectors is refused")
    }

    /// All bundled vectors whose names end so, below each other.
    fn bundled(&self, end: &str) -> Option<Vectors> {
        let fits = |name: &str| name.starts_with(BUNDLED) && name.ends_with(end);
        let mut found = self.tensors.iter().filter(|(name, _)| fits(name)).map(|(_, vectors)| vectors);
        let mut all = found.next()?.clone();
        for more in found {
            if more.width == all.width {
                all.values.extend(&more.values);
            }
        }
        Some(all)
    }
}
