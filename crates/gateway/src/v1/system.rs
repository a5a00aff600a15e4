//! `GET /v1/system`, `/healthz`, `/readyz`: how the stack is.

use crate::app::Shared;
use crate::error::ApiError;
use crate::openapi::failures::{Away, Error};
use axum::Json;
use axum::extract::State;
use comfy_graph::ErrorCode;
use serde::Serialize;
use utoipa::ToSchema;

/// How the stack is.
#[derive(Serialize, ToSchema)]
pub struct System {
    version: &'static str,
    services: Vec<Service>,
    queue: QueueState,
}

/// A process of the stack.
#[derive(Serialize, ToSchema)]
struct Service {
    name: String,
    status: ServiceStatus,
    address: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ServiceStatus {
    Serving,
    NotServing,
    Unreachable,
}

#[derive(Default, Serialize, ToSchema)]
struct QueueState {
    running: u32,
    pending: u32,
}

/// How this process is.
#[derive(Serialize, ToSchema)]
pub struct Health {
    status: &'static str,
}

/// The services and the queue. An orchestrator that is away is a state to show, not an error.
#[utoipa::path(
    get,
    path = "/v1/system",
    tag = "v1",
    summary = "Shows the services and the queue.",
    responses(
        (status = 200, description = "The answer.", body = System),
    ),
)]
pub async fn get(State(app): State<Shared>) -> Json<System> {
    let mut services = vec![Service::new("gateway", &app.config.gateway_addr.to_string())];
    let queue = match app.orchestrator.system().await {
        Ok(system) => {
            if !system.services.iter().any(|service| service.name == "orchestrator") {
                services.push(Service::new("orchestrator", app.orchestrator.address()));
            }
            services.extend(system.services.into_iter().map(|state| Service {
                name: state.name,
                status: if state.serving { ServiceStatus::Serving } else { ServiceStatus::NotServing },
                address: state.address,
                detail: state.detail,
            }));
            QueueState { running: system.running, pending: system.pending }
        }
        Err(error) => {
            services.push(Service {
                status: ServiceStatus::Unreachable,
                detail: error.details,
                ..Service::new("orchestrator", app.orchestrator.address())
            });
            QueueState::default()
        }
    };
    Json(System { version: env!("CARGO_PKG_VERSION"), services, queue })
}

impl Service {
    fn new(name: &str, address: &str) -> Self {
        Self {
            name: name.into(),
            status: ServiceStatus::Serving,
            address: address.into(),
            detail: String::new(),
        }
    }
}

/// The process is alive.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "v1",
    summary = "Says that the process is alive.",
    responses(
        (status = 200, description = "The answer.", body = Health),
    ),
)]
pub async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Requests can be served: the orchestrator answers and its events arrive.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "v1",
    summary = "Says that requests can be served.",
    responses(
        (status = 200, description = "The answer.", body = Health),
        Away<Error>,
    ),
)]
pub async fn readyz(State(app): State<Shared>) -> Result<Json<Health>, ApiError> {
    app.orchestrator.system().await?;
    if !app.hub.is_connected() {
        return Err(ApiError::from_code(
            ErrorCode::Unavailable,
            "the orchestrator's events do not arrive yet",
        ));
    }
    Ok(Json(Health { status: "ready" }))
}
