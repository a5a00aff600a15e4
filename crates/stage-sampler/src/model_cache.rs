//! Loaded model parts, kept while there is room.

use crate::recipe::{LoraUse, Part, WeightDtype};
use comfy_diffusion::DiffusionModel;
use comfy_diffusion::text::ClipTextEncoder;
use comfy_diffusion::upscale::Upscaler;
use comfy_diffusion::vae::Vae;
use comfy_stage::NodeError;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// A loaded part.
#[derive(Debug, Clone)]
pub(crate) enum Loaded {
    Model(Arc<DiffusionModel>),
    Clip(Arc<ClipTextEncoder>),
    Vae(Arc<Vae>),
    Upscaler(Arc<Upscaler>),
}

impl Loaded {
    fn bytes(&self) -> u64 {
        match self {
            Loaded::Model(model) => model.weight_bytes(),
            Loaded::Clip(clip) => clip.weight_bytes(),
            Loaded::Vae(vae) => vae.weight_bytes(),
            Loaded::Upscaler(upscaler) => upscaler.weight_bytes(),
        }
    }
}

/// Which part of which version of a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PartKey {
    pub path: PathBuf,
    pub fingerprint: String,
    pub part: Part,
    /// What was changed about it.
    pub loras: Vec<LoraUse>,
    pub weight_dtype: Option<WeightDtype>,
}

/// The most recently used parts, up to a number of bytes.
#[derive(Debug)]
pub(crate) struct ModelCache {
    limit: u64,
    // Least recently used first. A handful of entries, so a list is the right map.
    entries: Mutex<Vec<(PartKey, Loaded)>>,
}

impl ModelCache {
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, entries: Mutex::default() }
    }

    /// Gets a part, loading it when it is not here. Parts used longest ago leave until the rest fits; the part
    /// asked for stays even when it alone is over the limit.
    ///
    /// # Errors
    /// What `load` gives.
    pub(crate) fn get(
        &self,
        key: PartKey,
        load: impl FnOnce() -> Result<Loaded, NodeError>,
    ) -> Result<Loaded, NodeError> {
        let mut entries = self.entries.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let loaded = match entries.iter().position(|(k, _)| *k == key) {
            Some(i) => entries.remove(i).1,
            None => {
                // An older version of the same file is of no use any more.
                entries.retain(|(k, _)| k.path != key.path || k.fingerprint == key.fingerprint);
                let started = std::time::Instant::now();
                let loaded = load()?;
                tracing::info!(file = %key.path.display(), part = ?key.part, bytes = loaded.bytes(), elapsed = ?started.elapsed(), "model part loaded");
                loaded
            }
        };
        entries.push((key, loaded.clone()));
        let mut total: u64 = entries.iter().map(|(_, l)| l.bytes()).sum();
        while total > self.limit && entries.len() > 1 {
            let (key, left) = entries.remove(0);
            total -= left.bytes();
            tracing::info!(file = %key.path.display(), part = ?key.part, "model part dropped");
        }
        Ok(loaded)
    }

    /// Forgets every part and returns how many bytes they held. A part in use lives until its user is done.
    pub(crate) fn clear(&self) -> u64 {
        let mut entries = self.entries.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        std::mem::take(&mut *entries).iter().map(|(_, loaded)| loaded.bytes()).sum()
    }
}
