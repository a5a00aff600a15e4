//! The errors of both HTTP surfaces.

use crate::openapi::failures;
use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use comfy_graph::ErrorCode;
use serde_json::{Value, json};
use tonic::Status;

/// An error in the shape of `/v1`: `{"error":{"code","message","details"}}`, with `node_errors` where nodes are to
/// blame.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    pub status: StatusCode,
    pub code: String,
    pub message: String,
    pub details: String,
    /// What a refused workflow adds; boxed, because errors are returned everywhere and this is rare.
    pub rejection: Option<Box<Rejection>>,
}

/// What ComfyUI's page is told about a refused workflow beyond words.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejection {
    pub extra_info: Value,
    pub node_errors: Value,
}

/// The same error in the shape that ComfyUI's page reads: `{"error":{"type",…,"extra_info"},"node_errors":{}}`.
#[derive(Debug, Clone, PartialEq)]
pub struct ComfyError(pub ApiError);

impl ApiError {
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into(), details: String::new(), rejection: None }
    }

    /// A request that is wrong.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_argument", message)
    }

    /// Something that does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// A failure that the caller can do nothing about.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
    }

    pub fn details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// Makes the error of a code of the stack.
    pub fn from_code(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::new(http_status(code), code.as_str(), message)
    }

    /// Reads the answer to a workflow that the orchestrator refused.
    pub fn rejected(error_json: &str, node_errors_json: &str) -> Self {
        let error: Value = serde_json::from_str(error_json).unwrap_or_default();
        let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
        let code = if error["type"].is_string() { text("type") } else { "invalid_prompt".into() };
        Self {
            status: StatusCode::BAD_REQUEST,
            code,
            message: text("message"),
            details: text("details"),
            rejection: Some(Box::new(Rejection {
                extra_info: error.get("extra_info").cloned().unwrap_or_else(|| json!({})),
                node_errors: object_or_empty(node_errors_json),
            })),
        }
    }
}

/// The HTTP status of a code of the stack.
pub fn http_status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::InvalidArgument => StatusCode::BAD_REQUEST,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::FailedPrecondition => StatusCode::CONFLICT,
        ErrorCode::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        // Nginx's "client closed request": no registered status says it.
        ErrorCode::Cancelled => StatusCode::from_u16(499).expect("499 is in the range of statuses"),
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Parses a JSON object that a service sent; an empty text is an empty object.
pub fn object_or_empty(text: &str) -> Value {
    serde_json::from_str(text).ok().filter(Value::is_object).unwrap_or_else(|| json!({}))
}

impl From<Status> for ApiError {
    fn from(status: Status) -> Self {
        let code = comfy_proto::status::from_status(&status);
        let field = comfy_proto::status::wrong_field(&status).map(|field| format!("field `{field}`"));
        Self::from_code(code, status.message()).details(field.unwrap_or_default())
    }
}

impl From<std::io::Error> for ApiError {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind as K;
        match error.kind() {
            K::NotFound => Self::not_found("no such file"),
            K::StorageFull | K::QuotaExceeded => {
                Self::from_code(ErrorCode::ResourceExhausted, "the disk is full")
            }
            _ => {
                tracing::error!(%error, "file operation failed");
                Self::internal(format!("file operation failed: {error}"))
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self { status, code, message, details, rejection } = self;
        let node_errors = rejection.map(|rejection| rejection.node_errors);
        let body = failures::Error { error: failures::Reason { code, message, details }, node_errors };
        (status, Json(body)).into_response()
    }
}

impl IntoResponse for ComfyError {
    fn into_response(self) -> Response {
        let error = self.0;
        let (extra_info, node_errors) = match error.rejection {
            Some(rejection) => (rejection.extra_info, rejection.node_errors),
            None => (json!({}), json!({})),
        };
        let reason = failures::ComfyReason {
            r#type: error.code,
            message: error.message,
            details: error.details,
            extra_info,
        };
        (error.status, Json(failures::Refusal { error: reason, node_errors })).into_response()
    }
}

impl<E: Into<ApiError>> From<E> for ComfyError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

/// A request body, or why it could not be read.
pub type Body = Result<bytes::Bytes, BytesRejection>;

/// Takes the bytes of a body.
///
/// # Errors
/// 413 when the body is larger than the route allows.
pub fn read_body(body: Body) -> Result<bytes::Bytes, ApiError> {
    body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        _ if is_timeout(&rejection) => ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "request_timeout",
            "the request body did not arrive in time",
        ),
        status => ApiError::new(status, "invalid_argument", rejection.body_text()),
    })
}

fn is_timeout(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source())
        .any(|error| error.is::<tower_http::timeout::TimeoutError>())
}

/// The answer to a body above the limit.
pub fn too_large() -> ApiError {
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "payload_too_large",
        "the request body is larger than allowed",
    )
}

/// Parses a body as JSON.
///
/// # Errors
/// 400 `invalid_json` with line and column; 413 when the body is too large.
pub fn read_json(body: Body) -> Result<Value, ApiError> {
    parse_json(&read_body(body)?)
}

/// Parses a body as a JSON object.
///
/// # Errors
/// As [`read_json`], and 400 when it is something else.
pub fn read_object(body: Body) -> Result<Value, ApiError> {
    match read_json(body)? {
        object @ Value::Object(_) => Ok(object),
        _ => Err(ApiError::bad_request("the request body is not a JSON object")),
    }
}

/// As [`read_object`], but nothing, or `null`, is an empty object.
pub fn read_optional_object(body: Body) -> Result<Value, ApiError> {
    let bytes = read_body(body)?;
    if bytes.trim_ascii().is_empty() || bytes.trim_ascii() == b"null" {
        return Ok(json!({}));
    }
    read_object(Ok(bytes))
}

/// Reads a switch of a body; absent means off.
///
/// # Errors
/// 400 when it is neither true nor false.
pub fn flag(body: &Value, key: &str) -> Result<bool, ApiError> {
    match &body[key] {
        Value::Null => Ok(false),
        Value::Bool(on) => Ok(*on),
        _ => Err(ApiError::bad_request(format!("`{key}` is neither true nor false"))),
    }
}

fn parse_json(bytes: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_json", "the request body is not valid JSON")
            .details(format!("line {}, column {}: {error}", error.line(), error.column()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_http_status_of_their_meaning() {
        let statuses: Vec<u16> = ErrorCode::ALL.into_iter().map(|c| http_status(c).as_u16()).collect();
        assert_eq!(statuses, [400, 404, 409, 429, 503, 504, 499, 500]);
    }

    #[test]
    fn bad_json_says_where() {
        let error = parse_json(b"{\n \"a\": nan}").unwrap_err();
        assert_eq!((error.status.as_u16(), error.code.as_str()), (400, "invalid_json"));
        assert!(error.details.starts_with("line 2, column "), "{}", error.details);
    }

    #[test]
    fn rejections_keep_comfyui_types() {
        let error = ApiError::rejected(r#"{"type":"prompt_no_outputs","message":"m","details":"d"}"#, "");
        assert_eq!(
            (error.code.as_str(), error.message.as_str(), error.details.as_str()),
            ("prompt_no_outputs", "m", "d")
        );
        assert_eq!(error.rejection.unwrap().node_errors, json!({}));
    }
}
