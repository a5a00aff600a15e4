//! The image stage process.

use anyhow::Context as _;
use clap::Parser as _;
use comfy_stage_image::{Config, run};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    let _guard = comfy_service::telemetry::init("stage-image", &config.log_dir)?;
    // Workflows bring pictures of strangers, so an open ImageMagick is no place to start.
    comfy_imaging::policy_is_strict()?;
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on `{}`", config.listen))?;
    tracing::info!(address = %config.listen, "image stage listens");
    run(config, listener, comfy_service::shutdown::signal()).await
}
