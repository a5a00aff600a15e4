//! `/models`, `/experiment/models` and `/embeddings`: model files as the stages list them.

use super::pictures::{self, Channel, PreviewFormat};
use crate::app::Shared;
use crate::error::{ApiError, ComfyError};
use crate::extract::comfy::{Path, Query};
use crate::files;
use crate::openapi::failures::{Away, Binary, Refusal, Unknown, Wrong};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use comfy_graph::ErrorCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

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

#[utoipa::path(
    get,
    path = "/models",
    tag = "comfyui",
    summary = "Lists the model folders.",
    responses(
        (status = 200, description = "The answer.", body = Vec<String>),
    ),
)]
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

#[utoipa::path(
    get,
    path = "/models/{folder}",
    tag = "comfyui",
    summary = "Lists the files of a model folder.",
    params(("folder" = String, Path, description = "A model folder.", example = "checkpoints")),
    responses(
        (status = 200, description = "The answer.", body = Vec<String>),
        Wrong<Refusal>, Unknown<Refusal>, Away<Refusal>,
    ),
)]
pub async fn files(State(app): State<Shared>, Path(folder): Path<String>) -> Result<Json<Value>, ComfyError> {
    known(&folder)?;
    let mut names: Vec<String> =
        app.orchestrator.models(&folder).await?.into_iter().map(|m| m.name).collect();
    names.sort();
    Ok(Json(json!(names)))
}

#[utoipa::path(
    get,
    path = "/embeddings",
    tag = "comfyui",
    summary = "Lists embeddings without their endings.",
    responses(
        (status = 200, description = "The answer.", body = Vec<String>),
        Away<Refusal>,
    ),
)]
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
#[utoipa::path(
    get,
    path = "/experiment/models",
    tag = "comfyui",
    summary = "Lists the model folders as objects.",
    responses(
        (status = 200, description = "The answer.", body = Vec<ModelFolder>),
    ),
)]
pub async fn folder_objects() -> Json<Vec<ModelFolder>> {
    let folders = FOLDERS.iter().filter(|name| !NOT_MODELS.contains(name));
    Json(folders.map(|name| ModelFolder { name, folders: [] }).collect())
}

/// Every folder with no place: where they are on disk is the stages' business.
#[utoipa::path(
    get,
    path = "/internal/folder_paths",
    tag = "comfyui",
    summary = "Names the model folders; places on disk are not told.",
    responses(
        (status = 200, description = "The answer.", body = Object),
    ),
)]
pub async fn folder_paths() -> Json<Value> {
    Json(Value::Object(FOLDERS.iter().map(|name| ((*name).to_owned(), json!([]))).collect()))
}

#[utoipa::path(
    get,
    path = "/experiment/models/{folder}",
    tag = "comfyui",
    summary = "Lists the files of a model folder as objects.",
    params(("folder" = String, Path, description = "A model folder.", example = "checkpoints")),
    responses(
        (status = 200, description = "The answer.", body = Vec<ModelEntry>),
        Wrong<Refusal>, Unknown<Refusal>, Away<Refusal>,
    ),
)]
pub async fn file_objects(
    State(app): State<Shared>,
    Path(folder): Path<String>,
) -> Result<Json<Vec<ModelEntry>>, ComfyError> {
    known(&folder)?;
    let models = app.orchestrator.models(&folder).await?;
    let entries = models.into_iter().map(|model| {
        let modified = model.modified_ms as f64 / 1000.0;
        ModelEntry { name: model.name, path_index: 0, modified, created: modified, size: model.bytes }
    });
    Ok(Json(entries.collect()))
}

/// A folder of models. Its places on disk are the stages' business.
#[derive(Serialize, ToSchema)]
pub struct ModelFolder {
    name: &'static str,
    #[schema(value_type = Vec<String>)]
    folders: [String; 0],
}

/// A model file.
#[derive(Serialize, ToSchema)]
pub struct ModelEntry {
    name: String,
    #[serde(rename = "pathIndex")]
    path_index: u32,
    modified: f64,
    created: f64,
    size: u64,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct MetadataParams {
    /// The file.
    filename: Option<String>,
}

/// What the author of a safetensors file wrote into it. Anything else is an empty 404, as in ComfyUI.
#[utoipa::path(
    get,
    path = "/view_metadata/{folder}",
    tag = "comfyui",
    summary = "Gives what the author of a safetensors file wrote into it.",
    params(("folder" = String, Path, description = "A model folder.", example = "checkpoints"), MetadataParams),
    responses(
        (status = 200, description = "The answer.", body = Object),
        (status = 404, description = "There is nothing to give."),
        Wrong<Refusal>, Away<Refusal>,
    ),
)]
pub async fn metadata(
    State(app): State<Shared>,
    Path(folder): Path<String>,
    Query(params): Query<MetadataParams>,
) -> Result<Response, ComfyError> {
    let name = params.filename.filter(|name| name.ends_with(".safetensors"));
    let Some(name) = name else { return Ok(StatusCode::NOT_FOUND.into_response()) };
    match app.orchestrator.model_metadata(&folder, &name).await {
        Ok(metadata) if metadata.as_object().is_some_and(|texts| !texts.is_empty()) => {
            Ok(Json(metadata).into_response())
        }
        Ok(_) => Ok(StatusCode::NOT_FOUND.into_response()),
        Err(error) if error.code == ErrorCode::NotFound.as_str() => Ok(StatusCode::NOT_FOUND.into_response()),
        Err(error) => Err(error.into()),
    }
}

/// The cover picture that stands beside a model file, or that it carries, as WebP.
#[utoipa::path(
    get,
    path = "/experiment/models/preview/{folder}/{place}/{*name}",
    tag = "comfyui",
    summary = "Gives the cover picture of a model file.",
    params(("folder" = String, Path, description = "A model folder.", example = "checkpoints"), ("place" = String, Path, description = "Anything: a folder has one place."), ("*name" = String, Path, description = "The file.")),
    responses(
        (status = 200, description = "The picture.", body = inline(Binary), content_type = "image/webp"),
        Wrong<Refusal>, Unknown<Refusal>, Away<Refusal>,
    ),
)]
pub async fn preview(
    State(app): State<Shared>,
    Path((folder, _place, name)): Path<(String, String, String)>,
) -> Result<Response, ComfyError> {
    known(&folder)?;
    let (beside, metadata) = app.orchestrator.model_cover(&folder, &name).await?;
    let carried = || metadata["ssmd_cover_images"].as_str().and_then(first_cover);
    let Some(cover) = Some(beside).filter(|cover| !cover.is_empty()).or_else(carried) else {
        return Err(ApiError::not_found(format!("there is no picture of `{name}`")).into());
    };
    let format = PreviewFormat::Webp { quality: 90 };
    let rendered = files::blocking(move || pictures::preview(&cover, format, Channel::All)).await?;
    Ok(([(CONTENT_TYPE, rendered.mime)], rendered.bytes).into_response())
}

/// The first of a JSON list of base64 texts.
fn first_cover(list: &str) -> Option<Vec<u8>> {
    let pictures: Vec<String> = serde_json::from_str(list).ok()?;
    base64::engine::general_purpose::STANDARD.decode(pictures.first()?).ok()
}
