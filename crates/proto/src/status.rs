//! `ErrorCode` to and from `tonic::Status`.

use comfy_graph::ErrorCode;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Makes the gRPC status of an error.
pub fn to_status(code: ErrorCode, message: impl Into<String>) -> Status {
    let code = match code {
        ErrorCode::InvalidArgument => Code::InvalidArgument,
        ErrorCode::NotFound => Code::NotFound,
        ErrorCode::FailedPrecondition => Code::FailedPrecondition,
        ErrorCode::ResourceExhausted => Code::ResourceExhausted,
        ErrorCode::Unavailable => Code::Unavailable,
        ErrorCode::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorCode::Cancelled => Code::Cancelled,
        ErrorCode::Internal => Code::Internal,
    };
    Status::new(code, message)
}

/// Makes the status of a request with a wrong field: `INVALID_ARGUMENT` with `google.rpc.BadRequest` details.
pub fn invalid_field(field: &str, message: impl Into<String>) -> Status {
    let message = message.into();
    let details = ErrorDetails::with_bad_request_violation(field, &message);
    Status::with_error_details(Code::InvalidArgument, message, details)
}

/// The first wrong field that a status names.
pub fn wrong_field(status: &Status) -> Option<String> {
    let bad_request = status.get_details_bad_request()?;
    bad_request.field_violations.into_iter().next().map(|violation| violation.field)
}

/// Reads the code of a status.
///
/// tonic reports a broken connection as `Unknown` or `Unavailable`, and a stream that a killed peer cut as
/// `Unknown` or `Internal` with a transport source: all of these mean that the peer was lost.
pub fn from_status(status: &Status) -> ErrorCode {
    use std::error::Error as _;
    if status.source().is_some_and(|source| source.is::<tonic::transport::Error>() || is_transport(source)) {
        return ErrorCode::Unavailable;
    }
    match status.code() {
        Code::InvalidArgument | Code::OutOfRange => ErrorCode::InvalidArgument,
        Code::NotFound => ErrorCode::NotFound,
        Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted => ErrorCode::FailedPrecondition,
        Code::ResourceExhausted => ErrorCode::ResourceExhausted,
        Code::Unavailable | Code::Unknown => ErrorCode::Unavailable,
        Code::DeadlineExceeded => ErrorCode::DeadlineExceeded,
        Code::Cancelled => ErrorCode::Cancelled,
        _ => ErrorCode::Internal,
    }
}

// A connection cut in the middle of a stream surfaces as a hyper or h2 error somewhere down the chain.
fn is_transport(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut current = Some(error);
    while let Some(error) = current {
        let text = error.to_string();
        if error.is::<std::io::Error>()
            || text.contains("h2 protocol error")
            || text.contains("transport error")
        {
            return true;
        }
        current = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_the_wire() {
        for code in ErrorCode::ALL {
            assert_eq!(from_status(&to_status(code, "x")), code);
        }
        let status = invalid_field("workflow_json", "it is not JSON");
        assert_eq!((from_status(&status), status.message()), (ErrorCode::InvalidArgument, "it is not JSON"));
        assert_eq!(wrong_field(&status).as_deref(), Some("workflow_json"));
        assert_eq!(wrong_field(&to_status(ErrorCode::NotFound, "x")), None);
    }
}
