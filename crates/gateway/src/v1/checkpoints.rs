//! `GET /v1/checkpoints`: the checkpoint files and what their headers say.

use crate::app::Shared;
use crate::error::ApiError;
use crate::serve_file::percent_encode;
use axum::Json;
use axum::extract::State;
use comfy_proto::stage::ModelFile;
use serde_json::{Value, json};

pub async fn list(State(app): State<Shared>) -> Result<Json<Value>, ApiError> {
    let models = app.orchestrator.models("checkpoints").await?;
    let mut answer = json!({"checkpoints": models.iter().map(checkpoint).collect::<Vec<Value>>()});
    if !models.iter().any(|model| model.usable) {
        answer["note"] = if models.is_empty() {
            "no checkpoint found: put a `.safetensors` or `.ckpt` file into the checkpoints folder".into()
        } else {
            "none of the checkpoints can be used: see `reason`".into()
        };
    }
    Ok(Json(answer))
}

fn checkpoint(model: &ModelFile) -> Value {
    let mut json = json!({
        "name": model.name,
        "bytes": model.bytes,
        "family": model.family,
        "usable": model.usable,
        "default": model.is_default,
    });
    for (key, text) in [("reason", &model.reason), ("note", &model.note)] {
        if !text.is_empty() {
            json[key] = text.clone().into();
        }
    }
    if model.has_cover {
        let name: Vec<String> = model.name.split('/').map(percent_encode).collect();
        json["cover"] = format!("/experiment/models/preview/checkpoints/0/{}", name.join("/")).into();
    }
    json
}
