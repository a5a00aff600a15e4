//! What a running node may know and do besides its inputs.

use crate::node::NodeError;
use comfy_artifacts::SaveKey;
use comfy_proto::stage::{NodePreview, NodeProgress, RunStageResponse, run_stage_response::Event};
use tokio::sync::mpsc::Sender;
use tonic::Status;

/// The surroundings of one run of a node.
pub struct Ctx<'a, S> {
    /// What the nodes of this stage share.
    pub state: &'a S,
    pub job_id: &'a str,
    pub node_id: &'a str,
    /// Counts the runs of this node over the elements of its lists, from 0.
    pub element: usize,
    /// The whole workflow in API format, as JSON text; empty when unknown.
    pub prompt_json: &'a str,
    /// What the page asks to store in pictures, as a JSON object; empty when nothing.
    pub extra_pnginfo_json: &'a str,
    /// Whether anybody wants previews.
    pub previews: bool,
    events: &'a Sender<Result<RunStageResponse, Status>>,
}

impl<'a, S> Ctx<'a, S> {
    pub(crate) fn new(
        state: &'a S,
        request: &'a comfy_proto::stage::RunStageRequest,
        (node_id, element): (&'a str, usize),
        events: &'a Sender<Result<RunStageResponse, Status>>,
    ) -> Self {
        Self {
            state,
            job_id: &request.job_id,
            node_id,
            element,
            prompt_json: &request.prompt_json,
            extra_pnginfo_json: &request.extra_pnginfo_json,
            previews: request.previews,
            events,
        }
    }

    /// Reports progress. Dropped when the listener is slow: the next report says more.
    pub fn progress(&self, value: u64, max: u64) {
        self.send(Event::Progress(NodeProgress { value, max }));
    }

    /// Shows a picture of the work so far. Dropped when the listener is slow.
    pub fn preview(&self, mime: &str, data: Vec<u8>) {
        self.send(Event::Preview(NodePreview { mime: mime.into(), data }));
    }

    /// Ends the node when its caller has gone or asked to stop. Long work calls this between steps.
    ///
    /// # Errors
    /// With code `Cancelled` when the work is no longer wanted.
    pub fn check_cancelled(&self) -> Result<(), NodeError> {
        if self.events.is_closed() { Err(NodeError::cancelled()) } else { Ok(()) }
    }

    /// Who saves files: this node of this job, for this element of its lists.
    pub fn save_key(&self) -> SaveKey {
        let node = match self.element {
            0 => self.node_id.to_owned(),
            element => format!("{}@{element}", self.node_id),
        };
        SaveKey { job: self.job_id.into(), node }
    }

    fn send(&self, event: Event) {
        // A full channel loses a report, a closed one is noticed by `check_cancelled`.
        let _ =
            self.events.try_send(Ok(RunStageResponse { node_id: self.node_id.into(), event: Some(event) }));
    }
}
