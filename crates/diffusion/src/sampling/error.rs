//! Errors of the sampling half of the crate.

/// Says why a sampling run could not be set up or did not finish.
#[derive(Debug, thiserror::Error)]
pub enum SamplingError {
    /// A name is not in a table.
    #[error("unknown {kind} `{name}`, expected one of {valid}")]
    Unknown { kind: &'static str, name: String, valid: String },
    /// A figure or a shape cannot be used.
    #[error("invalid `{field}`: {reason}")]
    Invalid { field: &'static str, reason: String },
    /// The request is understood but this build cannot serve it.
    #[error("`{feature}` is not supported here: {reason}")]
    Unsupported { feature: &'static str, reason: String },
    /// The run was cancelled between two steps.
    #[error("sampling was cancelled")]
    Cancelled,
    /// A tensor operation or the model itself failed.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
}

impl SamplingError {
    pub(super) fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid { field, reason: reason.into() }
    }

    /// Builds the error of a failed table lookup, naming the valid choices.
    pub(super) fn unknown<'a>(kind: &'static str, name: &str, valid: impl Iterator<Item = &'a str>) -> Self {
        let valid = valid.map(|v| format!("`{v}`")).collect::<Vec<_>>().join(", ");
        Self::Unknown { kind, name: name.to_owned(), valid }
    }
}

pub type Result<T> = std::result::Result<T, SamplingError>;
