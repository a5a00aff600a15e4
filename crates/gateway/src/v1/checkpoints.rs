//! `GET /v1/checkpoints`: the checkpoint files and what their headers say.

use crate::app::Shared;
use crate::error::ApiError;
use crate::openapi::failures::{Away, Error};
use crate::serve_file::percent_encode;
use axum::Json;
use axum::extract::State;
use comfy_proto::stage::ModelFile;
use serde::Serialize;
use utoipa::ToSchema;

/// The checkpoint files that the stages see.
#[derive(Serialize, ToSchema)]
pub struct CheckpointList {
    checkpoints: Vec<Checkpoint>,
    /// What to do when none can be used.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
}

/// A checkpoint file and what its header says.
#[derive(Serialize, ToSchema)]
struct Checkpoint {
    name: String,
    bytes: u64,
    family: String,
    usable: bool,
    default: bool,
    /// Why it cannot be used.
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    note: String,
    /// Where its picture is, if it has one.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    cover: Option<String>,
}

#[utoipa::path(
    get,
    path = "/v1/checkpoints",
    tag = "v1",
    summary = "Lists checkpoint files and what they are.",
    responses(
        (status = 200, description = "The answer.", body = CheckpointList),
        Away<Error>,
    ),
)]
pub async fn list(State(app): State<Shared>) -> Result<Json<CheckpointList>, ApiError> {
    let models = app.orchestrator.models("checkpoints").await?;
    let note = if models.is_empty() {
        Some("no checkpoint found: put a `.safetensors` or `.ckpt` file into the checkpoints folder")
    } else if models.iter().any(|model| model.usable) {
        None
    } else {
        Some("none of the checkpoints can be used: see `reason`")
    };
    Ok(Json(CheckpointList { checkpoints: models.into_iter().map(Checkpoint::from).collect(), note }))
}

impl From<ModelFile> for Checkpoint {
    fn from(model: ModelFile) -> Self {
        let cover = model.has_cover.then(|| {
            let name: Vec<String> = model.name.split('/').map(percent_encode).collect();
            format!("/experiment/models/preview/checkpoints/0/{}", name.join("/"))
        });
        Self {
            name: model.name,
            bytes: model.bytes,
            family: model.family,
            usable: model.usable,
            default: model.is_default,
            reason: model.reason,
            note: model.note,
            cover,
        }
    }
}
