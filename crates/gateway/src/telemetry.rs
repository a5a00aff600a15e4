//! Figures for Prometheus, on a port of their own.

use crate::app::Shared;
use crate::v1::system::{healthz, readyz};
use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::sync::OnceLock;
use std::time::Instant;

const REQUESTS: &str = "gateway_http_requests_total";
const SECONDS: &str = "gateway_http_request_seconds";
const SUBMITTED: &str = "gateway_jobs_submitted_total";
const QUEUE: &str = "gateway_queue_jobs";
const SOCKETS: &str = "gateway_websocket_clients";
const UP: &str = "gateway_orchestrator_up";

/// From a cached answer to a stage that has to be asked.
const BUCKETS: [f64; 11] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();

/// Starts to count. There is one set of figures in a process.
fn handle() -> &'static PrometheusHandle {
    HANDLE.get_or_init(|| {
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full(SECONDS.into()), &BUCKETS)
            .expect("there are buckets")
            .install_recorder()
            .expect("nothing else in this process records figures");
        describe_counter!(REQUESTS, "Requests that were answered, by method, route and status.");
        describe_histogram!(SECONDS, Unit::Seconds, "Time until an answer began, by method and route.");
        describe_counter!(SUBMITTED, "Jobs that were accepted, by the API that was used.");
        describe_gauge!(QUEUE, "Jobs that run, and jobs that wait.");
        describe_gauge!(SOCKETS, "Open WebSockets.");
        describe_gauge!(UP, "Whether the orchestrator answers.");
        // What is not zero later should be known to be zero now.
        gauge!(SOCKETS).set(0.0);
        handle
    })
}

/// Starts to count, before the first request.
pub fn start() {
    handle();
}

/// The routes of the port for those who run the server.
pub fn router(app: Shared) -> Router {
    Router::new()
        .route("/metrics", get(figures))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(app)
}

async fn figures(State(app): State<Shared>) -> impl IntoResponse {
    match app.orchestrator.system().await {
        Ok(system) => {
            gauge!(UP).set(1.0);
            gauge!(QUEUE, "state" => "running").set(f64::from(system.running));
            gauge!(QUEUE, "state" => "pending").set(f64::from(system.pending));
        }
        // The last lengths would be wrong by now; that it is away is said.
        Err(_) => {
            gauge!(UP).set(0.0);
            gauge!(QUEUE, "state" => "running").set(f64::NAN);
            gauge!(QUEUE, "state" => "pending").set(f64::NAN);
        }
    }
    let handle = handle();
    handle.run_upkeep();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], handle.render())
}

/// The middleware: counts an answer under its route, never under a path that somebody made up.
pub async fn measure(route: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let route = route.map_or("page".to_owned(), |route| route.as_str().to_owned());
    let method = match request.method().as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PATCH" | "DELETE" | "OPTIONS" | "PUT") => known.to_owned(),
        _ => "other".to_owned(),
    };
    let began = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    histogram!(SECONDS, "method" => method.clone(), "route" => route.clone()).record(began.elapsed());
    counter!(REQUESTS, "method" => method, "route" => route, "status" => status).increment(1);
    response
}

/// Counts an accepted job.
pub fn submitted(api: &'static str) {
    counter!(SUBMITTED, "api" => api).increment(1);
}

/// An open WebSocket, for as long as it is held.
pub struct OpenSocket(());

impl OpenSocket {
    pub fn new() -> Self {
        gauge!(SOCKETS).increment(1.0);
        Self(())
    }
}

impl Default for OpenSocket {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        gauge!(SOCKETS).decrement(1.0);
    }
}
