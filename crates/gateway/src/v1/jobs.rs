//! `/v1/jobs`: listing, reading, cancelling and removing jobs, and their pictures.

use crate::app::Shared;
use crate::comfy::view;
use crate::error::{ApiError, Body, object_or_empty, read_json};
use crate::files;
use crate::serve_file::{self, percent_encode};
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use comfy_graph::ErrorCode;
use comfy_proto::graph::ErrorCode as WireCode;
use comfy_proto::orchestrator::job_event::Kind;
use comfy_proto::orchestrator::{DeleteJobsRequest, Job, JobError, JobStatus, ListJobsRequest, NodeUi};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1000;

const STATUSES: [(JobStatus, &str); 5] = [
    (JobStatus::Queued, "queued"),
    (JobStatus::Running, "running"),
    (JobStatus::Completed, "completed"),
    (JobStatus::Failed, "failed"),
    (JobStatus::Cancelled, "cancelled"),
];

#[derive(Deserialize)]
pub struct ListParams {
    status: Option<String>,
    limit: Option<String>,
    offset: Option<String>,
}

#[derive(Deserialize)]
pub struct OutputParams {
    index: Option<String>,
}

pub async fn list(
    State(app): State<Shared>,
    Query(params): Query<ListParams>,
) -> Result<Json<Value>, ApiError> {
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
    let jobs: Vec<Value> = page.jobs.iter().map(job_json).collect();
    Ok(Json(json!({"jobs": jobs, "total": page.total})))
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

pub async fn get(State(app): State<Shared>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    Ok(Json(job_json(&app.orchestrator.job(&id).await?)))
}

/// Cancels a job; one that has ended stays as it is.
pub async fn cancel(State(app): State<Shared>, Path(id): Path<String>) -> Result<Json<Value>, ApiError> {
    Ok(Json(job_json(&app.orchestrator.cancel(&id).await?)))
}

/// Moves a job that waits before another one, or to the end of the queue.
pub async fn move_in_queue(
    State(app): State<Shared>,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let before = read_move(&read_json(body)?)?;
    Ok(Json(job_json(&app.orchestrator.move_job(&id, before).await?)))
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

/// A picture that a job made.
#[derive(Debug, Serialize)]
struct Picture {
    node_id: String,
    filename: String,
    subfolder: String,
    #[serde(rename = "type")]
    kind: String,
    url: String,
}

/// Reads the files out of what output nodes told the page: lists of `{filename, subfolder, type}` under any key.
fn pictures(job: &Job) -> Vec<Picture> {
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

/// What nodes say in words.
fn texts(job: &Job) -> Vec<Value> {
    let said = |output: &NodeUi| {
        let lines: Vec<String> = match &object_or_empty(&output.ui_json)["text"] {
            Value::String(text) => vec![text.clone()],
            Value::Array(lines) => lines.iter().filter_map(Value::as_str).map(Into::into).collect(),
            _ => Vec::new(),
        };
        (!lines.is_empty()).then(|| json!({"node_id": output.node_id, "text": lines}))
    };
    job.outputs.iter().filter_map(said).collect()
}

/// The most memory that each stage's process held while nodes of the job ran there; nothing when none was measured.
fn memory(job: &Job) -> Option<Value> {
    let mut nodes: IndexMap<&str, (&str, u64)> = IndexMap::new();
    for event in &job.durable_events {
        if let Some(Kind::NodeDone(done)) = &event.kind
            && done.peak_bytes > 0
        {
            nodes.insert(&done.node_id, (&done.stage, done.peak_bytes));
        }
    }
    let mut stages: IndexMap<&str, u64> = IndexMap::new();
    for &(stage, bytes) in nodes.values() {
        let most = stages.entry(stage).or_default();
        *most = bytes.max(*most);
    }
    let most = stages.values().max()?;
    let nodes =
        nodes.iter().map(|(id, (stage, bytes))| json!({"node_id": id, "stage": stage, "peak_bytes": bytes}));
    let by_stage = stages.iter().map(|(stage, bytes)| json!({"stage": stage, "peak_bytes": bytes}));
    Some(
        json!({"peak_bytes": most, "stages": by_stage.collect::<Value>(), "nodes": nodes.collect::<Value>()}),
    )
}

fn status_name(status: JobStatus) -> &'static str {
    STATUSES.iter().find(|(known, _)| *known == status).map_or("unknown", |(_, name)| name)
}

/// A job as `/v1` shows it.
fn job_json(job: &Job) -> Value {
    let mut json = json!({
        "id": job.id,
        "status": status_name(job.status()),
        "number": crate::comfy::number(job.number),
        "created_at_ms": job.created_ms,
    });
    if job.ordinal > 0 {
        json["ordinal"] = job.ordinal.into();
    }
    for (key, at) in [("started_at_ms", job.started_ms), ("finished_at_ms", job.finished_ms)] {
        if at != 0 {
            json[key] = at.into();
        }
    }
    json["nodes_total"] = job.nodes_total.into();
    json["nodes_done"] = job.nodes_done.into();
    if !job.current_node.is_empty() {
        json["current_node"] = job.current_node.clone().into();
        if job.progress_max > 0 {
            json["progress"] =
                json!({"node_id": job.current_node, "value": job.progress_value, "max": job.progress_max});
        }
    }
    json["outputs"] = pictures(job).iter().map(|picture| json!(picture)).collect();
    let texts = texts(job);
    if !texts.is_empty() {
        json["texts"] = texts.into();
    }
    if let Some(memory) = memory(job) {
        json["memory"] = memory;
    }
    if let Some(error) = &job.error {
        json["error"] = error_json(error);
    }
    json
}

/// Why a job failed, as `/v1` shows it.
pub fn error_json(error: &JobError) -> Value {
    let code = ErrorCode::from(WireCode::try_from(error.code).unwrap_or(WireCode::Unspecified));
    let mut json = json!({"code": code.as_str(), "message": error.message});
    for (key, text) in [("node_id", &error.node_id), ("class_type", &error.class)] {
        if !text.is_empty() {
            json[key] = text.clone().into();
        }
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use comfy_proto::orchestrator::{JobEvent, NodeDone};

    #[test]
    fn statuses_are_checked() {
        assert_eq!(read_statuses("queued, running").unwrap(), [1, 2]);
        assert!(read_statuses("").unwrap().is_empty());
        assert!(read_statuses("done").unwrap_err().message.contains("`completed`"));
    }

    #[test]
    fn absent_parts_are_left_out() {
        let mut job =
            Job { id: "j".into(), status: JobStatus::Queued.into(), number: 3.0, ..Default::default() };
        let json = job_json(&job);
        assert_eq!(json["number"].to_string(), "3");
        for key in ["started_at_ms", "finished_at_ms", "current_node", "progress", "error"] {
            assert!(json.get(key).is_none(), "{key}");
        }
        let ui_json = r#"{"images":[{"filename":"a b.png","subfolder":"x/y","type":"temp"}],"text":["t"]}"#;
        job.outputs =
            vec![NodeUi { node_id: "9".into(), class: "SaveImage".into(), ui_json: ui_json.into() }];
        let json = job_json(&job);
        assert_eq!(json["outputs"][0]["url"], "/view?filename=a%20b.png&subfolder=x%2Fy&type=temp");
        assert_eq!(json["texts"], json!([{"node_id": "9", "text": ["t"]}]));
    }

    #[test]
    fn memory_is_told_per_node_and_stage() {
        let done = |node_id: &str, stage: &str, peak_bytes| {
            let done =
                NodeDone { node_id: node_id.into(), stage: stage.into(), peak_bytes, ..Default::default() };
            JobEvent { kind: Some(Kind::NodeDone(done)), ..Default::default() }
        };
        let mut job = Job { durable_events: vec![done("1", "a", 0)], ..Default::default() };
        assert!(job_json(&job).get("memory").is_none(), "what was not measured is not shown");
        // A node that ran twice counts as it ran last.
        job.durable_events.extend([
            done("2", "a", 9),
            done("2", "a", 5),
            done("3", "a", 7),
            done("4", "b", 6),
        ]);
        let expected = json!({
            "peak_bytes": 7,
            "stages": [{"stage": "a", "peak_bytes": 7}, {"stage": "b", "peak_bytes": 6}],
            "nodes": [
                {"node_id": "2", "stage": "a", "peak_bytes": 5},
                {"node_id": "3", "stage": "a", "peak_bytes": 7},
                {"node_id": "4", "stage": "b", "peak_bytes": 6},
            ],
        });
        assert_eq!(job_json(&job)["memory"], expected);
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
