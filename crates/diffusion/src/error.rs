//! What can go wrong between a weight file and a picture.

use std::path::PathBuf;

use crate::checkpoint::HeaderProblem;

/// The result of every fallible function of this crate's model half.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors of loading and running models, told apart by what the caller can do about them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened or read.
    #[error("cannot read `{}`: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },

    /// The file is damaged, truncated, hostile or of another format.
    #[error("`{}` is not a valid safetensors file: {problem}", path.display())]
    Malformed { path: PathBuf, problem: HeaderProblem },

    /// The file is sound, but does not hold a part that this crate can run.
    #[error("`{}` has no usable {part}: {reason}", path.display())]
    Unsupported { path: PathBuf, part: &'static str, reason: String },

    /// A tensor that the detected layout needs is absent.
    #[error("tensor `{key}` is missing")]
    MissingTensor { key: String },

    /// A tensor's shape contradicts the rest of the file.
    #[error("tensor `{key}` has shape {found:?}, expected {expected:?}")]
    TensorShape { key: String, expected: Vec<usize>, found: Vec<usize> },

    /// A tensor is stored in a type that weights cannot be converted from.
    #[error(
        "tensor `{key}` is stored as `{found}`, expected one of `F64`, `F32`, `F16`, `BF16`, `F8_E4M3`, `F8_E5M2`"
    )]
    TensorType { key: String, found: String },

    /// An argument is outside what the operation accepts.
    #[error("{0}")]
    InvalidArgument(String),

    /// A tensor operation failed: out of memory, a shape mistake, a device error.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}
