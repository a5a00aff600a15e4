//! Answers with a file: ranges, conditional requests, and headers that keep a browser from running it.

use crate::error::ApiError;
use axum::extract::Request;
use axum::http::header::{
    CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use std::path::Path;
use tower::ServiceExt as _;
use tower_http::services::ServeFile;

/// Types that a browser would run in this origin.
const ACTIVE_TYPES: [&str; 6] = [
    "text/html",
    "text/html-sandboxed",
    "application/xhtml+xml",
    "text/javascript",
    "application/javascript",
    "text/css",
];

/// Serves a file that has been resolved before. `headers` are the request's: `Range` and conditions count.
///
/// # Errors
/// 404 when it is not a file.
pub async fn serve(
    path: &Path,
    method: axum::http::Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if !tokio::fs::metadata(path).await?.is_file() {
        return Err(ApiError::not_found(format!("`{name}` is not a file")));
    }
    let mut request = Request::new(axum::body::Body::empty());
    *request.method_mut() = method;
    *request.headers_mut() = headers;
    let response = match ServeFile::new(path).oneshot(request).await {
        Ok(response) => response.into_response(),
        Err(never) => match never {},
    };
    Ok(harmless(response, &name))
}

/// Adds the headers under which a file from outside may be shown.
pub fn harmless(mut response: Response, name: &str) -> Response {
    let headers = response.headers_mut();
    let mime = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = mime.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if ACTIVE_TYPES.contains(&essence.as_str()) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // An SVG may hold scripts: shown, but in a sandbox.
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"),
    );
    headers.insert(CONTENT_DISPOSITION, disposition(name));
    response
}

fn disposition(name: &str) -> HeaderValue {
    let plain: String = name
        .chars()
        .map(|c| if c.is_ascii() && !c.is_ascii_control() && !"\"\\".contains(c) { c } else { '_' })
        .collect();
    let value = if plain == name {
        format!("filename=\"{name}\"")
    } else {
        format!("filename=\"{plain}\"; filename*=UTF-8''{}", percent_encode(name))
    };
    HeaderValue::from_str(&value).expect("only printable ASCII is left")
}

/// Percent-encodes everything but unreserved characters.
pub fn percent_encode(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_headers() {
        for (name, header) in [
            ("up_a (1).png", "filename=\"up_a (1).png\""),
            ("a\"b\r\n.png", "filename=\"a_b__.png\"; filename*=UTF-8''a%22b%0D%0A.png"),
            ("Käse.png", "filename=\"K_se.png\"; filename*=UTF-8''K%C3%A4se.png"),
        ] {
            assert_eq!(disposition(name).to_str().unwrap(), header);
        }
    }
}
