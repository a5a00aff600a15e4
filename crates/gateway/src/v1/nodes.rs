//! `GET /v1/nodes`: the catalog that the stages describe.

use crate::app::Shared;
use crate::comfy::object_info::catalog;
use crate::error::ApiError;
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

pub async fn list(State(app): State<Shared>) -> Result<Json<Value>, ApiError> {
    let mut nodes = Vec::new();
    for node in catalog(&app.orchestrator).await? {
        let mut json = serde_json::to_value(&node.spec).map_err(|error| {
            ApiError::internal(format!("node `{}` cannot be written: {error}", node.spec.class))
        })?;
        json["stage"] = node.stage.into();
        nodes.push(json);
    }
    Ok(Json(json!({"nodes": nodes})))
}
