//! The HTTP front of Comfy Services: serves the page, the `/v1` API and ComfyUI's own HTTP and WebSocket API, and
//! speaks gRPC to the orchestrator.
//!
//! Architecture invariant: the gateway holds no job state and no node list. It can be restarted, or run twice, at
//! any time; everything it says about jobs comes from the orchestrator.

pub mod access;
pub mod app;
pub mod comfy;
pub mod config;
pub mod error;
pub mod events;
pub mod extract;
pub mod files;
pub mod logs;
pub mod openapi;
pub mod orchestrator_client;
pub mod origin;
pub mod page;
pub mod serve;
pub mod serve_file;
pub mod telemetry;
pub mod v1;

use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use config::Config;

/// How long requests may take to finish after a shutdown was asked for.
const GRACE: Duration = Duration::from_secs(10);

/// What the gateway is reached through.
pub struct Listeners {
    /// Where everything is served.
    pub front: Vec<TcpListener>,
    /// Where figures are served, to those who run the server.
    pub admin: Option<TcpListener>,
}

impl From<Vec<TcpListener>> for Listeners {
    fn from(front: Vec<TcpListener>) -> Self {
        Self { front, admin: None }
    }
}

/// Serves everything on every listener until `shutdown` completes, then lets open requests finish.
///
/// # Errors
/// When the keys cannot be read, when a listener can be reached by people whom nothing asks who they are, and when a
/// listener fails.
pub async fn run(
    config: Config,
    listeners: impl Into<Listeners>,
    shutdown: impl Future<Output = ()> + Send,
) -> std::io::Result<()> {
    let Listeners { front, admin } = listeners.into();
    let refuse = |problem: String| std::io::Error::new(std::io::ErrorKind::InvalidInput, problem);
    let keys = config.keys().map_err(refuse)?;
    for listener in &front {
        config.may_listen(listener.local_addr()?, !keys.is_empty()).map_err(refuse)?;
    }
    if let Some(listener) = &admin {
        config.may_listen(listener.local_addr()?, false).map_err(refuse)?;
    }
    telemetry::start();
    let stop = CancellationToken::new();
    // Whatever way this function ends, the tasks it started end too.
    let _stop_on_drop = stop.clone().drop_guard();
    let limits = serve::Limits {
        header_timeout: config.request_header_timeout,
        connections: config.max_connections.get(),
    };
    let app = app::App::start(config, keys, stop.clone());
    let router = app::router(app.clone());
    let mut servers = JoinSet::new();
    for listener in front {
        servers.spawn(serve::serve(listener, router.clone(), limits, stop.clone()));
    }
    if let Some(listener) = admin {
        servers.spawn(serve::serve(listener, telemetry::router(app), limits, stop.clone()));
    }
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            ended = servers.join_next() => match ended {
                Some(result) => result.map_err(std::io::Error::other)??,
                None => return Ok(()),
            },
        }
    }
    stop.cancel();
    let finish = async {
        while let Some(result) = servers.join_next().await {
            result.map_err(std::io::Error::other)??;
        }
        Ok(())
    };
    tokio::time::timeout(GRACE, finish).await.unwrap_or_else(|_| {
        tracing::warn!("some requests did not finish in time");
        Ok(())
    })
}
