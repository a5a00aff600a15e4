//! The image stage: nodes that load, save, scale and change pictures, on ImageMagick 7.
//!
//! A node is one `impl Node` in `nodes/<category>.rs` and its line in that file's `NODES`.

mod config;
mod nodes;
mod pictures;
mod python_regex;
mod state;

use std::future::Future;
use std::sync::Arc;

use comfy_artifacts::{Folders, Saves, Store};
use comfy_stage::StageServer;
use tokio::net::TcpListener;

pub use config::Config;
pub use nodes::all as nodes;
pub use state::ImageState;

/// Serves the stage on a listener until `shutdown` resolves.
///
/// # Errors
/// When a folder cannot be made or the transport fails.
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    let store = Store::open(&config.artifacts_root)?;
    let folders = Folders::open(&config.input_dir, &config.output_dir, &config.temp_dir)?;
    let saves = Saves::open(folders, &config.artifacts_root)?;
    let state = ImageState::new(saves, config.limits());
    StageServer::new(Arc::new(state), store, nodes(), usize::from(config.workers))
        .serve(listener, shutdown)
        .await?;
    Ok(())
}
