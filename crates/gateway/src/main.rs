//! The `gateway` binary.

use anyhow::Context as _;
use clap::Parser as _;
use comfy_gateway::{Config, logs};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    let _telemetry = comfy_service::telemetry::init_with("gateway", &config.log_dir, Some(logs::writer()))?;
    let mut addresses = vec![config.gateway_addr];
    if config.ui_addr != config.gateway_addr {
        addresses.push(config.ui_addr);
    }
    let mut listeners = Vec::new();
    for address in addresses {
        listeners
            .push(TcpListener::bind(address).await.with_context(|| format!("cannot listen on `{address}`"))?);
    }
    comfy_gateway::run(config, listeners, comfy_service::shutdown::signal()).await?;
    Ok(())
}
