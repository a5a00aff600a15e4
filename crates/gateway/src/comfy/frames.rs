//! Turns the events of a job into the frames that ComfyUI's page expects on its WebSocket.
//!
//! Pure: one [`JobFrames`] holds what the frames of a job need to remember, and [`JobFrames::on`] answers each event
//! with the frames it causes. Order and shapes are those of ComfyUI 0.3.64.

use crate::error::object_or_empty;
use crate::events::{is_durable, is_terminal};
use comfy_graph::ErrorCode;
use comfy_graph::graph::{parent_node, shown_node};
use comfy_proto::graph::ErrorCode as WireCode;
use comfy_proto::orchestrator::job_event::Kind;
use comfy_proto::orchestrator::{CachedNode, Cancelled, JobError, JobEvent, NodeBlocked, NodeDone};
use indexmap::IndexMap;
use serde_json::{Value, json};

/// One message to a WebSocket.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// How many jobs are queued or running: for everyone.
    Status { queue_remaining: u32 },
    /// A JSON message for the client that submitted the job.
    Message { kind: &'static str, data: Value },
    /// A picture of work in progress for the client that submitted the job.
    Preview(Preview),
}

/// A picture of work in progress.
#[derive(Debug, Clone, PartialEq)]
pub struct Preview {
    pub prompt_id: String,
    pub node_id: String,
    pub mime: String,
    pub data: bytes::Bytes,
}

/// What has been said about one job.
#[derive(Debug, Clone)]
pub struct JobFrames {
    prompt_id: String,
    client_id: String,
    last_seq: u64,
    started: bool,
    ended: bool,
    current: Option<String>,
    executed: Vec<String>,
    nodes: IndexMap<String, NodeState>,
}

// `value` and `max` are floats until a node reports its own progress, then integers, as the page has always seen.
#[derive(Debug, Clone)]
struct NodeState {
    value: Value,
    max: Value,
    state: &'static str,
}

impl JobFrames {
    pub fn new(event: &JobEvent) -> Self {
        Self {
            prompt_id: event.job_id.clone(),
            client_id: event.client_id.clone(),
            last_seq: 0,
            started: false,
            ended: false,
            current: None,
            executed: Vec::new(),
            nodes: IndexMap::new(),
        }
    }

    /// Who submitted the job; empty when nobody listens.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The node that runs now, for a client that connects again.
    pub fn current_node(&self) -> Option<&str> {
        self.current.as_deref()
    }

    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Makes the frames of an event. A durable event that has been seen makes none.
    pub fn on(&mut self, event: &JobEvent) -> Vec<Frame> {
        if is_durable(event) {
            if event.seq <= self.last_seq {
                return Vec::new();
            }
            self.last_seq = event.seq;
        }
        let Some(kind) = &event.kind else { return Vec::new() };
        let status = Frame::Status { queue_remaining: event.queue_remaining };
        let at = event.at_ms;
        self.ended |= is_terminal(event);
        match kind {
            Kind::Queued(_) | Kind::Moved(_) => vec![status],
            Kind::Started(_) => {
                self.started = true;
                vec![
                    status,
                    self.message("execution_start", json!({"prompt_id": self.prompt_id, "timestamp": at})),
                ]
            }
            Kind::Cached(cached) => self.cached(&cached.nodes, at),
            Kind::NodeStarted(node) => self.node_started(&node.node_id),
            Kind::NodeProgress(node) => self.node_progress(&node.node_id, node.value, node.max),
            Kind::Preview(preview) => vec![Frame::Preview(Preview {
                prompt_id: self.prompt_id.clone(),
                node_id: preview.node_id.clone(),
                mime: preview.mime.clone(),
                data: preview.data.clone().into(),
            })],
            Kind::NodeDone(node) => self.node_done(node),
            Kind::NodeBlocked(blocked) => vec![self.blocked(blocked)],
            Kind::Succeeded(_) => {
                let data = json!({"prompt_id": self.prompt_id, "timestamp": at});
                self.end(self.message("execution_success", data), status)
            }
            Kind::Failed(failed) => {
                let error = failed.error.clone().unwrap_or_default();
                self.end(self.message("execution_error", self.error(&error, at)), status)
            }
            // A job that never started leaves the queue quietly.
            Kind::Cancelled(cancelled) if !self.started && cancelled.node_id.is_empty() => vec![status],
            Kind::Cancelled(cancelled) => {
                self.end(self.message("execution_interrupted", self.interrupted(cancelled, at)), status)
            }
        }
    }

    fn message(&self, kind: &'static str, data: Value) -> Frame {
        Frame::Message { kind, data }
    }

    fn progress_state(&self) -> Frame {
        let nodes: serde_json::Map<String, Value> = self
            .nodes
            .iter()
            .map(|(id, node)| {
                let entry = json!({
                    "value": node.value,
                    "max": node.max,
                    "state": node.state,
                    "node_id": id,
                    "prompt_id": self.prompt_id,
                    "display_node_id": shown_node(id),
                    "parent_node_id": parent_node(id),
                    "real_node_id": shown_node(id),
                });
                (id.clone(), entry)
            })
            .collect();
        self.message("progress_state", json!({"prompt_id": self.prompt_id, "nodes": nodes}))
    }

    fn executed(&self, node_id: &str, ui_json: &str) -> Frame {
        let data = json!({
            "node": node_id,
            "display_node": shown_node(node_id),
            "output": object_or_empty(ui_json),
            "prompt_id": self.prompt_id,
        });
        self.message("executed", data)
    }

    fn cached(&mut self, nodes: &[CachedNode], at: i64) -> Vec<Frame> {
        let ids: Vec<&str> = nodes.iter().map(|node| node.node_id.as_str()).collect();
        let data = json!({"nodes": ids, "prompt_id": self.prompt_id, "timestamp": at});
        let mut frames = vec![self.message("execution_cached", data)];
        for node in nodes.iter().filter(|node| !node.ui_json.is_empty()) {
            let state = NodeState { value: json!(1), max: json!(1), state: "finished" };
            self.nodes.insert(node.node_id.clone(), state);
            frames.push(self.executed(&node.node_id, &node.ui_json));
            frames.push(self.progress_state());
        }
        frames
    }

    fn node_started(&mut self, node_id: &str) -> Vec<Frame> {
        let state = NodeState { value: json!(0.0), max: json!(1.0), state: "running" };
        self.nodes.insert(node_id.into(), state);
        self.current = Some(node_id.into());
        let data = json!({"node": node_id, "display_node": shown_node(node_id), "prompt_id": self.prompt_id});
        vec![self.progress_state(), self.message("executing", data)]
    }

    fn node_progress(&mut self, node_id: &str, value: u64, max: u64) -> Vec<Frame> {
        let state = NodeState { value: json!(value), max: json!(max), state: "running" };
        self.nodes.insert(node_id.into(), state);
        let data = json!({"value": value, "max": max, "prompt_id": self.prompt_id, "node": node_id});
        vec![self.progress_state(), self.message("progress", data)]
    }

    fn node_done(&mut self, done: &NodeDone) -> Vec<Frame> {
        let node = self.nodes.entry(done.node_id.clone()).or_insert_with(|| NodeState {
            value: json!(0.0),
            max: json!(1.0),
            state: "running",
        });
        node.value = node.max.clone();
        node.state = "finished";
        self.executed.push(done.node_id.clone());
        if self.current.as_ref() == Some(&done.node_id) {
            self.current = None;
        }
        let executed = (!done.ui_json.is_empty()).then(|| self.executed(&done.node_id, &done.ui_json));
        executed.into_iter().chain([self.progress_state()]).collect()
    }

    fn error(&self, error: &JobError, at: i64) -> Value {
        let code = ErrorCode::from(WireCode::try_from(error.code).unwrap_or(WireCode::Unspecified));
        json!({
            "prompt_id": self.prompt_id,
            "node_id": shown_node(&error.node_id),
            "node_type": error.class,
            "executed": self.executed,
            "exception_message": error.message,
            "exception_type": code.as_str(),
            "traceback": [],
            "current_inputs": {},
            "current_outputs": [],
            "timestamp": at,
        })
    }

    /// A node that was not run because it lacks a value. An error in the page's eyes, but the job goes on.
    fn blocked(&self, blocked: &NodeBlocked) -> Frame {
        let data = json!({
            "prompt_id": self.prompt_id,
            "node_id": shown_node(&blocked.node_id),
            "node_type": blocked.class,
            "executed": self.executed,
            "exception_message": format!("Execution Blocked: {}", blocked.message),
            "exception_type": "ExecutionBlocked",
            "traceback": [],
            "current_inputs": [],
            "current_outputs": [],
        });
        self.message("execution_error", data)
    }

    fn interrupted(&self, cancelled: &Cancelled, at: i64) -> Value {
        json!({
            "prompt_id": self.prompt_id,
            "node_id": shown_node(&cancelled.node_id),
            "node_type": cancelled.class,
            "executed": self.executed,
            "timestamp": at,
        })
    }

    fn end(&mut self, last: Frame, status: Frame) -> Vec<Frame> {
        self.current = None;
        let idle = self.message("executing", json!({"node": null, "prompt_id": self.prompt_id}));
        vec![last, status, idle]
    }
}

impl Preview {
    /// Encodes the picture as ComfyUI's binary frame: type 4 with metadata, or type 1 for older clients. `None` when
    /// type 1 cannot say the format.
    pub fn encode(&self, with_metadata: bool) -> Option<Vec<u8>> {
        let (event, head): (u32, Vec<u8>) = if with_metadata {
            let metadata = json!({
                "node_id": self.node_id,
                "prompt_id": self.prompt_id,
                "display_node_id": shown_node(&self.node_id),
                "parent_node_id": parent_node(&self.node_id),
                "real_node_id": shown_node(&self.node_id),
                "image_type": self.mime,
            })
            .to_string();
            let length = u32::try_from(metadata.len()).ok()?;
            (4, [&length.to_be_bytes(), metadata.as_bytes()].concat())
        } else {
            let format: u32 = match self.mime.as_str() {
                "image/jpeg" => 1,
                "image/png" => 2,
                _ => return None,
            };
            (1, format.to_be_bytes().to_vec())
        };
        Some([&event.to_be_bytes(), head.as_slice(), &self.data].concat())
    }
}

/// Writes a JSON frame.
pub fn text(kind: &str, data: &Value) -> String {
    json!({"type": kind, "data": data}).to_string()
}

/// The data of a `status` frame; `sid` only in the first one on a socket.
pub fn status_data(queue_remaining: u32, sid: Option<&str>) -> Value {
    let mut data = json!({"status": {"exec_info": {"queue_remaining": queue_remaining}}});
    if let Some(sid) = sid {
        data["sid"] = sid.into();
    }
    data
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
