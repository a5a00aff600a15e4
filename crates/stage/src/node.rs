//! What a node and a stage are.

use crate::{Ctx, Data, Inputs};
use comfy_artifacts::bundle::BundleError;
use comfy_artifacts::folders::FolderError;
use comfy_artifacts::store::StoreError;
use comfy_graph::{ComboOption, ErrorCode, NodeSpec};
use comfy_proto::stage::ModelFile;
use std::collections::BTreeMap;

/// A node class: what it takes and gives, and what it does.
///
/// `S` is the state that the nodes of a stage share, such as its loaded models.
pub trait Node<S>: Send + Sync {
    /// Describes the node. Pure; options of file combos stay empty, the stage fills them in.
    fn spec(&self) -> NodeSpec;

    /// Says which of its lazy inputs that are not made yet (`pending`) the node needs before it can run. Asked again
    /// with what it asked for, until it asks for nothing.
    ///
    /// # Errors
    /// As [`Node::run`].
    fn wants(&self, _inputs: &Inputs, pending: &[String]) -> Result<Vec<String>, NodeError> {
        Ok(pending.to_vec())
    }

    /// Does the work, on a thread that may block.
    ///
    /// # Errors
    /// A [`NodeError`] whose code decides if the orchestrator tries again.
    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, S>) -> Result<Outputs, NodeError>;
}

/// What the nodes of a stage share, and what the stage says of itself.
pub trait StageState: Send + Sync + 'static {
    /// The stage's name, unique in a deployment.
    fn name(&self) -> &str;

    /// Whatever changes results besides the inputs: device, dtype, engine version.
    fn fingerprint(&self) -> String;

    /// The files to offer for a combo of this folder. `None` when this stage does not know the folder.
    fn options(&self, folder: &str) -> Option<Vec<ComboOption>>;

    /// What the headers of the model files in a folder say; every known folder when `folder` is empty.
    fn models(&self, _folder: &str) -> Vec<ModelFile> {
        Vec::new()
    }

    /// What the author of a model file wrote into it, as pairs of texts.
    ///
    /// # Errors
    /// `NotFound` when there is no such file, or it is of a kind that holds no texts.
    fn model_metadata(&self, folder: &str, name: &str) -> Result<BTreeMap<String, String>, NodeError> {
        Err(NodeError::not_found(format!("there is no file `{name}` in `{folder}`")))
    }

    /// The picture file that stands beside a model file; `None` when there is none.
    fn model_cover(&self, _folder: &str, _name: &str) -> Option<Vec<u8>> {
        None
    }

    /// Forgets loaded models and returns how many bytes they held.
    fn free_memory(&self) -> u64 {
        0
    }
}

/// What a node gives: one value per output slot, and what the UI may show.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outputs {
    pub slots: Vec<Data>,
    /// As ComfyUI's `ui`: `{"images": [{filename, subfolder, type}]}`.
    pub ui: Option<serde_json::Value>,
    /// Nodes that give the outputs instead; then `slots` is empty. Only for nodes whose spec says `expands`.
    pub expansion: Option<Expansion>,
}

/// Nodes that take the place of the node that made them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Expansion {
    /// A node comes after every node that it links to.
    pub nodes: Vec<ExpandedNode>,
    /// One per output slot.
    pub outputs: Vec<ExpandedInput>,
}

/// A node of an expansion: its id within the expansion, its class and its inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpandedNode {
    pub id: String,
    pub class: String,
    pub inputs: Vec<(String, ExpandedInput)>,
}

/// What fills an input or an output of an expansion.
#[derive(Debug, Clone, PartialEq)]
pub enum ExpandedInput {
    Value(Data),
    /// An output slot of another node of the expansion.
    Link(String, u32),
}

impl Outputs {
    pub fn one(data: Data) -> Self {
        Self { slots: vec![data], ..Self::default() }
    }

    pub fn many(slots: Vec<Data>) -> Self {
        Self { slots, ..Self::default() }
    }

    /// Other nodes in place of this one.
    pub fn expanded(expansion: Expansion) -> Self {
        Self { expansion: Some(expansion), ..Self::default() }
    }

    /// An output node's result.
    pub fn ui(ui: serde_json::Value) -> Self {
        Self { ui: Some(ui), ..Self::default() }
    }
}

/// Why a node failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NodeError {
    pub code: ErrorCode,
    pub message: String,
}

impl NodeError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The inputs are wrong.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidArgument, message)
    }

    /// A named file does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::NotFound, message)
    }

    /// A bug or a broken disk.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, message)
    }

    /// The caller has gone or asked to stop.
    pub fn cancelled() -> Self {
        Self::new(ErrorCode::Cancelled, "cancelled")
    }
}

/// Joins an error with its causes into one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl From<StoreError> for NodeError {
    fn from(error: StoreError) -> Self {
        Self::new(storage_code(&error), chain(&error))
    }
}

impl From<BundleError> for NodeError {
    fn from(error: BundleError) -> Self {
        Self::internal(chain(&error))
    }
}

impl From<FolderError> for NodeError {
    fn from(error: FolderError) -> Self {
        let code = match &error {
            FolderError::Outside(_) | FolderError::BadName(_) => ErrorCode::InvalidArgument,
            FolderError::NotFound(_) => ErrorCode::NotFound,
            FolderError::Io { .. } => storage_code(&error),
        };
        Self::new(code, chain(&error))
    }
}

/// A full disk may be emptied, so it is worth another try; other failures of the volume are not.
fn storage_code(error: &(dyn std::error::Error + 'static)) -> ErrorCode {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind as K;
            if matches!(io.kind(), K::StorageFull | K::QuotaExceeded) {
                return ErrorCode::ResourceExhausted;
            }
        }
        current = error.source();
    }
    ErrorCode::Internal
}
