//! The `/v1` API: workflows, jobs, events, nodes, checkpoints, system.

pub mod checkpoints;
pub mod events;
pub mod jobs;
pub mod nodes;
pub mod system;
pub mod workflows;

use crate::app::Shared;
use axum::Router;
use axum::routing::{get, post};

pub fn router() -> Router<Shared> {
    Router::new()
        .route("/v1/nodes", get(nodes::list))
        .route("/v1/workflows", post(workflows::submit))
        .route("/v1/workflows/convert", post(workflows::convert))
        .route("/v1/jobs", get(jobs::list))
        .route("/v1/jobs/{id}", get(jobs::get).delete(jobs::delete))
        .route("/v1/jobs/{id}/cancel", post(jobs::cancel))
        .route("/v1/jobs/{id}/move", post(jobs::move_in_queue))
        .route("/v1/jobs/{id}/output", get(jobs::output))
        .route("/v1/events", get(events::stream))
        .route("/v1/checkpoints", get(checkpoints::list))
        .route("/v1/system", get(system::get))
        .route("/healthz", get(system::healthz))
        .route("/readyz", get(system::readyz))
}
