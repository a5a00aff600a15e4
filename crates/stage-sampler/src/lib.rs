//! The sampler stage: checkpoints, text encoding, diffusion and the autoencoder as nodes.

pub mod config;
mod control;
mod covers;
mod error;
mod memory;
mod model_cache;
mod model_files;
mod model_folders;
mod model_inputs;
mod model_patches;
mod nodes;
mod pickles;
mod preview;
mod recipe;
mod state;
mod tensors;

pub use config::Config;
pub use nodes::nodes;
pub use state::SamplerState;

use anyhow::Context as _;
use comfy_artifacts::Store;
use comfy_stage::StageServer;
use std::future::Future;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Serves the stage on a listener until `shutdown` resolves.
///
/// # Errors
/// When the configuration cannot be met (device, folders) or the transport fails.
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    let store = Store::open(&config.artifacts_root).context("cannot open the artifact volume")?;
    let state = Arc::new(SamplerState::new(&config)?);
    // One compute thread: a device does one thing at a time, and the kernels use every core already.
    StageServer::new(state, store, nodes(), 1)
        .serve(listener, shutdown)
        .await
        .context("the gRPC server failed")
}
