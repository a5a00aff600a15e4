//! Why a file is refused.

use std::io;

/// The result of every fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors, told apart by what the caller can do about them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened, read or written.
    #[error("cannot read or write: {0}")]
    Io(io::Error),

    /// The file is of another format.
    #[error("it is not a PyTorch checkpoint: {0}")]
    NotPytorch(&'static str),

    /// The file is a PyTorch file of a kind that is not read.
    #[error("{0}")]
    Unsupported(String),

    /// The file is truncated, damaged or built to deceive.
    #[error("the file is damaged: {0}")]
    Damaged(String),

    /// The pickle names something that tensors do not need and that could run code.
    #[error("it refers to `{0}`, which tensors do not need, so it is refused")]
    Refused(String),

    /// The file asks for more than any real checkpoint does.
    #[error("it has more than {limit} {what}")]
    Limit { what: &'static str, limit: u64 },

    /// A tensor does not fit into the file.
    #[error("tensor `{name}`: {problem}")]
    Tensor { name: String, problem: String },
}

impl Error {
    pub(crate) fn damaged(problem: impl Into<String>) -> Self {
        Self::Damaged(problem.into())
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Self::damaged("it ends too early")
        } else {
            Self::Io(error)
        }
    }
}

/// Fails when a count is over its limit.
pub(crate) fn check_limit(what: &'static str, count: u64, limit: u64) -> Result<()> {
    if count > limit { Err(Error::Limit { what, limit }) } else { Ok(()) }
}
