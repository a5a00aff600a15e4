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
use axum::extract::DefaultBodyLimit;
use comfy_graph::ErrorCode;
use serde_json::{Value, json};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes, without a prefix; ComfyUI serves each under `/api` too.
pub fn router(max_upload_bytes: usize) -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(ws::connect))
        .routes(routes!(prompt::get, prompt::post))
        .routes(routes!(prompt::interrupt))
        .routes(routes!(prompt::free))
        .routes(routes!(queue::get, queue::post))
        .routes(routes!(history::get, history::post))
        .routes(routes!(history::get_one))
        .routes(routes!(object_info::all))
        .routes(routes!(object_info::one))
        .routes(routes!(models::embeddings))
        .routes(routes!(models::folders))
        .routes(routes!(models::files))
        .routes(routes!(models::folder_objects))
        .routes(routes!(models::file_objects))
        .routes(routes!(models::preview))
        .routes(routes!(models::metadata))
        .routes(routes!(view::get))
        .routes(routes!(system_stats::get))
        .routes(routes!(small::features))
        .routes(routes!(small::extensions))
        .routes(routes!(users::list, users::add))
        .routes(routes!(small::workflow_templates))
        .routes(routes!(small::i18n))
        .routes(routes!(small::global_subgraphs))
        .routes(routes!(small::no_subgraph))
        .routes(routes!(small::node_replacements))
        .routes(routes!(small::logs))
        .routes(routes!(small::raw_logs))
        .routes(routes!(small::subscribe_logs))
        .routes(routes!(models::folder_paths))
        .routes(routes!(small::folder_files))
        .routes(routes!(settings::all, settings::merge))
        .routes(routes!(settings::one, settings::set))
        .routes(routes!(userdata::list))
        .routes(routes!(userdata::list_v2))
        .merge(
            OpenApiRouter::default()
                .routes(routes!(upload::image))
                .routes(routes!(upload::mask))
                .routes(routes!(userdata::get, userdata::post, userdata::delete))
                .routes(routes!(userdata::rename))
                .layer(DefaultBodyLimit::max(max_upload_bytes)),
        )
}

/// What later versions added, under `/api` only.
pub fn later_router() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::cancel_many))
        .routes(routes!(jobs::one))
        .routes(routes!(jobs::cancel))
        .routes(routes!(small::no_assets))
        .routes(routes!(small::no_asset))
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
