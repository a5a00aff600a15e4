//! A job as `/v1` shows it.

use super::jobs::{pictures, status_name};
use crate::error::object_or_empty;
use comfy_graph::ErrorCode;
use comfy_proto::graph::ErrorCode as WireCode;
use comfy_proto::orchestrator::job_event::Kind;
use comfy_proto::orchestrator::{Job, JobError, NodeUi};
use indexmap::IndexMap;
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
    /// How many jobs there had been, with this one.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    ordinal: Option<u64>,
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
    /// What nodes say in words.
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    texts: Option<Vec<Said>>,
    #[schema(nullable = false)]
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Memory>,
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

/// What a node says in words.
#[derive(Serialize, ToSchema)]
#[schema(as = NodeText)]
struct Said {
    node_id: String,
    text: Vec<String>,
}

/// The most memory that each stage's process held while nodes of the job ran there.
#[derive(Serialize, ToSchema)]
struct Memory {
    peak_bytes: u64,
    stages: Vec<StageMemory>,
    nodes: Vec<NodeMemory>,
}

#[derive(Serialize, ToSchema)]
struct StageMemory {
    stage: String,
    peak_bytes: u64,
}

#[derive(Serialize, ToSchema)]
struct NodeMemory {
    node_id: String,
    stage: String,
    peak_bytes: u64,
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
            ordinal: (job.ordinal > 0).then_some(job.ordinal),
            started_at_ms: at(job.started_ms),
            finished_at_ms: at(job.finished_ms),
            nodes_total: job.nodes_total,
            nodes_done: job.nodes_done,
            current_node,
            progress,
            outputs: pictures(job),
            texts: Some(texts(job)).filter(|texts| !texts.is_empty()),
            memory: memory(job),
            error: job.error.clone().map(Failure::from),
        }
    }
}

fn texts(job: &Job) -> Vec<Said> {
    let said = |output: &NodeUi| {
        let text: Vec<String> = match &object_or_empty(&output.ui_json)["text"] {
            Value::String(text) => vec![text.clone()],
            Value::Array(lines) => lines.iter().filter_map(Value::as_str).map(Into::into).collect(),
            _ => Vec::new(),
        };
        (!text.is_empty()).then(|| Said { node_id: output.node_id.clone(), text })
    };
    job.outputs.iter().filter_map(said).collect()
}

/// Nothing when none was measured.
fn memory(job: &Job) -> Option<Memory> {
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
    let peak_bytes = *stages.values().max()?;
    let of_node = |(id, (stage, peak_bytes)): (&str, (&str, u64))| NodeMemory {
        node_id: id.into(),
        stage: stage.into(),
        peak_bytes,
    };
    let of_stage = |(stage, peak_bytes): (&str, u64)| StageMemory { stage: stage.into(), peak_bytes };
    Some(Memory {
        peak_bytes,
        stages: stages.into_iter().map(of_stage).collect(),
        nodes: nodes.into_iter().map(of_node).collect(),
    })
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
    use comfy_proto::orchestrator::{JobEvent, JobStatus, NodeDone};
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
        let json = json!(JobView::from(&job));
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
        assert!(json!(JobView::from(&job)).get("memory").is_none(), "what was not measured is not shown");
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
        assert_eq!(json!(JobView::from(&job))["memory"], expected);
    }
}
