//! The `gateway` binary.

use anyhow::Context as _;
use clap::Parser as _;
use comfy_gateway::{Config, Listeners, logs};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::parse();
    config.check().map_err(anyhow::Error::msg)?;
    let _telemetry = comfy_service::telemetry::init_with("gateway", &config.log_dir, Some(logs::writer()))?;
    let mut front = vec![bind(config.gateway_addr).await?];
    if config.ui_addr != config.gateway_addr {
        front.push(bind(config.ui_addr).await?);
    }
    let admin = match config.admin_addr {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    comfy_gateway::run(config, Listeners { front, admin }, comfy_service::shutdown::signal()).await?;
    Ok(())
}

async fn bind(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on `{address}`"))
}
