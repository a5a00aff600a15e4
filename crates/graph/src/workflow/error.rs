//! Why a workflow cannot be read.

use super::{MAX_NODES, MAX_SUBGRAPH_DEPTH, MAX_VALUE_BYTES};
use crate::ErrorCode;
use crate::validate::PromptError;

/// A workflow that is not even a graph. Always the fault of the workflow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkflowError {
    #[error(
        "expected a workflow: an object that maps node ids to nodes, or an object with a list `nodes`; found {found}"
    )]
    NotAWorkflow { found: &'static str },
    #[error("node `{node}` of the workflow {problem}")]
    BadNode { node: String, problem: &'static str },
    #[error(
        "link number {index} of the workflow is neither a list of six values nor an object with its ends"
    )]
    BadLink { index: usize },
    #[error("the workflow has several nodes with the id `{node}`")]
    DuplicateNode { node: String },
    #[error(
        "the link into input `{input}` of node `{node}` goes round in a circle of reroutes or bypassed nodes"
    )]
    LinkCircle { node: String, input: String },
    #[error("subgraph `{id}` has no usable definition")]
    BadSubgraph { id: String },
    #[error("subgraph `{id}` contains itself, or is nested deeper than {MAX_SUBGRAPH_DEPTH} levels")]
    SubgraphTooDeep { id: String },
    #[error("the workflow has more than {MAX_NODES} nodes once its subgraphs are laid out")]
    TooManyNodes,
    #[error(
        "the values of the workflow take more than {MAX_VALUE_BYTES} bytes once its subgraphs are laid out"
    )]
    TooManyValues,
}

impl WorkflowError {
    /// What a caller can do about it.
    pub fn code(&self) -> ErrorCode {
        ErrorCode::InvalidArgument
    }
}

impl From<&WorkflowError> for PromptError {
    fn from(error: &WorkflowError) -> Self {
        Self::new("invalid_prompt", "Cannot read the workflow.", error.to_string())
    }
}
