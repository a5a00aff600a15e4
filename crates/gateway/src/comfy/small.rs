//! Routes that the page asks at start and that have little to say here.

use super::ws::server_features;
use crate::app::Shared;
use crate::error::{ApiError, Body, ComfyError, read_json};
use crate::extract::comfy::Path;
use crate::files::{self, FolderKind};
use crate::logs;
use crate::openapi::failures::{Disk, JobsRefusal, Refusal, TooLarge, Wrong};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::Path as FsPath;
use utoipa::ToSchema;

#[utoipa::path(
    get,
    path = "/features",
    tag = "comfyui",
    summary = "Says what this server can do.",
    responses(
        (status = 200, description = "The answer.", body = Object),
    ),
)]
pub async fn features(State(app): State<Shared>) -> Json<Value> {
    Json(server_features(app.config.max_upload_bytes))
}

/// There are none in this process.
#[utoipa::path(
    get,
    path = "/workflow_templates",
    tag = "comfyui",
    summary = "Lists templates of custom nodes: none.",
    responses(
        (status = 200, description = "The answer.", body = Object),
    ),
)]
pub async fn workflow_templates() -> Json<Value> {
    Json(json!({}))
}

/// There are none in this process.
#[utoipa::path(
    get,
    path = "/i18n",
    tag = "comfyui",
    summary = "Lists translations of custom nodes: none.",
    responses(
        (status = 200, description = "The answer.", body = Object),
    ),
)]
pub async fn i18n() -> Json<Value> {
    Json(json!({}))
}

/// There are none in this process.
#[utoipa::path(
    get,
    path = "/global_subgraphs",
    tag = "comfyui",
    summary = "Lists shared subgraphs: none.",
    responses(
        (status = 200, description = "The answer.", body = Object),
    ),
)]
pub async fn global_subgraphs() -> Json<Value> {
    Json(json!({}))
}

/// There are none in this process.
#[utoipa::path(
    get,
    path = "/node_replacements",
    tag = "comfyui",
    summary = "Lists replacements of old nodes: none.",
    responses(
        (status = 200, description = "The answer.", body = Object),
    ),
)]
pub async fn node_replacements() -> Json<Value> {
    Json(json!({}))
}

/// Lists the scripts of the served page that extend it.
#[utoipa::path(
    get,
    path = "/extensions",
    tag = "comfyui",
    summary = "Lists scripts that extend the page.",
    responses(
        (status = 200, description = "The answer.", body = Vec<String>),
        Disk<Refusal>,
    ),
)]
pub async fn extensions(State(app): State<Shared>) -> Result<Json<Value>, ComfyError> {
    let root = app.config.page_dir().join("extensions");
    let mut scripts = files::blocking(move || {
        let mut scripts = Vec::new();
        if root.is_dir() {
            find_scripts(&root, "/extensions", &mut scripts)?;
        }
        Ok(scripts)
    })
    .await?;
    scripts.sort();
    Ok(Json(json!(scripts)))
}

fn find_scripts(dir: &FsPath, prefix: &str, scripts: &mut Vec<String>) -> Result<(), ApiError> {
    for child in std::fs::read_dir(dir)? {
        let child = child?;
        let name = format!("{prefix}/{}", child.file_name().to_string_lossy());
        if child.file_type()?.is_dir() {
            find_scripts(&child.path(), &name, scripts)?;
        } else if name.ends_with(".js") {
            scripts.push(name);
        }
    }
    Ok(())
}

/// The size of a terminal that shows the log; lines are not broken here.
pub const TERMINAL: Terminal = Terminal { cols: 80, rows: 24 };

#[derive(Debug, Serialize, ToSchema)]
pub struct Terminal {
    cols: u32,
    rows: u32,
}

/// The log of this process as one text.
#[utoipa::path(
    get,
    path = "/internal/logs",
    tag = "comfyui",
    summary = "Gives the last lines of the log as a text.",
    responses(
        (status = 200, description = "The answer.", body = String, content_type = "application/json"),
    ),
)]
pub async fn logs() -> Json<String> {
    Json(logs::ring().entries().iter().map(|entry| format!("{} - {}", entry.t, entry.m)).collect())
}

#[utoipa::path(
    get,
    path = "/internal/logs/raw",
    tag = "comfyui",
    summary = "Gives the last lines of the log.",
    responses(
        (status = 200, description = "The answer.", body = RawLogs),
    ),
)]
pub async fn raw_logs() -> Json<RawLogs> {
    Json(RawLogs { entries: logs::ring().entries(), size: TERMINAL })
}

/// The last lines, and the terminal that shows them.
#[derive(Serialize, ToSchema)]
pub struct RawLogs {
    entries: Vec<logs::Entry>,
    size: Terminal,
}

/// Who wants the log.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LogSubscription {
    client_id: String,
    enabled: bool,
}

/// Lets a connected client read the log as it is written, or no longer.
#[utoipa::path(
    patch,
    path = "/internal/logs/subscribe",
    tag = "comfyui",
    summary = "Follows the log over the WebSocket, or no longer.",
    request_body = LogSubscription,
    responses(
        (status = 200, description = "Done."),
        Wrong<Refusal>, TooLarge<Refusal>,
    ),
)]
pub async fn subscribe_logs(State(app): State<Shared>, body: Body) -> Result<StatusCode, ComfyError> {
    let LogSubscription { client_id, enabled } = serde_json::from_value(read_json(body)?)
        .map_err(|_| ApiError::bad_request("expected `{\"clientId\": text, \"enabled\": bool}`"))?;
    app.hub.want_logs(client_id, enabled).await;
    Ok(StatusCode::OK)
}

/// `/global_subgraphs/{id}`: there are none.
#[utoipa::path(
    get,
    path = "/global_subgraphs/{id}",
    tag = "comfyui",
    summary = "Gives a shared subgraph: null.",
    params(("id" = String, Path, description = "The id of a subgraph.")),
    responses(
        (status = 200, description = "The answer.", body = Value),
    ),
)]
pub async fn no_subgraph() -> Json<Value> {
    Json(Value::Null)
}

/// The asset library of later versions, which says so when it is switched off.
#[utoipa::path(
    method(get, post, put, patch, delete),
    path = "/assets",
    tag = "comfyui",
    summary = "Says that there is no asset library.",
    responses(
        (status = 503, description = "There is no asset library.", body = JobsRefusal),
    ),
)]
pub async fn no_assets() -> (StatusCode, Json<Value>) {
    let message = "this server keeps no asset library";
    let error = json!({"code": "SERVICE_DISABLED", "message": message, "details": {}});
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"error": error})))
}

/// As [`no_assets`], for everything below.
#[utoipa::path(
    method(get, post, put, patch, delete),
    path = "/assets/{*rest}",
    tag = "comfyui",
    summary = "Says that there is no asset library.",
    params(("*rest" = String, Path, description = "Anything.")),
    responses(
        (status = 503, description = "There is no asset library.", body = JobsRefusal),
    ),
)]
pub async fn no_asset() -> (StatusCode, Json<Value>) {
    no_assets().await
}

/// Names of the files in a picture folder, newest first.
#[utoipa::path(
    get,
    path = "/internal/files/{kind}",
    tag = "comfyui",
    summary = "Lists a picture folder, newest first.",
    params(("kind" = FolderKind, Path, description = "The folder.")),
    responses(
        (status = 200, description = "The answer.", body = Vec<String>),
        Wrong<Refusal>, Disk<Refusal>,
    ),
)]
pub async fn folder_files(
    State(app): State<Shared>,
    Path(kind): Path<String>,
) -> Result<Json<Value>, ComfyError> {
    let kind = FolderKind::parse(&kind).ok_or_else(|| {
        ApiError::bad_request(format!("no type `{kind}`, expected one of {}", FolderKind::NAMES))
    })?;
    let root = app.folders.root(kind).to_owned();
    let names = files::blocking(move || {
        let mut found = Vec::new();
        for child in std::fs::read_dir(&root).into_iter().flatten() {
            let child = child?;
            let metadata = child.metadata()?;
            let name = child.file_name().to_string_lossy().into_owned();
            if metadata.is_file() && !name.starts_with('.') {
                found.push((metadata.modified()?, name));
            }
        }
        found.sort_by(|a, b| b.cmp(a));
        Ok(found.into_iter().map(|(_, name)| name).collect::<Vec<String>>())
    })
    .await?;
    Ok(Json(json!(names)))
}
