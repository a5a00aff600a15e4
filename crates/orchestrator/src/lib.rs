//! The durable job queue of Comfy Services: validates workflows, plans them and runs them on the stages.
//!
//! Architecture invariant: no node is known here. What a workflow may contain, and where it runs, comes from the
//! stages; what happens next comes from the pure planner and job machine of `comfy-graph`. This crate keeps, sends
//! and waits.

mod clock;
pub mod config;
mod context;
mod dispatcher;
mod driver;
mod error;
mod ledger;
mod queue_order;
pub mod results;
mod service;
mod stages;
pub mod store;
mod submit;
mod watch;
mod wire;

pub use config::Config;
pub use error::OrchestratorError;

use comfy_artifacts::{Folders, Store};
use comfy_proto::MAX_MESSAGE_BYTES;
use comfy_proto::orchestrator::orchestrator_service_server::OrchestratorServiceServer;
use context::Context;
use ledger::LedgerHandle;
use results::{ResultCheck, VolumeCheck};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use store::SqliteStore;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;

/// How long open requests may take once the orchestrator stops.
const DRAIN: Duration = Duration::from_secs(10);

/// Why the orchestrator cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("the database cannot be opened")]
    Store(#[from] store::StoreError),
    #[error("the artifact volume cannot be opened")]
    Artifacts(#[from] comfy_artifacts::StoreError),
    #[error("a picture folder cannot be opened")]
    Folders(#[from] comfy_artifacts::folders::FolderError),
    #[error(transparent)]
    Stages(#[from] OrchestratorError),
    #[error("the server failed")]
    Server(#[from] tonic::transport::Error),
}

/// Serves until `shutdown` resolves. Running jobs are then put back into the queue.
///
/// # Errors
/// When something that is needed cannot be opened, or when the listener fails.
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), RunError> {
    let folders = Folders::open(&config.input_dir, &config.output_dir, &config.temp_dir)?;
    let check = Arc::new(VolumeCheck::new(Store::open(&config.artifacts_root)?, folders));
    run_with(config, check, listener, shutdown).await
}

/// Serves with another judge of stored results.
///
/// # Errors
/// As [`run`].
pub async fn run_with(
    config: Config,
    check: Arc<dyn ResultCheck>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), RunError> {
    let stages = stages::Stages::new(&config)?;
    let store = SqliteStore::open(&config.data_dir.join("orchestrator.sqlite"))?;
    let (ledger, thread) = LedgerHandle::start(Box::new(store), config.history_limit)?;
    let context = Arc::new(Context {
        ledger: ledger.clone(),
        stages,
        check,
        stage_timeout: config.stage_timeout,
        unreachable_limit: config.stage_unreachable_limit,
        queued: tokio::sync::Notify::new(),
        stopping: CancellationToken::new(),
    });
    context.stages.refresh().await;
    let result = serve(&context, config.max_running_jobs.into(), listener, shutdown).await;
    ledger.close();
    // The thread ends after its last command; a panic in it has been reported by then.
    let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    result
}

async fn serve(
    context: &Arc<Context>,
    max_running: usize,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), RunError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<OrchestratorServiceServer<service::Service>>().await;
    let service = OrchestratorServiceServer::new(service::Service::new(context.clone()))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let stopping = context.stopping.clone();
    let server = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .add_service(health_service)
        .add_service(service)
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            stopping.cancelled_owned(),
        );
    let stop_on_signal = async {
        shutdown.await;
        context.stopping.cancel();
    };
    let dispatcher = dispatcher::dispatch(context.clone(), max_running);
    tokio::pin!(server);
    let served = async {
        tokio::select! {
            result = &mut server => result,
            // A client that keeps its connection open must not keep us from stopping.
            () = async { context.stopping.cancelled().await; tokio::time::sleep(DRAIN).await } => Ok(()),
        }
    };
    let served = async {
        let result = served.await;
        // Also when the listener failed: the dispatcher must not outlive it.
        context.stopping.cancel();
        result
    };
    tokio::pin!(stop_on_signal);
    let both = async { tokio::join!(served, dispatcher) };
    tokio::pin!(both);
    let (result, ()) = tokio::select! {
        () = &mut stop_on_signal => both.await,
        result = &mut both => result,
    };
    Ok(result?)
}
