//! Loaded model parts, kept while there is room.

use crate::recipe::Recipe;
use comfy_diffusion::control::ControlNetwork;
use comfy_diffusion::text::ClipTextEncoder;
use comfy_diffusion::upscale::Upscaler;
use comfy_diffusion::vae::Vae;
use comfy_diffusion::vision::{ClipVision, StyleModel};
use comfy_diffusion::{DiffusionModel, Gligen, Hypernetwork};
use comfy_stage::NodeError;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// The kinds of loaded part: how much memory each takes, and how it is taken out again.
macro_rules! parts {
    ($($name:ident: $kind:ty),+ $(,)?) => {
        /// A loaded part.
        #[derive(Debug, Clone)]
        pub(crate) enum Loaded {
            $($name(Arc<$kind>),)+
        }

        impl Loaded {
            fn bytes(&self) -> u64 {
                match self {
                    $(Loaded::$name(part) => part.weight_bytes(),)+
                }
            }
        }

        $(impl TryFrom<Loaded> for Arc<$kind> {
            type Error = NodeError;

            fn try_from(loaded: Loaded) -> Result<Self, NodeError> {
                match loaded {
                    Loaded::$name(part) => Ok(part),
                    _ => Err(NodeError::internal("the model cache holds another part under this key")),
                }
            }
        })+
    };
}

parts! {
    Model: DiffusionModel,
    Clip: ClipTextEncoder,
    Vae: Vae,
    Upscaler: Upscaler,
    Hypernetwork: Hypernetwork,
    Gligen: Gligen,
    Control: ControlNetwork,
    ClipVision: ClipVision,
    StyleModel: StyleModel,
}

/// Which part of which version of a file, with what was changed about it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PartKey {
    pub path: PathBuf,
    /// See [`Recipe::of_weights`].
    pub recipe: Recipe,
    /// The model whose weights a control network changes.
    pub base: Option<Recipe>,
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
                entries.retain(|(k, _)| k.path != key.path || k.recipe.fingerprint == key.recipe.fingerprint);
                let started = std::time::Instant::now();
                let loaded = load()?;
                tracing::info!(file = %key.path.display(), part = ?key.recipe.part, bytes = loaded.bytes(), elapsed = ?started.elapsed(), "model part loaded");
                loaded
            }
        };
        entries.push((key, loaded.clone()));
        let mut total: u64 = entries.iter().map(|(_, l)| l.bytes()).sum();
        while total > self.limit && entries.len() > 1 {
            let (key, left) = entries.remove(0);
            total -= left.bytes();
            tracing::info!(file = %key.path.display(), part = ?key.recipe.part, "model part dropped");
        }
        Ok(loaded)
    }

    /// Forgets every part and returns how many bytes they held. A part in use lives until its user is done.
    pub(crate) fn clear(&self) -> u64 {
        let mut entries = self.entries.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        std::mem::take(&mut *entries).iter().map(|(_, loaded)| loaded.bytes()).sum()
    }
}
