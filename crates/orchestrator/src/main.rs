//! The orchestrator process.

use clap::Parser as _;
use comfy_orchestrator::{Config, run};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    let _guard = comfy_service::telemetry::init("orchestrator", &config.log_dir)?;
    let listener = TcpListener::bind(config.listen).await?;
    tracing::info!(address = %config.listen, "orchestrator listens");
    run(config, listener, comfy_service::shutdown::signal()).await?;
    Ok(())
}
