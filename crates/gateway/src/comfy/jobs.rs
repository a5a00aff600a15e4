//! `/api/jobs`: the list of jobs that ComfyUI has had since 0.6, which later pages read instead of `/history`.

use super::history;
use crate::app::Shared;
use crate::error::{ApiError, Body, object_or_empty, read_json};
use crate::extract::{Path, Query};
use crate::openapi::failures::{Away, JobsRefusal, TooLarge, Unknown, Wrong};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use comfy_graph::ErrorCode;
use comfy_proto::orchestrator::{Job, JobOrder, JobStatus, ListJobsRequest};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};

/// Jobs asked for at once: graphs and events travel with each.
const PAGE: u32 = 16;

const STATUSES: [(JobStatus, &str); 5] = [
    (JobStatus::Queued, "pending"),
    (JobStatus::Running, "in_progress"),
    (JobStatus::Completed, "completed"),
    (JobStatus::Failed, "failed"),
    (JobStatus::Cancelled, "cancelled"),
];

/// An error in the shape of these routes: `{"error": text}`.
pub struct JobsError(StatusCode, JobsRefusal);

impl JobsError {
    fn bad(message: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, JobsRefusal { error: message.into().into(), invalid_ids: None })
    }
}

impl From<ApiError> for JobsError {
    fn from(error: ApiError) -> Self {
        Self(error.status, JobsRefusal { error: error.message.into(), invalid_ids: None })
    }
}

impl IntoResponse for JobsError {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// `pending`, `in_progress`, `completed`, `failed`, `cancelled`, joined by commas.
    #[param(pattern = "^((pending|in_progress|completed|failed|cancelled)(,|$))*$")]
    status: Option<String>,
    /// Only of this drawn workflow.
    #[serde(default)]
    workflow_id: String,
    /// `created_at` or `execution_duration`.
    #[param(pattern = "^(created_at|execution_duration)?$")]
    sort_by: Option<String>,
    /// `asc` or `desc`.
    #[param(pattern = "^(asc|desc)?$")]
    sort_order: Option<String>,
    /// How many; all if left out.
    #[param(value_type = Option<u64>, maximum = 4_294_967_295u64)]
    limit: Option<String>,
    /// How many to leave out.
    #[param(value_type = Option<u64>, maximum = 4_294_967_295u64)]
    offset: Option<String>,
}

#[utoipa::path(
    get,
    path = "/jobs",
    tag = "comfyui",
    summary = "Lists jobs as later versions of ComfyUI do.",
    params(ListParams),
    responses(
        (status = 200, description = "The answer.", body = JobPage),
        Wrong<JobsRefusal>, Away<JobsRefusal>,
    ),
)]
pub async fn list(
    State(app): State<Shared>,
    Query(params): Query<ListParams>,
) -> Result<Json<JobPage>, JobsError> {
    let order = choice("sort_by", params.sort_by.as_deref(), &["created_at", "execution_duration"])?;
    let newest_first = choice("sort_order", params.sort_order.as_deref(), &["desc", "asc"])? == "desc";
    let order = if order == "created_at" { JobOrder::Unspecified } else { JobOrder::Duration };
    let limit = number("limit", params.limit.as_deref())?.filter(|limit| *limit > 0);
    let offset = number("offset", params.offset.as_deref())?.unwrap_or(0);
    let mut request = ListJobsRequest {
        statuses: read_statuses(params.status.as_deref().unwrap_or_default())?,
        offset,
        newest_first,
        detail: true,
        workflow_id: params.workflow_id,
        order: order.into(),
        ..Default::default()
    };
    let wanted = limit.unwrap_or(u32::MAX);
    let (mut jobs, mut total) = (Vec::new(), u32::MAX);
    while jobs.len() < wanted as usize && request.offset < total {
        let missing = wanted - u32::try_from(jobs.len()).unwrap_or(u32::MAX);
        request.limit = missing.min(PAGE);
        let page = app.orchestrator.jobs(request.clone()).await?;
        total = page.total;
        if page.jobs.is_empty() {
            break;
        }
        request.offset += u32::try_from(page.jobs.len()).unwrap_or(PAGE);
        jobs.extend(page.jobs.iter().map(summary));
    }
    let total = if total == u32::MAX { 0 } else { total };
    let has_more = (offset as usize + jobs.len()) < total as usize;
    Ok(Json(JobPage { jobs, pagination: Pagination { offset, limit, total, has_more } }))
}

/// A page of jobs.
#[derive(Serialize, ToSchema)]
pub struct JobPage {
    #[schema(value_type = Vec<Object>)]
    jobs: Vec<Value>,
    pagination: Pagination,
}

#[derive(Serialize, ToSchema)]
struct Pagination {
    offset: u32,
    limit: Option<u32>,
    total: u32,
    has_more: bool,
}

/// Whether a job was cancelled by this request.
#[derive(Serialize, ToSchema)]
pub struct Cancelled {
    cancelled: bool,
}

/// The jobs that were cancelled by this request.
#[derive(Serialize, ToSchema)]
pub struct CancelledJobs {
    cancelled: Vec<String>,
}

/// Some jobs.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described here, read by hand: errors name the ids that are none")]
pub struct JobIds {
    job_ids: Vec<uuid::Uuid>,
}

fn choice<'a>(name: &str, given: Option<&'a str>, valid: &[&'a str]) -> Result<&'a str, JobsError> {
    match given.filter(|text| !text.is_empty()) {
        None => Ok(valid[0]),
        Some(text) if valid.contains(&text) => Ok(text),
        Some(text) => {
            Err(JobsError::bad(format!("`{name}` is `{text}`, expected one of {}", valid.join(", "))))
        }
    }
}

fn number(name: &str, text: Option<&str>) -> Result<Option<u32>, JobsError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let number = text.parse().map(Some);
    number.map_err(|_| JobsError::bad(format!("`{name}` is `{text}`, not a whole number of at least 0")))
}

fn read_statuses(text: &str) -> Result<Vec<i32>, JobsError> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let known = STATUSES.iter().find(|(_, known)| *known == name);
            known.map(|(status, _)| i32::from(*status)).ok_or_else(|| {
                let valid = STATUSES.map(|(_, name)| name).join(", ");
                JobsError::bad(format!("no status `{name}`, expected some of {valid}"))
            })
        })
        .collect()
}

/// One job; 404 when there is none.
#[utoipa::path(
    get,
    path = "/jobs/{id}",
    tag = "comfyui",
    summary = "Shows a job with its graph.",
    params(("id" = String, Path, description = "The id of a job.", example = "6c3f4a52-5f7e-4c3a-9a6e-0d4c1e4a3b2f")),
    responses(
        (status = 200, description = "The answer.", body = Object),
        Wrong<JobsRefusal>, Unknown<JobsRefusal>, Away<JobsRefusal>,
    ),
)]
pub async fn one(State(app): State<Shared>, Path(id): Path<String>) -> Result<Json<Value>, JobsError> {
    let job = app.orchestrator.job(&id).await?;
    let mut json = summary(&job);
    let entry = history::entry(&job);
    json["outputs"] = entry["outputs"].clone();
    json["execution_meta"] = entry["meta"].clone();
    if job.finished_ms != 0 {
        json["execution_status"] = entry["status"].clone();
    }
    json["workflow"] = json!({"prompt": object_or_empty(&job.graph_json), "extra_data": entry["prompt"][3]});
    Ok(Json(json))
}

/// Cancels a job that has not ended; asked again, nothing happens.
#[utoipa::path(
    post,
    path = "/jobs/{id}/cancel",
    tag = "comfyui",
    summary = "Cancels a job.",
    params(("id" = String, Path, description = "The id of a job.", example = "6c3f4a52-5f7e-4c3a-9a6e-0d4c1e4a3b2f")),
    responses(
        (status = 200, description = "The answer.", body = Cancelled),
        Wrong<JobsRefusal>, Unknown<JobsRefusal>, Away<JobsRefusal>,
    ),
)]
pub async fn cancel(State(app): State<Shared>, Path(id): Path<String>) -> Result<Json<Cancelled>, JobsError> {
    Ok(Json(Cancelled { cancelled: app.orchestrator.try_cancel(&id).await?.cancelled }))
}

/// Cancels the jobs among some that have not ended. Ids that name nothing are left out of the answer.
#[utoipa::path(
    post,
    path = "/jobs/cancel",
    tag = "comfyui",
    summary = "Cancels several jobs.",
    request_body = JobIds,
    responses(
        (status = 200, description = "The answer.", body = CancelledJobs),
        Wrong<JobsRefusal>, TooLarge<JobsRefusal>, Away<JobsRefusal>,
    ),
)]
pub async fn cancel_many(State(app): State<Shared>, body: Body) -> Result<Json<CancelledJobs>, JobsError> {
    let body = read_json(body)?;
    let Some(ids) = body["job_ids"].as_array() else {
        return Err(JobsError::bad("`job_ids` is not a list of job ids"));
    };
    let invalid: Vec<&Value> =
        ids.iter().filter(|id| id.as_str().is_none_or(|id| id.parse::<uuid::Uuid>().is_err())).collect();
    if !invalid.is_empty() {
        let error = "some of `job_ids` are not ids".into();
        let invalid_ids = Some(invalid.into_iter().cloned().collect());
        return Err(JobsError(StatusCode::BAD_REQUEST, JobsRefusal { error, invalid_ids }));
    }
    let mut cancelled = Vec::new();
    for id in ids.iter().filter_map(Value::as_str) {
        match app.orchestrator.try_cancel(id).await {
            Ok(answer) if answer.cancelled => cancelled.push(id.to_owned()),
            Ok(_) => {}
            Err(error) if error.code == ErrorCode::NotFound.as_str() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Json(CancelledJobs { cancelled }))
}

/// What a list shows of a job. What is not known yet is left out.
fn summary(job: &Job) -> Value {
    let status =
        STATUSES.iter().find(|(known, _)| *known == job.status()).map_or("pending", |(_, name)| name);
    let mut json = json!({
        "id": job.id,
        "status": status,
        "priority": super::number(job.number),
        "create_time": job.created_ms,
    });
    let times = [("execution_start_time", job.started_ms), ("execution_end_time", job.finished_ms)];
    for (key, at) in times.into_iter().filter(|(_, at)| *at != 0) {
        json[key] = at.into();
    }
    if let Some(error) = &job.error {
        json["execution_error"] = json!({
            "node_id": error.node_id,
            "node_type": error.class,
            "exception_message": error.message,
        });
    }
    let files: Vec<Value> =
        job.outputs.iter().flat_map(|output| shown(&output.node_id, &output.ui_json)).collect();
    json["outputs_count"] = files.len().into();
    // A saved picture says more than a preview.
    let seen: Vec<&Value> = files.iter().filter(|file| can_be_seen(file)).collect();
    let best = seen.iter().find(|file| file["type"] == "output").or_else(|| seen.first());
    if let Some(best) = best {
        json["preview_output"] = (*best).clone();
    }
    let extra = object_or_empty(&job.extra_data_json);
    let workflow_id = &extra["extra_pnginfo"]["workflow"]["id"];
    if workflow_id.is_string() {
        json["workflow_id"] = workflow_id.clone();
    }
    json
}

/// Whether a page can show a file; models and latents are saved too.
fn can_be_seen(file: &Value) -> bool {
    const ENDS: [&str; 10] = ["png", "webp", "jpg", "jpeg", "gif", "apng", "svg", "mp4", "webm", "glb"];
    let name = file["filename"].as_str().unwrap_or_default();
    name.rsplit_once('.').is_some_and(|(_, end)| ENDS.contains(&end.to_ascii_lowercase().as_str()))
}

/// The files that a node showed, under whatever key.
fn shown(node_id: &str, ui_json: &str) -> Vec<Value> {
    let ui = object_or_empty(ui_json);
    let lists = ui.as_object().into_iter().flatten();
    let files = lists.flat_map(|(key, list)| {
        list.as_array().into_iter().flatten().filter_map(move |file| {
            let mut file: Map<String, Value> =
                file.as_object().filter(|f| f.contains_key("filename"))?.clone();
            file.insert("nodeId".into(), node_id.into());
            file.insert("mediaType".into(), key.as_str().into());
            Some(Value::Object(file))
        })
    });
    files.collect()
}
