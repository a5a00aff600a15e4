//! `/settings`: what a person chose in the page, one JSON object in the user folder.

use super::users::UserFolder;
use crate::app::{App, Shared};
use crate::error::{ApiError, Body, ComfyError, read_json};
use crate::extract::comfy::Path;
use crate::files;
use crate::openapi::failures::{Disk, NoUser, Refusal, TooLarge, Wrong};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Map, Value};
use std::path::PathBuf;

const FILE: &str = "comfy.settings.json";

#[utoipa::path(
    get,
    path = "/settings",
    tag = "comfyui",
    summary = "Gives every setting of the user.",
    responses(
        (status = 200, description = "The answer.", body = Object),
        NoUser<Refusal>, Disk<Refusal>,
    ),
)]
pub async fn all(UserFolder(folder): UserFolder) -> Result<Json<Value>, ComfyError> {
    let path = folder.join(FILE);
    Ok(Json(Value::Object(files::blocking(move || read(&path)).await?)))
}

#[utoipa::path(
    get,
    path = "/settings/{id}",
    tag = "comfyui",
    summary = "Gives a setting, or null.",
    params(("id" = String, Path, description = "The name of a setting.")),
    responses(
        (status = 200, description = "The answer.", body = Value),
        Wrong<Refusal>, NoUser<Refusal>, Disk<Refusal>,
    ),
)]
pub async fn one(UserFolder(folder): UserFolder, Path(id): Path<String>) -> Result<Json<Value>, ComfyError> {
    let path = folder.join(FILE);
    let mut settings = files::blocking(move || read(&path)).await?;
    Ok(Json(settings.remove(&id).unwrap_or(Value::Null)))
}

#[utoipa::path(
    post,
    path = "/settings",
    tag = "comfyui",
    summary = "Changes settings.",
    request_body = Object,
    responses(
        (status = 200, description = "Done."),
        Wrong<Refusal>, NoUser<Refusal>, TooLarge<Refusal>, Disk<Refusal>,
    ),
)]
pub async fn merge(
    State(app): State<Shared>,
    UserFolder(folder): UserFolder,
    body: Body,
) -> Result<StatusCode, ComfyError> {
    match read_json(body)? {
        Value::Object(changes) => Ok(change(&app, folder, changes).await?),
        _ => Err(ApiError::bad_request("settings are a JSON object").into()),
    }
}

#[utoipa::path(
    post,
    path = "/settings/{id}",
    tag = "comfyui",
    summary = "Changes a setting.",
    params(("id" = String, Path, description = "The name of a setting.")),
    request_body = Value,
    responses(
        (status = 200, description = "Done."),
        Wrong<Refusal>, NoUser<Refusal>, TooLarge<Refusal>, Disk<Refusal>,
    ),
)]
pub async fn set(
    State(app): State<Shared>,
    UserFolder(folder): UserFolder,
    Path(id): Path<String>,
    body: Body,
) -> Result<StatusCode, ComfyError> {
    Ok(change(&app, folder, Map::from_iter([(id, read_json(body)?)])).await?)
}

async fn change(app: &App, folder: PathBuf, changes: Map<String, Value>) -> Result<StatusCode, ApiError> {
    let path = folder.join(FILE);
    // Two changes at once must not lose one of them.
    let _writing = app.settings_writer.lock().await;
    files::blocking(move || {
        let mut settings = read(&path)?;
        settings.extend(changes);
        let text =
            serde_json::to_vec_pretty(&settings).map_err(|error| ApiError::internal(error.to_string()))?;
        std::fs::create_dir_all(path.parent().unwrap_or(&path))?;
        files::write_atomically(&path, &text)?;
        Ok(StatusCode::OK)
    })
    .await
}

fn read(path: &std::path::Path) -> Result<Map<String, Value>, ApiError> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| ApiError::internal(format!("`{FILE}` in the user folder is damaged: {error}"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Map::new()),
        Err(error) => Err(error.into()),
    }
}
