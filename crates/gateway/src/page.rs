//! The page at `/`: files of the folder of the chosen page, and plain words when there are none.

use crate::app::Shared;
use crate::config::Ui;
use crate::error::ApiError;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use tower::ServiceExt as _;
use tower_http::services::ServeDir;

/// What to do about a page that is not there.
fn missing(ui: Ui) -> String {
    let (what, remedy) = match ui {
        Ui::Scaffold => (
            "The page is not built",
            "Build it (<code>npm ci &amp;&amp; npm run build</code> in <code>ui/</code>) or set <code>UI_DIR</code>.",
        ),
        Ui::Comfyui => (
            "ComfyUI's page is not installed",
            "Run <code>scripts/sync_comfyui_frontend.sh</code>, set <code>COMFYUI_FRONTEND_DIR</code>, or choose our \
             own page with <code>UI=scaffold</code>.",
        ),
    };
    format!(
        "<!doctype html>
<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Comfy Services</title></head>
<body><h1>{what}</h1>
<p>The gateway runs, but the folder of the page holds no <code>index.html</code>.
{remedy}</p>
<p>The APIs work without it: try <a href=\"/v1/system\"><code>/v1/system</code></a>.</p>
</body></html>
"
    )
}

/// Answers whatever no API route does.
pub async fn serve(State(app): State<Shared>, request: Request) -> Response {
    let path = request.uri().path();
    if ["/v1/", "/api/", "/internal/"].iter().any(|prefix| path.starts_with(prefix)) {
        return ApiError::not_found(format!("no route `{path}`")).into_response();
    }
    let is_front = path == "/" || path == "/index.html";
    let path = path.to_owned();
    let files = ServeDir::new(app.config.page_dir()).append_index_html_on_directories(is_front);
    let mut response = match files.oneshot(request).await {
        Ok(response) => response.into_response(),
        Err(never) => match never {},
    };
    match response.status() {
        StatusCode::NOT_FOUND if is_front => {
            (StatusCode::SERVICE_UNAVAILABLE, Html(missing(app.config.ui))).into_response()
        }
        StatusCode::NOT_FOUND => ApiError::not_found(format!("no file `{path}`")).into_response(),
        _ => {
            // Files may be replaced at any time; browsers ask, and mostly hear "not modified".
            let headers = response.headers_mut();
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            // Inside another site's page a person could be led to press what they do not see.
            headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN"));
            response
        }
    }
}
