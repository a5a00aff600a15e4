//! `GET /v1/system`, `/healthz`, `/readyz`: how the stack is.

use crate::app::Shared;
use crate::error::ApiError;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use comfy_graph::ErrorCode;
use serde_json::{Value, json};

/// The services and the queue. An orchestrator that is away is a state to show, not an error.
pub async fn get(State(app): State<Shared>) -> Json<Value> {
    let version = env!("CARGO_PKG_VERSION");
    let gateway = service("gateway", "serving", &app.config.gateway_addr.to_string(), "");
    let mut services = vec![gateway];
    let queue = match app.orchestrator.system().await {
        Ok(system) => {
            if !system.services.iter().any(|service| service.name == "orchestrator") {
                services.push(service("orchestrator", "serving", app.orchestrator.address(), ""));
            }
            services.extend(system.services.iter().map(|state| {
                let status = if state.serving { "serving" } else { "not_serving" };
                service(&state.name, status, &state.address, &state.detail)
            }));
            json!({"running": system.running, "pending": system.pending})
        }
        Err(error) => {
            services.push(service("orchestrator", "unreachable", app.orchestrator.address(), &error.details));
            json!({"running": 0, "pending": 0})
        }
    };
    Json(json!({"version": version, "services": services, "queue": queue}))
}

fn service(name: &str, status: &str, address: &str, detail: &str) -> Value {
    let mut json = json!({"name": name, "status": status, "address": address});
    if !detail.is_empty() {
        json["detail"] = detail.into();
    }
    json
}

/// The process is alive.
pub async fn healthz() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// Requests can be served: the orchestrator answers and its events arrive.
pub async fn readyz(State(app): State<Shared>) -> Result<(StatusCode, Json<Value>), ApiError> {
    app.orchestrator.system().await?;
    if !app.hub.is_connected() {
        return Err(ApiError::from_code(
            ErrorCode::Unavailable,
            "the orchestrator's events do not arrive yet",
        ));
    }
    Ok((StatusCode::OK, Json(json!({"status": "ready"}))))
}
