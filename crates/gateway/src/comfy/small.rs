//! Routes that the page asks at start and that have little to say here.

use super::ws::server_features;
use crate::app::Shared;
use crate::error::{ApiError, Body, ComfyError, read_json};
use crate::files::{self, FolderKind};
use crate::logs;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use std::path::Path as FsPath;

pub async fn features(State(app): State<Shared>) -> Json<Value> {
    Json(server_features(app.config.max_upload_bytes))
}

/// `/i18n`, `/workflow_templates`, `/global_subgraphs`, `/node_replacements`, `/internal/folder_paths`: what custom nodes would add, and
/// there are none in this process.
pub async fn empty_object() -> Json<Value> {
    Json(json!({}))
}

/// Lists the scripts of the served page that extend it.
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

#[derive(Debug, Serialize)]
pub struct Terminal {
    cols: u32,
    rows: u32,
}

/// The log of this process as one text.
pub async fn logs() -> Json<String> {
    Json(logs::ring().entries().iter().map(|entry| format!("{} - {}", entry.t, entry.m)).collect())
}

pub async fn raw_logs() -> Json<Value> {
    Json(json!({"entries": logs::ring().entries(), "size": TERMINAL}))
}

/// Lets a connected client read the log as it is written, or no longer.
pub async fn subscribe_logs(State(app): State<Shared>, body: Body) -> Result<StatusCode, ComfyError> {
    let body = read_json(body)?;
    match (&body["clientId"], &body["enabled"]) {
        (Value::String(sid), Value::Bool(wanted)) => app.hub.want_logs(sid.clone(), *wanted).await,
        _ => return Err(ApiError::bad_request("expected `{\"clientId\": text, \"enabled\": bool}`").into()),
    }
    Ok(StatusCode::OK)
}

/// `/global_subgraphs/{id}`: there are none.
pub async fn no_subgraph() -> Json<Value> {
    Json(Value::Null)
}

/// `/api/assets`: the asset library of later versions, which says so when it is switched off.
pub async fn no_assets() -> (StatusCode, Json<Value>) {
    let message = "this server keeps no asset library";
    let error = json!({"code": "SERVICE_DISABLED", "message": message, "details": {}});
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"error": error})))
}

/// Names of the files in a picture folder, newest first.
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
