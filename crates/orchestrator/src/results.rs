//! Whether stored results can still be used: their blobs and files may have been deleted since.

use comfy_artifacts::{Folder, Folders, NamedFile, Store};
use comfy_graph::{ArtifactRef, NodeResult};
use futures::future::BoxFuture;

/// Answers whether what a result refers to still exists.
pub trait ResultCheck: Send + Sync {
    fn artifact_exists<'a>(&'a self, artifact: &'a ArtifactRef) -> BoxFuture<'a, bool>;

    /// `folder` is `input`, `output` or `temp`.
    fn file_exists<'a>(
        &'a self,
        folder: &'a str,
        subfolder: &'a str,
        filename: &'a str,
    ) -> BoxFuture<'a, bool>;
}

/// Looks on the artifact volume.
pub struct VolumeCheck {
    store: Store,
    folders: Folders,
}

impl VolumeCheck {
    pub fn new(store: Store, folders: Folders) -> Self {
        Self { store, folders }
    }
}

impl ResultCheck for VolumeCheck {
    fn artifact_exists<'a>(&'a self, artifact: &'a ArtifactRef) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            self.store.contains(artifact).await.unwrap_or_else(|error| {
                tracing::warn!(error = &error as &dyn std::error::Error, "artifact volume cannot be read");
                false
            })
        })
    }

    fn file_exists<'a>(
        &'a self,
        folder: &'a str,
        subfolder: &'a str,
        filename: &'a str,
    ) -> BoxFuture<'a, bool> {
        let Some(folder) = Folder::parse(folder) else { return Box::pin(async { false }) };
        let file = NamedFile { filename: filename.into(), subfolder: subfolder.into(), folder };
        let folders = self.folders.clone();
        let exists = tokio::task::spawn_blocking(move || folders.exists(&file));
        Box::pin(async move { exists.await.unwrap_or(false) })
    }
}

/// What is left of a result: slots whose blobs are gone are dropped, and so is a result that shows files that are
/// gone.
pub async fn still_usable(check: &dyn ResultCheck, mut result: NodeResult) -> Option<NodeResult> {
    if let Some(ui_json) = &result.ui_json
        && !shown_files_exist(check, ui_json).await
    {
        return None;
    }
    let mut lost = Vec::new();
    for (slot, value) in &result.outputs {
        for artifact in value.artifacts() {
            if !check.artifact_exists(artifact).await {
                lost.push(*slot);
                break;
            }
        }
    }
    result.outputs.retain(|slot, _| !lost.contains(slot));
    Some(result)
}

/// Looks for `{"filename", "subfolder", "type"}` in the lists of what a node shows.
async fn shown_files_exist(check: &dyn ResultCheck, ui_json: &str) -> bool {
    let Ok(serde_json::Value::Object(lists)) = serde_json::from_str(ui_json) else { return false };
    let entries = lists.values().filter_map(serde_json::Value::as_array).flatten();
    for entry in entries {
        let text = |name: &str| entry.get(name).and_then(serde_json::Value::as_str);
        let Some(filename) = text("filename") else { continue };
        let (subfolder, folder) = (text("subfolder").unwrap_or_default(), text("type").unwrap_or("output"));
        if !check.file_exists(folder, subfolder, filename).await {
            return false;
        }
    }
    true
}
