//! The stage-sampler service.

use clap::Parser as _;
use comfy_stage_sampler::{Config, run};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    let _logs = comfy_service::telemetry::init("stage-sampler", &config.log_dir)?;
    let listener = TcpListener::bind(config.listen).await?;
    tracing::info!(address = %listener.local_addr()?, device = %config.device, "stage-sampler is listening");
    run(config, listener, comfy_service::shutdown::signal()).await
}
