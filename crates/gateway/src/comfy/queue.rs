//! `GET` and `POST /queue`.

use crate::app::Shared;
use crate::error::{Body, ComfyError, object_or_empty, read_json};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use comfy_proto::orchestrator::{Job, JobStatus, ListJobsRequest};
use serde_json::{Value, json};

pub async fn get(State(app): State<Shared>) -> Result<Json<Value>, ComfyError> {
    let mut lists = [Vec::new(), Vec::new()];
    for (list, status) in lists.iter_mut().zip([JobStatus::Running, JobStatus::Queued]) {
        let request = ListJobsRequest { statuses: vec![status.into()], detail: true, ..Default::default() };
        list.extend(app.orchestrator.all_jobs(request).await?.iter().map(item));
    }
    let [running, pending] = lists;
    Ok(Json(json!({"queue_running": running, "queue_pending": pending})))
}

/// Takes jobs out of the queue; the running one stays.
pub async fn post(State(app): State<Shared>, body: Body) -> Result<StatusCode, ComfyError> {
    let body = read_json(body)?;
    let clear = body["clear"] == true;
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
