//! Routes that the page asks at start and that have little to say here.

use super::ws::server_features;
use crate::app::Shared;
use crate::error::{ApiError, Body, ComfyError, read_optional_json};
use crate::files::{self, FolderKind};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::path::Path as FsPath;

pub async fn features(State(app): State<Shared>) -> Json<Value> {
    Json(server_features(app.config.max_upload_bytes))
}

/// `/i18n`, `/workflow_templates`, `/global_subgraphs`, `/internal/folder_paths`: what custom nodes would add, and
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

/// One person uses this server; nobody logs in.
pub async fn users() -> Json<Value> {
    Json(json!({"storage": "server", "migrated": true}))
}

pub async fn add_user() -> ComfyError {
    ApiError::bad_request("this server has one user and adds none").into()
}

/// The page's log panel. Logs of the services are files, so the panel stays empty.
pub async fn logs() -> Json<Value> {
    Json(json!(""))
}

pub async fn raw_logs() -> Json<Value> {
    Json(json!({"entries": [], "size": {"cols": 80, "rows": 24}}))
}

pub async fn subscribe_logs(body: Body) -> Result<StatusCode, ComfyError> {
    read_optional_json(body)?;
    Ok(StatusCode::OK)
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
