//! Errors of the orchestrator, by what the caller can do about them.

use comfy_graph::ErrorCode;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum OrchestratorError {
    /// The request is wrong, in the field named first.
    #[error("{1}")]
    Invalid(&'static str, String),
    #[error("there is no job `{0}`")]
    NoSuchJob(String),
    #[error("job `{id}` is {status}, only jobs that wait can be ordered")]
    NotWaiting { id: String, status: &'static str },
    #[error("{0}")]
    Unavailable(String),
    #[error("{message}")]
    Stage { code: ErrorCode, message: String },
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}

impl OrchestratorError {
    /// The code that the caller sees.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid(..) => ErrorCode::InvalidArgument,
            Self::NoSuchJob(_) => ErrorCode::NotFound,
            Self::NotWaiting { .. } => ErrorCode::FailedPrecondition,
            Self::Unavailable(_) => ErrorCode::Unavailable,
            Self::Stage { code, .. } => *code,
            Self::Store(error) => error.code(),
        }
    }
}

impl From<OrchestratorError> for tonic::Status {
    fn from(error: OrchestratorError) -> Self {
        let code = error.code();
        if code == ErrorCode::Internal {
            tracing::error!(error = &error as &dyn std::error::Error, "request failed");
        }
        let message = error.to_string();
        match error {
            OrchestratorError::Invalid(field, _) => comfy_proto::status::invalid_field(field, message),
            _ => comfy_proto::status::to_status(code, message),
        }
    }
}
