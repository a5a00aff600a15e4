//! `ErrorCode` to and from `tonic::Status`.

use comfy_graph::ErrorCode;
use tonic::{Code, Status};

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
    }
}
