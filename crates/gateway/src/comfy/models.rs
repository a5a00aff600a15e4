//! `/models`, `/experiment/models` and `/embeddings`: model files as the stages list them.

use crate::app::Shared;
use crate::error::{ApiError, ComfyError};
use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

/// ComfyUI's folder names, in its order.
const FOLDERS: [&str; 20] = [
    "checkpoints",
    "configs",
    "loras",
    "vae",
    "text_encoders",
    "diffusion_models",
    "clip_vision",
    "style_models",
    "embeddings",
    "diffusers",
    "vae_approx",
    "controlnet",
    "gligen",
    "upscale_models",
    "custom_nodes",
    "hypernetworks",
    "photomaker",
    "classifiers",
    "model_patches",
    "audio_encoders",
];

/// Folders that hold no models.
const NOT_MODELS: [&str; 2] = ["configs", "custom_nodes"];

pub async fn folders() -> Json<Value> {
    Json(json!(FOLDERS))
}

fn known(folder: &str) -> Result<(), ApiError> {
    if FOLDERS.contains(&folder) {
        return Ok(());
    }
    let valid = FOLDERS.map(|name| format!("`{name}`")).join(", ");
    Err(ApiError::not_found(format!("no model folder `{folder}`")).details(format!("folders: {valid}")))
}

pub async fn files(State(app): State<Shared>, Path(folder): Path<String>) -> Result<Json<Value>, ComfyError> {
    known(&folder)?;
    let mut names: Vec<String> =
        app.orchestrator.models(&folder).await?.into_iter().map(|m| m.name).collect();
    names.sort();
    Ok(Json(json!(names)))
}

pub async fn embeddings(State(app): State<Shared>) -> Result<Json<Value>, ComfyError> {
    let models = app.orchestrator.models("embeddings").await?;
    let mut names: Vec<String> = models
        .into_iter()
        .map(|model| match model.name.rsplit_once('.') {
            Some((stem, extension)) if !extension.contains('/') => stem.to_owned(),
            _ => model.name,
        })
        .collect();
    names.sort();
    Ok(Json(json!(names)))
}

/// The folders as objects. Where they are on disk is the stages' business, so `folders` is empty.
pub async fn folder_objects() -> Json<Value> {
    let folders = FOLDERS.iter().filter(|name| !NOT_MODELS.contains(name));
    Json(folders.map(|name| json!({"name": name, "folders": []})).collect())
}

pub async fn file_objects(
    State(app): State<Shared>,
    Path(folder): Path<String>,
) -> Result<Json<Value>, ComfyError> {
    known(&folder)?;
    let models = app.orchestrator.models(&folder).await?;
    let objects = models.iter().map(|model| {
        let modified = model.modified_ms as f64 / 1000.0;
        json!({"name": model.name, "pathIndex": 0, "modified": modified, "created": modified, "size": model.bytes})
    });
    Ok(Json(objects.collect()))
}
