//! What happens to a job, in the one vocabulary that every service speaks.

use crate::{ErrorCode, NodeId};
use serde::{Deserialize, Serialize};

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    Queued,
    Running,
    Completed,
    Failed,
    Cancelled,
}

impl JobStatus {
    /// Every status, in the order of a job's life.
    pub const ALL: [JobStatus; 5] = [
        JobStatus::Queued,
        JobStatus::Running,
        JobStatus::Completed,
        JobStatus::Failed,
        JobStatus::Cancelled,
    ];

    /// The name used in JSON, in the database and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            JobStatus::Queued => "queued",
            JobStatus::Running => "running",
            JobStatus::Completed => "completed",
            JobStatus::Failed => "failed",
            JobStatus::Cancelled => "cancelled",
        }
    }

    /// Reads the name that [`JobStatus::as_str`] writes.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// Whether nothing more can happen to the job.
    pub fn is_ended(self) -> bool {
        matches!(self, JobStatus::Completed | JobStatus::Failed | JobStatus::Cancelled)
    }
}

/// A node of a job as events name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRef {
    pub id: NodeId,
    pub class: String,
}

/// A node whose stored result was used instead of running it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedNode {
    pub node: NodeRef,
    /// What the node shows; only output nodes show something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ui_json: Option<String>,
}

/// What a node took of the memory of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeMemory {
    pub stage: String,
    /// The most that the stage's process held while the node ran; `None` when the stage did not measure it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_bytes: Option<u64>,
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobError {
    pub code: ErrorCode,
    pub message: String,
    /// The node that failed, when one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeRef>,
}

/// One kind of thing that happens to a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum JobEventKind {
    Queued {
        number: f64,
        /// How many jobs there have been up to this one; 0 in events of earlier versions.
        #[serde(default)]
        ordinal: u64,
    },
    /// The job waits at another place now.
    Moved {
        number: f64,
    },
    Started,
    Cached {
        nodes: Vec<CachedNode>,
    },
    NodeStarted {
        node: NodeRef,
    },
    NodeProgress {
        node: NodeId,
        value: u64,
        max: u64,
    },
    Preview {
        node: NodeId,
        mime: String,
        data: Vec<u8>,
    },
    NodeDone {
        node: NodeRef,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ui_json: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        memory: Option<NodeMemory>,
    },
    /// The node, or one element of it, was not run because an input had no value. The job goes on.
    NodeBlocked {
        node: NodeRef,
        message: String,
    },
    Failed {
        error: JobError,
    },
    /// The node is where the job was; `None` when no node was running.
    Cancelled {
        node: Option<NodeRef>,
    },
    Succeeded,
}

impl JobEventKind {
    /// Whether the event is kept and replayed. Progress and previews are worth nothing once the moment is over.
    pub fn is_durable(&self) -> bool {
        !matches!(self, JobEventKind::NodeProgress { .. } | JobEventKind::Preview { .. })
    }

    /// Whether this is the last event of a job.
    pub fn is_terminal(&self) -> bool {
        matches!(self, JobEventKind::Failed { .. } | JobEventKind::Cancelled { .. } | JobEventKind::Succeeded)
    }
}

/// One thing that happened to one job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobEvent {
    /// Increases strictly over all jobs and over restarts; not without gaps.
    pub seq: u64,
    pub job_id: String,
    pub at_ms: i64,
    /// Whose WebSocket follows the job; empty when nobody's.
    pub client_id: String,
    /// Jobs queued or running after this event.
    pub queue_remaining: u32,
    pub kind: JobEventKind,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_earlier_versions_are_read() {
        let read = |text: &str| serde_json::from_str::<JobEventKind>(text).unwrap();
        let node = NodeRef { id: "9".into(), class: "SaveImage".into() };
        assert_eq!(
            read(r#"{"kind":"queued","number":3.0}"#),
            JobEventKind::Queued { number: 3.0, ordinal: 0 }
        );
        assert_eq!(
            read(r#"{"kind":"node_done","node":{"id":"9","class":"SaveImage"}}"#),
            JobEventKind::NodeDone { node, ui_json: None, memory: None }
        );
    }
}
