//! The one error vocabulary of the stack.

use serde::{Deserialize, Serialize};

/// Says what a caller can do about an error. Maps one to one to a gRPC status and an HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request is wrong and will stay wrong.
    InvalidArgument,
    /// What was named does not exist.
    NotFound,
    /// The system is not in the state that the request needs.
    FailedPrecondition,
    /// Memory, disk or a queue is full; trying later may work.
    ResourceExhausted,
    /// The service cannot be reached or is shutting down; trying again may work.
    Unavailable,
    /// The time allowed has passed.
    DeadlineExceeded,
    /// The caller asked to stop.
    Cancelled,
    /// A bug or a broken disk: nothing the caller can do.
    Internal,
}

impl ErrorCode {
    /// Every code, in the order of the protocol.
    pub const ALL: [ErrorCode; 8] = [
        ErrorCode::InvalidArgument,
        ErrorCode::NotFound,
        ErrorCode::FailedPrecondition,
        ErrorCode::ResourceExhausted,
        ErrorCode::Unavailable,
        ErrorCode::DeadlineExceeded,
        ErrorCode::Cancelled,
        ErrorCode::Internal,
    ];

    /// The name used in JSON and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::InvalidArgument => "invalid_argument",
            ErrorCode::NotFound => "not_found",
            ErrorCode::FailedPrecondition => "failed_precondition",
            ErrorCode::ResourceExhausted => "resource_exhausted",
            ErrorCode::Unavailable => "unavailable",
            ErrorCode::DeadlineExceeded => "deadline_exceeded",
            ErrorCode::Cancelled => "cancelled",
            ErrorCode::Internal => "internal",
        }
    }

    /// Whether the same call may succeed when made again. The only errors that the orchestrator retries.
    pub fn is_retryable(self) -> bool {
        matches!(self, ErrorCode::Unavailable | ErrorCode::ResourceExhausted | ErrorCode::DeadlineExceeded)
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
