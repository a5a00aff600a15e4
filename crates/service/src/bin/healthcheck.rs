//! Asks a service whether it is well, for containers: `healthcheck [TARGET]`, where the target (default: the variable
//! `HEALTHCHECK`) is `grpc://host:port` or `http://host:port/path`. Ends with 0 only for a healthy answer.

use anyhow::{Context as _, bail};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

const LIMIT: Duration = Duration::from_secs(3);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let target = std::env::args().nth(1).or_else(|| std::env::var("HEALTHCHECK").ok());
    let target = target.context("name a target: grpc://host:port or http://host:port/path")?;
    match target.split_once("://") {
        Some(("grpc", address)) => grpc(address).await,
        Some(("http", rest)) => http(rest),
        _ => bail!("`{target}` is neither grpc://host:port nor http://host:port/path"),
    }
}

async fn grpc(address: &str) -> anyhow::Result<()> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"))?
        .timeout(LIMIT)
        .connect_timeout(LIMIT);
    let mut client = HealthClient::new(endpoint.connect().await?);
    let status = client.check(HealthCheckRequest { service: String::new() }).await?.into_inner().status();
    if status == ServingStatus::Serving { Ok(()) } else { bail!("{address} answers {status:?}") }
}

fn http(rest: &str) -> anyhow::Result<()> {
    let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(LIMIT))?;
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(4096).read_to_string(&mut answer)?;
    let first = answer.lines().next().unwrap_or_default();
    if first.split(' ').nth(1) == Some("200") { Ok(()) } else { bail!("{rest} answers `{first}`") }
}
