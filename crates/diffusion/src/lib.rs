//! Diffusion models on candle: weight files, text encoding, the networks, and sampling.
//!
//! Nothing here is asynchronous and nothing knows about services; calls block until the numbers are there.

pub mod adapters;
mod blocks;
pub mod changes;
pub mod checkpoint;
pub mod control;
mod error;
pub mod families;
mod model;
pub mod sampling;
mod save;
pub mod text;
pub mod tiles;
pub mod upscale;
pub mod vae;
pub mod vision;

pub use blocks::{
    AttentionMap, ControlSignals, DeepShrink, FreeU, Gligen, GroundedBox, Grounding, HyperTile, HyperTileRun,
    Hypernetwork, MiddleAttention, Unet, UnetChanges, UsedHypernetwork,
};
pub use error::{Error, Result};
pub use model::{
    DiffusionModel, load_clip, load_clip_from, load_model, load_model_from, load_model_stored_as, load_vae,
};
pub use save::SavedFile;
