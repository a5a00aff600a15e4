//! `GET` and `POST /history`.

use super::frames::{Frame, JobFrames};
use super::queue::JobsToRemove;
use crate::app::Shared;
use crate::error::{ApiError, Body, ComfyError, flag, object_or_empty, read_object};
use crate::extract::comfy::{Path, Query};
use crate::openapi::failures::{Away, Refusal, TooLarge, Wrong};
use crate::orchestrator_client::Orchestrator;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use comfy_graph::ErrorCode;
use comfy_graph::graph::{parent_node, shown_node};
use comfy_proto::orchestrator::{DeleteJobsRequest, Job, JobStatus, ListJobsRequest};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::IntoParams;

/// Jobs asked for at once: graphs and events travel with each.
const PAGE: u32 = 16;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Params {
    /// How many; all if left out.
    #[param(value_type = Option<i64>)]
    max_items: Option<String>,
    /// From which on; -1: the last ones.
    #[param(value_type = Option<i64>)]
    offset: Option<String>,
}

#[utoipa::path(
    get,
    path = "/history",
    tag = "comfyui",
    summary = "Shows ended jobs by id.",
    params(Params),
    responses(
        (status = 200, description = "The answer.", body = Object),
        Wrong<Refusal>, Away<Refusal>,
    ),
)]
pub async fn get(State(app): State<Shared>, Query(params): Query<Params>) -> Result<Json<Value>, ComfyError> {
    let max_items = read_number("max_items", params.max_items)?;
    // -1 stands for "the last ones", as in ComfyUI.
    let offset = read_number("offset", params.offset)?.unwrap_or(-1);
    let limit = match max_items {
        None => usize::MAX,
        Some(n) => usize::try_from(n).unwrap_or(0),
    };
    let jobs = match usize::try_from(offset) {
        Ok(skip) => collect(&app.orchestrator, false, skip, limit).await?,
        Err(_) => {
            let mut jobs = collect(&app.orchestrator, true, 0, limit).await?;
            jobs.reverse();
            jobs
        }
    };
    Ok(Json(Value::Object(jobs.iter().map(|job| (job.id.clone(), entry(job))).collect())))
}

fn read_number(name: &str, text: Option<String>) -> Result<Option<i64>, ApiError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    text.parse()
        .map(Some)
        .map_err(|_| ApiError::bad_request(format!("`{name}` is `{text}`, not a whole number")))
}

async fn collect(
    orchestrator: &Orchestrator,
    newest_first: bool,
    skip: usize,
    limit: usize,
) -> Result<Vec<Job>, ApiError> {
    let statuses = [JobStatus::Completed, JobStatus::Failed, JobStatus::Cancelled].map(Into::into).to_vec();
    let (mut jobs, mut skipped, mut offset) = (Vec::new(), 0, 0);
    while jobs.len() < limit {
        let request = ListJobsRequest {
            statuses: statuses.clone(),
            limit: PAGE,
            offset,
            newest_first,
            detail: true,
            ..Default::default()
        };
        let page = orchestrator.jobs(request).await?.jobs;
        let full = page.len() == PAGE as usize;
        offset += PAGE;
        for job in page.into_iter().filter(belongs) {
            if skipped < skip {
                skipped += 1;
            } else if jobs.len() < limit {
                jobs.push(job);
            }
        }
        if !full {
            break;
        }
    }
    Ok(jobs)
}

// What never ran was only ever in the queue.
fn belongs(job: &Job) -> bool {
    job.finished_ms != 0 && job.started_ms != 0
}

#[utoipa::path(
    get,
    path = "/history/{id}",
    tag = "comfyui",
    summary = "Shows one ended job; empty when there is none.",
    params(("id" = String, Path, description = "The id of a job.", example = "6c3f4a52-5f7e-4c3a-9a6e-0d4c1e4a3b2f")),
    responses(
        (status = 200, description = "The answer.", body = Object),
        Wrong<Refusal>, Away<Refusal>,
    ),
)]
pub async fn get_one(State(app): State<Shared>, Path(id): Path<String>) -> Result<Json<Value>, ComfyError> {
    match app.orchestrator.job(&id).await {
        Ok(job) if belongs(&job) => Ok(Json(json!({id: entry(&job)}))),
        Ok(_) => Ok(Json(json!({}))),
        Err(error) if error.code == ErrorCode::NotFound.as_str() => Ok(Json(json!({}))),
        Err(error) => Err(error.into()),
    }
}

#[utoipa::path(
    post,
    path = "/history",
    tag = "comfyui",
    summary = "Removes ended jobs.",
    request_body = JobsToRemove,
    responses(
        (status = 200, description = "Done."),
        Wrong<Refusal>, TooLarge<Refusal>, Away<Refusal>,
    ),
)]
pub async fn post(State(app): State<Shared>, body: Body) -> Result<StatusCode, ComfyError> {
    let body = read_object(body)?;
    let job_ids = super::read_ids(&body["delete"])?;
    if flag(&body, "clear")? {
        app.orchestrator.delete(DeleteJobsRequest { job_ids: Vec::new(), all: true }).await?;
    }
    if !job_ids.is_empty() {
        super::ignore_missing(app.orchestrator.delete(DeleteJobsRequest { job_ids, all: false }).await)?;
    }
    Ok(StatusCode::OK)
}

/// A job that has ended, as ComfyUI's history shows it.
pub fn entry(job: &Job) -> Value {
    let outputs: Map<String, Value> =
        job.outputs.iter().map(|output| (output.node_id.clone(), object_or_empty(&output.ui_json))).collect();
    let meta: Map<String, Value> = job
        .outputs
        .iter()
        .map(|output| {
            let id = &output.node_id;
            (id.clone(), json!({"node_id": id, "display_node": shown_node(id), "parent_node": parent_node(id), "real_node_id": shown_node(id)}))
        })
        .collect();
    let completed = job.status() == JobStatus::Completed;
    json!({
        "prompt": super::queue::item(job),
        "outputs": outputs,
        "status": {
            "status_str": if completed { "success" } else { "error" },
            "completed": completed,
            "messages": messages(job),
        },
        "meta": meta,
    })
}

fn messages(job: &Job) -> Vec<Value> {
    let Some(first) = job.durable_events.first() else { return Vec::new() };
    let mut frames = JobFrames::new(first);
    job.durable_events
        .iter()
        .flat_map(|event| frames.on(event))
        .filter_map(|frame| match frame {
            Frame::Message { kind, data } if kind.starts_with("execution_") => Some(json!([kind, data])),
            _ => None,
        })
        .collect()
}
