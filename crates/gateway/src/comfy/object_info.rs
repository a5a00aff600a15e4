//! `GET /object_info`: the node catalog in ComfyUI's shape.

use crate::app::Shared;
use crate::error::{ApiError, ComfyError};
use crate::extract::comfy::Path;
use crate::openapi::failures::{Away, Refusal, Wrong};
use crate::orchestrator_client::Orchestrator;
use axum::Json;
use axum::extract::State;
use comfy_graph::{CatalogNode, NodeSpec};
use serde_json::{Map, Value, json};

/// Every node that the stages offer. One that makes no sense is left out and logged, so that the others stay usable.
pub async fn catalog(orchestrator: &Orchestrator) -> Result<Vec<CatalogNode>, ApiError> {
    let nodes = orchestrator.nodes().await?;
    let mut catalog = Vec::with_capacity(nodes.len());
    for node in nodes {
        let Some(spec) = node.spec else { continue };
        let class = spec.class.clone();
        match NodeSpec::try_from(spec) {
            Ok(spec) => {
                catalog.push(CatalogNode { spec, stage: node.stage, stage_fingerprint: String::new() })
            }
            Err(error) => tracing::warn!(class, stage = node.stage, %error, "unusable node description"),
        }
    }
    Ok(catalog)
}

#[utoipa::path(
    get,
    path = "/object_info",
    tag = "comfyui",
    summary = "Describes every node class.",
    responses(
        (status = 200, description = "The answer.", body = Object),
        Away<Refusal>,
    ),
)]
pub async fn all(State(app): State<Shared>) -> Result<Json<Value>, ComfyError> {
    let catalog = catalog(&app.orchestrator).await?;
    let info: Map<String, Value> = catalog
        .iter()
        .map(|node| (node.spec.class.clone(), comfy_graph::object_info::object_info(node)))
        .collect();
    Ok(Json(Value::Object(info)))
}

/// One node; an unknown class is an empty object, as in ComfyUI.
#[utoipa::path(
    get,
    path = "/object_info/{class}",
    tag = "comfyui",
    summary = "Describes a node class; empty when there is none.",
    params(("class" = String, Path, description = "The name of a node class.")),
    responses(
        (status = 200, description = "The answer.", body = Object),
        Wrong<Refusal>, Away<Refusal>,
    ),
)]
pub async fn one(State(app): State<Shared>, Path(class): Path<String>) -> Result<Json<Value>, ComfyError> {
    let catalog = catalog(&app.orchestrator).await?;
    Ok(Json(match catalog.iter().find(|node| node.spec.class == class) {
        Some(node) => json!({class: comfy_graph::object_info::object_info(node)}),
        None => json!({}),
    }))
}
