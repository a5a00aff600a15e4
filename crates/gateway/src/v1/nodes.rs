//! `GET /v1/nodes`: the catalog that the stages describe.

use crate::app::Shared;
use crate::comfy::object_info::catalog;
use crate::error::ApiError;
use crate::openapi::failures::{Away, Error};
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// What there is to draw with.
#[derive(Serialize, ToSchema)]
pub struct NodeList {
    /// Class, inputs, outputs and stage of each node.
    #[schema(value_type = Vec<Object>)]
    nodes: Vec<Value>,
}

#[utoipa::path(
    get,
    path = "/v1/nodes",
    tag = "v1",
    summary = "Lists the nodes that the stages offer.",
    responses(
        (status = 200, description = "The answer.", body = NodeList),
        Away<Error>,
    ),
)]
pub async fn list(State(app): State<Shared>) -> Result<Json<NodeList>, ApiError> {
    let mut nodes = Vec::new();
    for node in catalog(&app.orchestrator).await? {
        let mut json = serde_json::to_value(&node.spec).map_err(|error| {
            ApiError::internal(format!("node `{}` cannot be written: {error}", node.spec.class))
        })?;
        json["stage"] = node.stage.into();
        nodes.push(json);
    }
    Ok(Json(NodeList { nodes }))
}
