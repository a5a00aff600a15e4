//! What every handler shares, and the routes.

use crate::comfy;
use crate::comfy::hub::Hub;
use crate::config::Config;
use crate::files::Folders;
use crate::orchestrator_client::Orchestrator;
use crate::{openapi, origin, page, v1};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tower_http::compression::CompressionLayer;
use tower_http::trace::TraceLayer;

/// The state of the gateway: nothing that would be missed after a restart.
pub struct App {
    pub config: Config,
    pub folders: Folders,
    pub orchestrator: Orchestrator,
    pub hub: Hub,
    /// Held while the settings file is being changed.
    pub settings_writer: tokio::sync::Mutex<()>,
    /// Ends long answers (event streams, WebSockets), which would hold a shutdown up.
    pub shutdown: CancellationToken,
}

/// How handlers get the state.
pub type Shared = Arc<App>;

impl App {
    /// Makes the state and starts to follow the orchestrator's events.
    pub fn start(config: Config, shutdown: CancellationToken) -> Shared {
        let orchestrator = Orchestrator::new(config.orchestrator_addr.clone());
        let folders = Folders {
            input: config.input_dir.clone(),
            output: config.output_dir.clone(),
            temp: config.temp_dir.clone(),
        };
        let hub = Hub::start(orchestrator.clone(), shutdown.clone());
        Arc::new(Self {
            config,
            folders,
            orchestrator,
            hub,
            settings_writer: tokio::sync::Mutex::new(()),
            shutdown,
        })
    }
}

/// Builds the routes of both surfaces and the page.
pub fn router(app: Shared) -> Router {
    let comfy = comfy::router(app.config.max_upload_bytes);
    Router::new()
        .merge(v1::router())
        .merge(openapi::router())
        .merge(comfy.clone())
        .nest("/api", comfy.merge(comfy::later_router()))
        .fallback(page::serve)
        .layer(DefaultBodyLimit::max(app.config.max_workflow_bytes))
        .layer(axum::middleware::from_fn(origin::check))
        .layer(CompressionLayer::new())
        .layer(TraceLayer::new_for_http())
        .with_state(app)
}
