//! ComfyUI's own HTTP and WebSocket API, as of 0.3.64, for its page and its clients.
//!
//! Statuses and JSON shapes are ComfyUI's. Where ComfyUI answers malformed requests with a plain 500, this answers
//! 400 (or 413, 403, 404) with JSON.

pub mod frames;
pub mod history;
pub mod hub;
pub mod jobs;
pub mod models;
pub mod object_info;
pub mod pictures;
pub mod prompt;
pub mod queue;
pub mod settings;
pub mod small;
pub mod system_stats;
pub mod upload;
pub mod userdata;
pub mod users;
pub mod view;
pub mod ws;

use crate::app::Shared;
use crate::error::ApiError;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{any, get, patch, post};
use comfy_graph::ErrorCode;
use serde_json::{Value, json};

/// The routes, without a prefix; ComfyUI serves each under `/api` too.
pub fn router(max_upload_bytes: usize) -> Router<Shared> {
    Router::new()
        .route("/ws", get(ws::connect))
        .route("/prompt", get(prompt::get).post(prompt::post))
        .route("/interrupt", post(prompt::interrupt))
        .route("/free", post(prompt::free))
        .route("/queue", get(queue::get).post(queue::post))
        .route("/history", get(history::get).post(history::post))
        .route("/history/{id}", get(history::get_one))
        .route("/object_info", get(object_info::all))
        .route("/object_info/{class}", get(object_info::one))
        .route("/embeddings", get(models::embeddings))
        .route("/models", get(models::folders))
        .route("/models/{folder}", get(models::files))
        .route("/experiment/models", get(models::folder_objects))
        .route("/experiment/models/{folder}", get(models::file_objects))
        .route("/experiment/models/preview/{folder}/{place}/{*name}", get(models::preview))
        .route("/view_metadata/{folder}", get(models::metadata))
        .route("/view", get(view::get))
        .route("/system_stats", get(system_stats::get))
        .route("/features", get(small::features))
        .route("/extensions", get(small::extensions))
        .route("/users", get(users::list).post(users::add))
        .route("/workflow_templates", get(small::empty_object))
        .route("/i18n", get(small::empty_object))
        .route("/global_subgraphs", get(small::empty_object))
        .route("/global_subgraphs/{id}", get(small::no_subgraph))
        .route("/node_replacements", get(small::empty_object))
        .route("/internal/logs", get(small::logs))
        .route("/internal/logs/raw", get(small::raw_logs))
        .route("/internal/logs/subscribe", patch(small::subscribe_logs))
        .route("/internal/folder_paths", get(models::folder_paths))
        .route("/internal/files/{kind}", get(small::folder_files))
        .route("/settings", get(settings::all).post(settings::merge))
        .route("/settings/{id}", get(settings::one).post(settings::set))
        .route("/userdata", get(userdata::list))
        .route("/v2/userdata", get(userdata::list_v2))
        .merge(
            Router::new()
                .route("/upload/image", post(upload::image))
                .route("/upload/mask", post(upload::mask))
                .route("/userdata/{file}", get(userdata::get).post(userdata::post).delete(userdata::delete))
                .route("/userdata/{file}/move/{dest}", post(userdata::rename))
                .layer(DefaultBodyLimit::max(max_upload_bytes)),
        )
}

/// What later versions added, under `/api` only.
pub fn later_router() -> Router<Shared> {
    Router::new()
        .route("/jobs", get(jobs::list))
        .route("/jobs/cancel", post(jobs::cancel_many))
        .route("/jobs/{id}", get(jobs::one))
        .route("/jobs/{id}/cancel", post(jobs::cancel))
        .route("/assets", any(small::no_assets))
        .route("/assets/{*rest}", any(small::no_assets))
}

/// Writes a queue position as ComfyUI does: whole numbers without a point.
pub fn number(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 9e15 { json!(number as i64) } else { json!(number) }
}

/// Reads a list of job ids; absent means none.
fn read_ids(value: &Value) -> Result<Vec<String>, ApiError> {
    match value {
        Value::Null => Ok(Vec::new()),
        // Ids that are not strings name nothing, and ComfyUI ignores what it does not know.
        Value::Array(ids) => Ok(ids.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
        _ => Err(ApiError::bad_request("`delete` is not a list of ids")),
    }
}

/// ComfyUI ignores ids that it does not know.
fn ignore_missing<T>(result: Result<T, ApiError>) -> Result<(), ApiError> {
    match result {
        Ok(_) => Ok(()),
        Err(error) if error.code == ErrorCode::NotFound.as_str() => Ok(()),
        Err(error) => Err(error),
    }
}
