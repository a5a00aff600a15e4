//! The extractors of axum with errors in the shape of the surface that refuses.

use crate::error::ApiError;
use axum::extract::FromRequestParts;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::http::StatusCode;

/// A query, refused in the shape of `/v1`.
#[derive(Debug, FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(ApiError))]
pub struct Query<T>(pub T);

/// The parameters of a path, refused in the shape of `/v1`.
#[derive(Debug, FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(ApiError))]
pub struct Path<T>(pub T);

/// The same in the shape of ComfyUI.
pub mod comfy {
    use crate::error::ComfyError;
    use axum::extract::FromRequestParts;

    /// A query, refused in the shape of ComfyUI.
    #[derive(Debug, FromRequestParts)]
    #[from_request(via(axum::extract::Query), rejection(ComfyError))]
    pub struct Query<T>(pub T);

    /// The parameters of a path, refused in the shape of ComfyUI.
    #[derive(Debug, FromRequestParts)]
    #[from_request(via(axum::extract::Path), rejection(ComfyError))]
    pub struct Path<T>(pub T);
}

impl From<QueryRejection> for ApiError {
    fn from(rejection: QueryRejection) -> Self {
        Self::bad_request("the query cannot be read").details(rejection.body_text())
    }
}

impl From<PathRejection> for ApiError {
    fn from(rejection: PathRejection) -> Self {
        match rejection.status() {
            StatusCode::BAD_REQUEST => {
                Self::bad_request("the path cannot be read").details(rejection.body_text())
            }
            _ => Self::internal(rejection.body_text()),
        }
    }
}
