//! What a job machine and a stage say to each other.

use crate::plan::NodeResult;
use crate::{ErrorCode, Expansion, Link, NodeId, Value};
use indexmap::IndexMap;
use std::collections::BTreeSet;

/// A group of nodes with every input resolved, ready to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct StageCall {
    pub attempt: u64,
    pub group_id: String,
    pub stage: String,
    pub nodes: Vec<CallNode>,
}

/// A node of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct CallNode {
    pub id: NodeId,
    pub class: String,
    pub inputs: IndexMap<String, CallInput>,
    /// Linked inputs that are left out until the node asks for them.
    pub pending: BTreeSet<String>,
    pub publish: BTreeSet<u32>,
}

/// The value of an input, or the node of the same call that makes it.
#[derive(Debug, Clone, PartialEq)]
pub enum CallInput {
    Value(Value),
    Local(Link),
}

/// What a stage says while it runs a group.
#[derive(Debug, Clone, PartialEq)]
pub enum StageEvent {
    NodeStarted {
        node: NodeId,
    },
    Progress {
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
        node: NodeId,
        result: NodeResult,
    },
    /// The node cannot run without these of its pending inputs.
    NodeWants {
        node: NodeId,
        inputs: BTreeSet<String>,
    },
    /// The node has put other nodes in its place.
    NodeExpanded {
        node: NodeId,
        expansion: Expansion,
    },
    NodeFailed {
        node: NodeId,
        error: StageError,
    },
    /// The node, or one element of it, is not run because an input has no value; the call goes on.
    NodeBlocked {
        node: NodeId,
        message: String,
    },
}

impl StageEvent {
    /// The node that the event is about.
    pub fn node(&self) -> &NodeId {
        match self {
            StageEvent::NodeStarted { node }
            | StageEvent::Progress { node, .. }
            | StageEvent::Preview { node, .. }
            | StageEvent::NodeDone { node, .. }
            | StageEvent::NodeWants { node, .. }
            | StageEvent::NodeExpanded { node, .. }
            | StageEvent::NodeFailed { node, .. }
            | StageEvent::NodeBlocked { node, .. } => node,
        }
    }
}

/// Why a call did not finish its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageError {
    pub code: ErrorCode,
    pub message: String,
}

impl StageError {
    /// The call ended well although nodes are left: what a peer that goes away in the middle looks like.
    pub(super) fn early_end(stage: &str) -> Self {
        let message = format!("stage `{stage}` ended its answer before the last node was done");
        Self { code: ErrorCode::Unavailable, message }
    }
}
