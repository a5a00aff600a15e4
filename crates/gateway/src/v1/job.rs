//! A job as `/v1` shows it.

use super::jobs::{pictures, status_name};
use comfy_graph::ErrorCode;
use comfy_proto::graph::ErrorCode as WireCode;
use comfy_proto::orchestrator::{Job, JobError};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// A page of jobs.
#[derive(Serialize, ToSchema)]
pub struct JobList {
    pub jobs: Vec<JobView>,
    /// How many there are in all.
    pub total: u32,
}

/// One execution of a workflow. What is not known yet is left out.
#[derive(Serialize, ToSchema)]
#[schema(as = Job)]
pub struct JobView {
    id: String,
    #[schema(value_type = StatusName)]
    status: &'static str,
    /// Its place in the queue.
    #[schema(value_type = f64)]
    number: Value,
    created_at_ms: i64,
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at_ms: Option<i64>,
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at_ms: Option<i64>,
    nodes_total: u32,
    nodes_done: u32,
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    current_node: Option<String>,
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
    outputs: Vec<Picture>,
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failure>,
}

/// The statuses of a job, for the description.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "described, never made")]
enum StatusName {
    Queued,
    Running,
    Completed,
    Failed,
    Cancelled,
}

/// How far a node has come.
#[derive(Serialize, ToSchema)]
struct Progress {
    node_id: String,
    value: u64,
    max: u64,
}

/// A picture that a job made.
#[derive(Debug, Serialize, ToSchema)]
pub struct Picture {
    pub node_id: String,
    pub filename: String,
    pub subfolder: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub url: String,
}

/// Why a job failed.
#[derive(Serialize, ToSchema)]
pub struct Failure {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    node_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    class_type: String,
}

impl From<&Job> for JobView {
    fn from(job: &Job) -> Self {
        let at = |ms: i64| (ms != 0).then_some(ms);
        let current_node = (!job.current_node.is_empty()).then(|| job.current_node.clone());
        let progress = current_node.clone().filter(|_| job.progress_max > 0).map(|node_id| Progress {
            node_id,
            value: job.progress_value,
            max: job.progress_max,
        });
        Self {
            id: job.id.clone(),
            status: status_name(job.status()),
            number: crate::comfy::number(job.number),
            created_at_ms: job.created_ms,
            started_at_ms: at(job.started_ms),
            finished_at_ms: at(job.finished_ms),
            nodes_total: job.nodes_total,
            nodes_done: job.nodes_done,
            current_node,
            progress,
            outputs: pictures(job),
            error: job.error.clone().map(Failure::from),
        }
    }
}

impl From<JobError> for Failure {
    fn from(error: JobError) -> Self {
        let code = ErrorCode::from(WireCode::try_from(error.code).unwrap_or(WireCode::Unspecified));
        Self { code: code.as_str(), message: error.message, node_id: error.node_id, class_type: error.class }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use comfy_proto::orchestrator::{JobStatus, NodeUi};
    use serde_json::json;

    #[test]
    fn absent_parts_are_left_out() {
        let mut job =
            Job { id: "j".into(), status: JobStatus::Queued.into(), number: 3.0, ..Default::default() };
        let json = json!(JobView::from(&job));
        assert_eq!(json["number"].to_string(), "3");
        for key in ["started_at_ms", "finished_at_ms", "current_node", "progress", "error"] {
            assert!(json.get(key).is_none(), "{key}");
        }
        let ui_json = r#"{"images":[{"filename":"a b.png","subfolder":"x/y","type":"temp"}],"text":["t"]}"#;
        job.outputs =
            vec![NodeUi { node_id: "9".into(), class: "SaveImage".into(), ui_json: ui_json.into() }];
        assert_eq!(
            json!(JobView::from(&job))["outputs"][0]["url"],
            "/view?filename=a%20b.png&subfolder=x%2Fy&type=temp"
        );
    }
}
