//! The HTTP front of Comfy Services: serves the page, the `/v1` API and ComfyUI's own HTTP and WebSocket API, and
//! speaks gRPC to the orchestrator.
//!
//! Architecture invariant: the gateway holds no job state and no node list. It can be restarted, or run twice, at
//! any time; everything it says about jobs comes from the orchestrator.

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
pub mod serve_file;
pub mod v1;

use std::future::IntoFuture as _;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use config::Config;

/// How long requests may take to finish after a shutdown was asked for.
const GRACE: Duration = Duration::from_secs(10);

/// Serves everything on every listener until `shutdown` completes, then lets open requests finish.
///
/// # Errors
/// When a listener fails.
pub async fn run(
    config: Config,
    listeners: Vec<TcpListener>,
    shutdown: impl Future<Output = ()> + Send,
) -> std::io::Result<()> {
    let stop = CancellationToken::new();
    // Whatever way this function ends, the tasks it started end too.
    let _stop_on_drop = stop.clone().drop_guard();
    let router = app::router(app::App::start(config, stop.clone()));
    let mut servers = JoinSet::new();
    for listener in listeners {
        tracing::info!(address = %listener.local_addr()?, "gateway listens");
        let server =
            axum::serve(listener, router.clone()).with_graceful_shutdown(stop.clone().cancelled_owned());
        servers.spawn(server.into_future());
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
