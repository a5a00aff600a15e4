//! The `/v1` API: workflows, jobs, events, nodes, checkpoints, system.

pub mod checkpoints;
pub mod events;
pub mod job;
pub mod jobs;
pub mod nodes;
pub mod system;
pub mod workflows;

use crate::app::Shared;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn router() -> OpenApiRouter<Shared> {
    OpenApiRouter::default()
        .routes(routes!(nodes::list))
        .routes(routes!(workflows::submit))
        .routes(routes!(workflows::convert))
        .routes(routes!(jobs::list))
        .routes(routes!(jobs::get, jobs::delete))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::move_in_queue))
        .routes(routes!(jobs::output))
        .routes(routes!(events::stream))
        .routes(routes!(checkpoints::list))
        .routes(routes!(system::get))
        .routes(routes!(system::healthz))
        .routes(routes!(system::readyz))
}
