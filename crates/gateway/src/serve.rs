//! Connections: how many there may be, and how long a client may take to say what it wants.

use axum::Router;
use axum::extract::Request;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

/// Where a request comes from. What outlives its connection, such as a WebSocket, keeps a copy, and with it the place
/// among the connections.
#[derive(Debug, Clone)]
pub struct Peer {
    pub address: SocketAddr,
    /// Held, never read.
    #[expect(dead_code, reason = "the place is given back when it is dropped")]
    slot: Arc<OwnedSemaphorePermit>,
}

/// After a failure that is the system's, such as too many open files, trying at once would fail again.
const PAUSE: Duration = Duration::from_millis(200);

/// Limits of a listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For the head of a request; also how long an unused connection stays open.
    pub header_timeout: Duration,
    /// More than these wait until others have left.
    pub connections: usize,
}

/// Serves a router on a listener until `stop`, then until what was begun is finished.
///
/// # Errors
/// When the listener has no address.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) -> std::io::Result<()> {
    tracing::info!(address = %listener.local_addr()?, "gateway listens");
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.header_timeout);
    let slots = Arc::new(Semaphore::new(limits.connections));
    let connections = TaskTracker::new();
    loop {
        let next = async {
            let slot = slots.clone().acquire_owned().await.expect("nobody closes the semaphore");
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            () = stop.cancelled() => break,
            next = next => next,
        };
        let (stream, peer) = match accepted {
            Ok((stream, address)) => (stream, Peer { address, slot: Arc::new(slot) }),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        // Small frames of progress must not wait for one another.
        let _ = stream.set_nodelay(true);
        let of_requests = peer.clone();
        let service = router.clone().map_request(move |request: hyper::Request<hyper::body::Incoming>| {
            let mut request: Request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(of_requests.clone());
            request
        });
        let connection =
            builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).with_upgrades();
        let stop = stop.clone();
        connections.spawn(async move {
            tokio::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, peer = %peer.address, "connection ended early");
            }
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
    Ok(())
}
