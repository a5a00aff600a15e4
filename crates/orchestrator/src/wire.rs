//! Jobs and events as messages.

use crate::ledger::Live;
use crate::store::{JobRow, Shown};
use comfy_graph::{JobError, JobEvent, JobEventKind, JobStatus, NodeRef};
use comfy_proto::orchestrator as pb;

/// A job with everything a message may show of it.
pub struct Snapshot {
    pub job: JobRow,
    pub shown: Vec<Shown>,
    pub live: Live,
    pub events: Vec<JobEvent>,
}

pub fn job(snapshot: Snapshot) -> pb::Job {
    let Snapshot { job, shown, live, events } = snapshot;
    let texts = job.texts.unwrap_or_default();
    pb::Job {
        id: job.id,
        status: status(job.status).into(),
        number: job.number,
        client_id: job.client_id,
        created_ms: job.created_ms,
        started_ms: job.started_ms.unwrap_or_default(),
        finished_ms: job.finished_ms.unwrap_or_default(),
        nodes_total: job.nodes_total,
        nodes_done: job.nodes_done,
        current_node: live.node.map(|node| node.0).unwrap_or_default(),
        progress_value: live.value,
        progress_max: live.max,
        outputs: shown
            .into_iter()
            .map(|shown| pb::NodeUi {
                node_id: shown.node.id.0,
                class: shown.node.class,
                ui_json: shown.ui_json,
            })
            .collect(),
        error: job.error.map(error),
        last_seq: job.last_seq,
        graph_json: texts.graph,
        extra_data_json: texts.extra_data,
        output_nodes: texts.output_nodes.into_iter().map(|node| node.0).collect(),
        durable_events: events.into_iter().map(event).collect(),
        ordinal: job.ordinal,
    }
}

fn status(status: JobStatus) -> pb::JobStatus {
    match status {
        JobStatus::Queued => pb::JobStatus::Queued,
        JobStatus::Running => pb::JobStatus::Running,
        JobStatus::Completed => pb::JobStatus::Completed,
        JobStatus::Failed => pb::JobStatus::Failed,
        JobStatus::Cancelled => pb::JobStatus::Cancelled,
    }
}

/// Reads a status; `None` for one that this version does not know.
pub fn read_status(value: i32) -> Option<JobStatus> {
    JobStatus::ALL.into_iter().find(|candidate| status(*candidate) as i32 == value)
}

fn error(error: JobError) -> pb::JobError {
    let (node_id, class) = node_parts(error.node);
    pb::JobError { code: pb_code(error.code).into(), message: error.message, node_id, class }
}

fn pb_code(code: comfy_graph::ErrorCode) -> comfy_proto::graph::ErrorCode {
    code.into()
}

fn node_parts(node: Option<NodeRef>) -> (String, String) {
    node.map(|node| (node.id.0, node.class)).unwrap_or_default()
}

pub fn event(event: JobEvent) -> pb::JobEvent {
    pb::JobEvent {
        seq: event.seq,
        job_id: event.job_id,
        at_ms: event.at_ms,
        client_id: event.client_id,
        queue_remaining: event.queue_remaining,
        kind: Some(kind(event.kind)),
    }
}

fn kind(kind: JobEventKind) -> pb::job_event::Kind {
    use pb::job_event::Kind;
    match kind {
        JobEventKind::Queued { number, ordinal } => Kind::Queued(pb::Queued { number, ordinal }),
        JobEventKind::Moved { number } => Kind::Moved(pb::Moved { number }),
        JobEventKind::Started => Kind::Started(pb::Started {}),
        JobEventKind::Cached { nodes } => {
            let nodes = nodes.into_iter().map(|cached| pb::CachedNode {
                node_id: cached.node.id.0,
                class: cached.node.class,
                ui_json: cached.ui_json.unwrap_or_default(),
            });
            Kind::Cached(pb::Cached { nodes: nodes.collect() })
        }
        JobEventKind::NodeStarted { node } => {
            Kind::NodeStarted(pb::NodeStarted { node_id: node.id.0, class: node.class })
        }
        JobEventKind::NodeProgress { node, value, max } => {
            Kind::NodeProgress(pb::NodeProgress { node_id: node.0, value, max })
        }
        JobEventKind::Preview { node, mime, data } => {
            Kind::Preview(pb::Preview { node_id: node.0, mime, data })
        }
        JobEventKind::NodeDone { node, ui_json, memory } => {
            let (stage, peak_bytes) =
                memory.map(|memory| (memory.stage, memory.peak_bytes)).unwrap_or_default();
            Kind::NodeDone(pb::NodeDone {
                node_id: node.id.0,
                class: node.class,
                ui_json: ui_json.unwrap_or_default(),
                stage,
                peak_bytes: peak_bytes.unwrap_or_default(),
            })
        }
        JobEventKind::NodeBlocked { node, message } => {
            Kind::NodeBlocked(pb::NodeBlocked { node_id: node.id.0, class: node.class, message })
        }
        JobEventKind::Failed { error: failure } => Kind::Failed(pb::Failed { error: Some(error(failure)) }),
        JobEventKind::Cancelled { node } => {
            let (node_id, class) = node_parts(node);
            Kind::Cancelled(pb::Cancelled { node_id, class })
        }
        JobEventKind::Succeeded => Kind::Succeeded(pb::Succeeded {}),
    }
}
