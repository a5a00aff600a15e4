//! What every handler shares, and the routes.

use crate::access::{self, Access, ApiKey};
use crate::comfy;
use crate::comfy::hub::Hub;
use crate::config::Config;
use crate::files::Folders;
use crate::orchestrator_client::Orchestrator;
use crate::{openapi, origin, page, telemetry, v1};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tower_http::compression::CompressionLayer;
use tower_http::timeout::RequestBodyTimeoutLayer;
use tower_http::trace::TraceLayer;
use utoipa_axum::router::OpenApiRouter;

/// The state of the gateway: nothing that would be missed after a restart.
pub struct App {
    pub config: Config,
    pub folders: Folders,
    pub orchestrator: Orchestrator,
    pub hub: Hub,
    pub access: Access,
    /// Held while the settings file is being changed.
    pub settings_writer: tokio::sync::Mutex<()>,
    /// Ends long answers (event streams, WebSockets), which would hold a shutdown up.
    pub shutdown: CancellationToken,
}

/// How handlers get the state.
pub type Shared = Arc<App>;

impl App {
    /// Makes the state and starts to follow the orchestrator's events.
    pub fn start(config: Config, keys: Vec<ApiKey>, shutdown: CancellationToken) -> Shared {
        let orchestrator = Orchestrator::new(config.orchestrator_addr.clone());
        let folders = Folders {
            input: config.input_dir.clone(),
            output: config.output_dir.clone(),
            temp: config.temp_dir.clone(),
        };
        let hub = Hub::start(orchestrator.clone(), shutdown.clone());
        let access = Access::new(keys, config.rate_limit);
        let app = Arc::new(Self {
            config,
            folders,
            orchestrator,
            hub,
            access,
            settings_writer: tokio::sync::Mutex::new(()),
            shutdown,
        });
        tokio::spawn(Access::forget_the_silent(app.clone()));
        app
    }
}

/// The routes of both surfaces, each once, with their descriptions.
pub fn described_routes(max_upload_bytes: usize) -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(openapi::head())
        .merge(v1::router())
        .merge(comfy::router(max_upload_bytes))
        .nest("/api", comfy::later_router())
}

/// Builds everything that is served: the routes, their description, and the page.
pub fn router(app: Shared) -> Router {
    let max_upload_bytes = app.config.max_upload_bytes;
    let (routes, document) = described_routes(max_upload_bytes).split_for_parts();
    routes
        .merge(openapi::routes(&document))
        .nest("/api", comfy::router(max_upload_bytes).into())
        .fallback(page::serve)
        .layer(DefaultBodyLimit::max(app.config.max_workflow_bytes))
        .layer(RequestBodyTimeoutLayer::new(app.config.request_body_timeout))
        .layer(axum::middleware::from_fn_with_state(app.clone(), access::check))
        .layer(axum::middleware::from_fn_with_state(app.clone(), origin::check))
        .layer(CompressionLayer::new())
        .layer(axum::middleware::from_fn(telemetry::measure))
        .layer(TraceLayer::new_for_http())
        .with_state(app)
}
