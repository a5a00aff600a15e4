//! Errors of the engine as errors of a node.

use comfy_artifacts::bundle::BundleError;
use comfy_diffusion::Error;
use comfy_diffusion::sampling::SamplingError;
use comfy_graph::ErrorCode;
use comfy_stage::NodeError;

/// Says that an input is none of its choices.
pub(crate) fn unknown(input: &str, value: &str, choices: &[&str]) -> NodeError {
    NodeError::invalid(format!("`{input}` is `{value}`, expected one of `{}`", choices.join("`, `")))
}

/// Says what an engine error means to the orchestrator.
pub(crate) fn engine(error: Error) -> NodeError {
    let code = match &error {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => ErrorCode::NotFound,
        Error::Io { .. } | Error::Tensor(_) => ErrorCode::Internal,
        Error::Malformed { .. }
        | Error::Unsupported { .. }
        | Error::MissingTensor { .. }
        | Error::TensorShape { .. }
        | Error::TensorType { .. }
        | Error::InvalidArgument(_) => ErrorCode::InvalidArgument,
    };
    NodeError::new(code, error.to_string())
}

/// Says what a sampling error means to the orchestrator.
pub(crate) fn sampling(error: SamplingError) -> NodeError {
    let code = match &error {
        SamplingError::Unknown { .. } | SamplingError::Invalid { .. } | SamplingError::Unsupported { .. } => {
            ErrorCode::InvalidArgument
        }
        SamplingError::Cancelled => ErrorCode::Cancelled,
        SamplingError::Tensor(_) => ErrorCode::Internal,
    };
    NodeError::new(code, error.to_string())
}

pub(crate) fn tensor(error: candle_core::Error) -> NodeError {
    NodeError::internal(format!("tensor operation failed: {error}"))
}

pub(crate) fn bundle(error: BundleError) -> NodeError {
    NodeError::internal(error.to_string())
}
