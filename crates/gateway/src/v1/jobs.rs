//! `/v1/jobs`: listing, reading, cancelling and removing jobs, and their pictures.

use super::job::{JobList, JobView, Picture};
use crate::app::Shared;
use crate::comfy::view;
use crate::error::{ApiError, Body, object_or_empty, read_json};
use crate::extract::{Path, Query};
use crate::files;
use crate::openapi::failures::{Away, Conflict, Error, FileAnswer, Outside, TooLarge, Unknown, Wrong};
use crate::serve_file::{self, percent_encode};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use comfy_graph::ErrorCode;
use comfy_proto::orchestrator::{DeleteJobsRequest, Job, JobStatus, ListJobsRequest};
use serde::Deserialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1000;

const STATUSES: [(JobStatus, &str); 5] = [
    (JobStatus::Queued, "queued"),
    (JobStatus::Running, "running"),
    (JobStatus::Completed, "completed"),
    (JobStatus::Failed, "failed"),
    (JobStatus::Cancelled, "cancelled"),
];

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListParams {
    /// Statuses, joined by commas.
    #[param(pattern = "^((queued|running|completed|failed|cancelled)(,|$))*$")]
    status: Option<String>,
    /// 100 if left out.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// How many to leave out.
    #[param(value_type = Option<u64>, maximum = 4_294_967_295u64)]
    offset: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct OutputParams {
    /// Which one, from 0.
    #[param(value_type = Option<u64>, maximum = 4_294_967_295u64)]
    index: Option<String>,
}

#[utoipa::path(
    get,
    path = "/v1/jobs",
    tag = "v1",
    summary = "Lists jobs, newest first.",
    params(ListParams),
    responses(
        (status = 200, description = "The answer.", body = JobList),
        Wrong<Error>, Away<Error>,
    ),
)]
pub async fn list(
    State(app): State<Shared>,
    Query(params): Query<ListParams>,
) -> Result<Json<JobList>, ApiError> {
    let limit = number("limit", params.limit.as_deref())?.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::bad_request(format!("`limit` is {limit}, expected 1..={MAX_LIMIT}")));
    }
    let request = ListJobsRequest {
        statuses: read_statuses(params.status.as_deref().unwrap_or_default())?,
        limit,
        offset: number("offset", params.offset.as_deref())?.unwrap_or(0),
        newest_first: true,
        ..Default::default()
    };
    let page = app.orchestrator.jobs(request).await?;
    Ok(Json(JobList { jobs: page.jobs.iter().map(JobView::from).collect(), total: page.total }))
}

fn number(name: &str, text: Option<&str>) -> Result<Option<u32>, ApiError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    text.parse()
        .map(Some)
        .map_err(|_| ApiError::bad_request(format!("`{name}` is `{text}`, not a whole number")))
}

/// Reads a list of statuses joined by commas; empty means all.
fn read_statuses(text: &str) -> Result<Vec<i32>, ApiError> {
    let read = |name: &str| {
        let found = STATUSES.iter().find(|(_, known)| *known == name);
        found.map(|(status, _)| (*status).into()).ok_or_else(|| {
            let valid = STATUSES.map(|(_, name)| format!("`{name}`")).join(", ");
            ApiError::bad_request(format!("no status `{name}`, expected some of {valid}"))
        })
    };
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(read).collect()
}

#[utoipa::path(
    get,
    path = "/v1/jobs/{id}",
    tag = "v1",
    summary = "Shows a job.",
    params(("id" = String, Path, description = "The id of a job.", example = "6c3f4a52-5f7e-4c3a-9a6e-0d4c1e4a3b2f")),
    responses(
        (status = 200, description = "The answer.", body = JobView),
        Wrong<Error>, Unknown<Error>, Away<Error>,
    ),
)]
pub async fn get(State(app): State<Shared>, Path(id): Path<String>) -> Result<Json<JobView>, ApiError> {
    Ok(Json(JobView::from(&app.orchestrator.job(&id).await?)))
}

/// Cancels a job; one that has ended stays as it is.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/cancel",
    tag = "v1",
    summary = "Cancels a job that has not ended.",
    params(("id" = String, Path, description = "The id of a job.", example = "6c3f4a52-5f7e-4c3a-9a6e-0d4c1e4a3b2f")),
    responses(
        (status = 200, description = "The answer.", body = JobView),
        Wrong<Error>, Unknown<Error>, Away<Error>,
    ),
)]
pub async fn cancel(State(app): State<Shared>, Path(id): Path<String>) -> Result<Json<JobView>, ApiError> {
    Ok(Json(JobView::from(&app.orchestrator.cancel(&id).await?)))
}

/// Moves a job that waits before another one, or to the end of the queue.
#[utoipa::path(
    post,
    path = "/v1/jobs/{id}/move",
    tag = "v1",
    summary = "Moves a job that waits to another place.",
    params(("id" = String, Path, description = "The id of a job.", example = "6c3f4a52-5f7e-4c3a-9a6e-0d4c1e4a3b2f")),
    request_body = JobMove,
    responses(
        (status = 200, description = "The answer.", body = JobView),
        Wrong<Error>, Unknown<Error>, Conflict<Error>, TooLarge<Error>, Away<Error>,
    ),
)]
pub async fn move_in_queue(
    State(app): State<Shared>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<JobView>, ApiError> {
    let before = read_move(&read_json(body)?)?;
    Ok(Json(JobView::from(&app.orchestrator.move_job(&id, before).await?)))
}

/// Where to.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "described here, read by hand: errors name what is wrong")]
pub struct JobMove {
    /// A job that waits; null: to the end of the queue.
    #[schema(required, min_length = 1)]
    before: Option<String>,
}

fn read_move(body: &Value) -> Result<Option<String>, ApiError> {
    let wrong = || {
        ApiError::bad_request("expected an object with `before` alone: the id of a job that waits, or null")
    };
    let fields = body.as_object().filter(|fields| fields.len() == 1).ok_or_else(wrong)?;
    match fields.get("before") {
        Some(Value::Null) => Ok(None),
        Some(Value::String(id)) if !id.is_empty() => Ok(Some(id.clone())),
        _ => Err(wrong()),
    }
}

/// Forgets a job that has ended. Its pictures stay.
#[utoipa::path(
    delete,
    path = "/v1/jobs/{id}",
    tag = "v1",
    summary = "Removes an ended job.",
    params(("id" = String, Path, description = "The id of a job.", example = "6c3f4a52-5f7e-4c3a-9a6e-0d4c1e4a3b2f")),
    responses(
        (status = 204, description = "Done."),
        Wrong<Error>, Unknown<Error>, Conflict<Error>, Away<Error>,
    ),
)]
pub async fn delete(State(app): State<Shared>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    let job = app.orchestrator.job(&id).await?;
    if !has_ended(&job) {
        let message = format!("job `{id}` is {}, cancel it first", status_name(job.status()));
        return Err(ApiError::from_code(ErrorCode::FailedPrecondition, message));
    }
    app.orchestrator.delete(DeleteJobsRequest { job_ids: vec![id], all: false }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether a job has reached a state that it keeps.
pub fn has_ended(job: &Job) -> bool {
    matches!(job.status(), JobStatus::Completed | JobStatus::Failed | JobStatus::Cancelled)
}

/// The bytes of the first, or nth, picture.
#[utoipa::path(
    get,
    path = "/v1/jobs/{id}/output",
    tag = "v1",
    summary = "Gives a picture that the job made.",
    params(("id" = String, Path, description = "The id of a job.", example = "6c3f4a52-5f7e-4c3a-9a6e-0d4c1e4a3b2f"), OutputParams),
    responses(
        FileAnswer,
        Wrong<Error>, Outside<Error>, Unknown<Error>, Away<Error>,
    ),
)]
pub async fn output(
    State(app): State<Shared>,
    Path(id): Path<String>,
    Query(params): Query<OutputParams>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let index = number("index", params.index.as_deref())?.unwrap_or(0);
    let job = app.orchestrator.job(&id).await?;
    let Some(picture) = pictures(&job).into_iter().nth(index as usize) else {
        let status = status_name(job.status());
        return Err(if has_ended(&job) {
            ApiError::not_found(format!("job `{id}` is {status} and has no output {index}"))
        } else {
            let message = format!("job `{id}` is {status}, output {index} is not there yet");
            ApiError::new(StatusCode::NOT_FOUND, "output_not_ready", message)
        });
    };
    let folders = app.folders.clone();
    let path = files::blocking(move || {
        view::resolve(&folders, &picture.filename, Some(&picture.kind), &picture.subfolder)
    })
    .await?;
    serve_file::serve(&path, method, headers).await
}

/// Reads the files out of what output nodes told the page: lists of `{filename, subfolder, type}` under any key.
pub(super) fn pictures(job: &Job) -> Vec<Picture> {
    let mut pictures = Vec::new();
    for output in &job.outputs {
        let ui = object_or_empty(&output.ui_json);
        let entries =
            ui.as_object().into_iter().flat_map(|ui| ui.values()).filter_map(Value::as_array).flatten();
        for entry in entries {
            let Some(filename) = entry["filename"].as_str() else { continue };
            let subfolder = entry["subfolder"].as_str().unwrap_or_default();
            let kind = entry["type"].as_str().unwrap_or("output");
            pictures.push(Picture {
                node_id: output.node_id.clone(),
                filename: filename.into(),
                subfolder: subfolder.into(),
                kind: kind.into(),
                url: format!(
                    "/view?filename={}&subfolder={}&type={}",
                    percent_encode(filename),
                    percent_encode(subfolder),
                    percent_encode(kind)
                ),
            });
        }
    }
    pictures
}

/// What `/v1` calls a status.
pub(super) fn status_name(status: JobStatus) -> &'static str {
    STATUSES.iter().find(|(known, _)| *known == status).map_or("unknown", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn statuses_are_checked() {
        assert_eq!(read_statuses("queued, running").unwrap(), [1, 2]);
        assert!(read_statuses("").unwrap().is_empty());
        assert!(read_statuses("done").unwrap_err().message.contains("`completed`"));
    }

    #[test]
    fn a_move_names_its_place() {
        assert_eq!(read_move(&json!({"before": null})).unwrap(), None);
        assert_eq!(read_move(&json!({"before": "j"})).unwrap(), Some("j".into()));
        for wrong in [
            json!({}),
            json!([]),
            json!({"before": 3}),
            json!({"before": ""}),
            json!({"before": null, "x": 1}),
        ] {
            assert!(read_move(&wrong).is_err(), "{wrong}");
        }
    }
}
