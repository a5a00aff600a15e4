//! `GET` and `POST /queue`.

use crate::app::Shared;
use crate::error::{Body, ComfyError, flag, object_or_empty, read_object};
use crate::openapi::failures::{Away, Refusal, TooLarge, Wrong};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use comfy_proto::orchestrator::{Job, JobStatus, ListJobsRequest};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

/// What runs and what waits.
#[derive(Serialize, ToSchema)]
pub struct Queue {
    /// Each: number, id, graph, extra data, output nodes.
    #[schema(value_type = Vec<Vec<Value>>)]
    queue_running: Vec<Value>,
    /// As `queue_running`.
    #[schema(value_type = Vec<Vec<Value>>)]
    queue_pending: Vec<Value>,
}

/// Which jobs to remove. Ids that name nothing are ignored.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described here, read by hand: errors name what is wrong")]
pub struct JobsToRemove {
    /// All of them.
    clear: Option<bool>,
    delete: Option<Vec<Value>>,
}

#[utoipa::path(
    get,
    path = "/queue",
    tag = "comfyui",
    summary = "Shows running and waiting jobs.",
    responses(
        (status = 200, description = "The answer.", body = Queue),
        Away<Refusal>,
    ),
)]
pub async fn get(State(app): State<Shared>) -> Result<Json<Queue>, ComfyError> {
    let mut lists = [Vec::new(), Vec::new()];
    for (list, status) in lists.iter_mut().zip([JobStatus::Running, JobStatus::Queued]) {
        let request = ListJobsRequest { statuses: vec![status.into()], detail: true, ..Default::default() };
        list.extend(app.orchestrator.all_jobs(request).await?.iter().map(item));
    }
    let [queue_running, queue_pending] = lists;
    Ok(Json(Queue { queue_running, queue_pending }))
}

/// Takes jobs out of the queue; the running one stays.
#[utoipa::path(
    post,
    path = "/queue",
    tag = "comfyui",
    summary = "Takes waiting jobs out of the queue.",
    request_body = JobsToRemove,
    responses(
        (status = 200, description = "Done."),
        Wrong<Refusal>, TooLarge<Refusal>, Away<Refusal>,
    ),
)]
pub async fn post(State(app): State<Shared>, body: Body) -> Result<StatusCode, ComfyError> {
    let body = read_object(body)?;
    let clear = flag(&body, "clear")?;
    let delete = super::read_ids(&body["delete"])?;
    let request = ListJobsRequest { statuses: vec![JobStatus::Queued.into()], ..Default::default() };
    for job in app.orchestrator.jobs(request).await?.jobs {
        if clear || delete.contains(&job.id) {
            super::ignore_missing(app.orchestrator.cancel(&job.id).await)?;
        }
    }
    Ok(StatusCode::OK)
}

/// A job as ComfyUI's queue and history show it: `[number, id, graph, extra_data, outputs]`.
pub fn item(job: &Job) -> Value {
    let mut extra_data = object_or_empty(&job.extra_data_json);
    if !job.client_id.is_empty() {
        extra_data["client_id"] = job.client_id.clone().into();
    }
    // Later pages sort by it.
    extra_data["create_time"] = job.created_ms.into();
    json!([super::number(job.number), job.id, object_or_empty(&job.graph_json), extra_data, job.output_nodes])
}
