//! ComfyUI's WebSocket: `/ws?clientId=`.

use super::frames;
use super::hub::Socket;
use crate::app::{App, Shared};
use crate::error::{ApiError, ComfyError};
use crate::extract::comfy::Query;
use crate::openapi::failures::{Refusal, Wrong};
use crate::serve::Peer;
use crate::telemetry;
use axum::Extension;
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;

/// Frames that may wait for a client. A sampler step makes three, so this is some minutes of a slow run.
const QUEUE: usize = 1024;
const PING_EVERY: Duration = Duration::from_secs(20);
/// Clients only ever send their feature flags.
const MAX_CLIENT_MESSAGE_BYTES: usize = 1 << 20;

static NEXT_CONNECTION: AtomicU64 = AtomicU64::new(1);

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Params {
    /// Who listens; made up when left out.
    #[serde(rename = "clientId", default)]
    client_id: String,
}

/// What both sides of the socket, and `GET /features`, say that this server can do.
pub fn server_features(max_upload_bytes: usize) -> Value {
    json!({"supports_preview_metadata": true, "max_upload_size": max_upload_bytes})
}

#[utoipa::path(
    get,
    path = "/ws",
    tag = "comfyui",
    summary = "Follows the jobs of a client.",
    params(Params),
    responses(
        (status = 101, description = "A WebSocket."),
        (status = 426, description = "The connection cannot become a WebSocket.", body = Refusal),
        Wrong<Refusal>,
    ),
)]
pub async fn connect(
    State(app): State<Shared>,
    Query(params): Query<Params>,
    peer: Option<Extension<Peer>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ComfyError> {
    let upgrade = upgrade.map_err(|rejection| {
        ApiError::new(rejection.status(), "invalid_argument", "not a request for a WebSocket")
            .details(rejection.body_text())
    })?;
    let sid = if params.client_id.is_empty() {
        uuid::Uuid::new_v4().simple().to_string()
    } else {
        params.client_id
    };
    Ok(upgrade.max_message_size(MAX_CLIENT_MESSAGE_BYTES).on_upgrade(async move |socket| {
        serve(app, sid, socket).await;
        // Until here the socket had its place among the connections.
        drop(peer);
    }))
}

#[tracing::instrument(skip_all, fields(%sid))]
async fn serve(app: Shared, sid: String, mut socket: WebSocket) {
    let connection = NEXT_CONNECTION.fetch_add(1, Ordering::Relaxed);
    let (sender, mut outgoing) = mpsc::channel(QUEUE);
    let kick = CancellationToken::new();
    let handle = Socket { connection, frames: sender, kick: kick.clone(), preview_metadata: false };
    app.hub.join(sid.clone(), handle).await;
    let _counted = telemetry::OpenSocket::new();

    let mut replaced = false;
    let mut awaiting_first_json = true;
    let mut ping = tokio::time::interval(PING_EVERY);
    loop {
        tokio::select! {
            () = app.shutdown.cancelled() => break,
            () = kick.cancelled() => break,
            frame = outgoing.recv(), if !replaced => match frame {
                Some(frame) => if socket.send(frame).await.is_err() { break },
                None => replaced = true,
            },
            _ = ping.tick() => if socket.send(Message::Ping(bytes::Bytes::new())).await.is_err() { break },
            received = socket.recv() => match received {
                Some(Ok(Message::Text(text))) if awaiting_first_json => {
                    if let Ok(message) = serde_json::from_str::<Value>(&text) {
                        awaiting_first_json = false;
                        on_first_message(&app, &sid, connection, &message).await;
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                Some(Ok(_)) => {}
            },
        }
    }
    app.hub.leave(sid, connection).await;
    // The client may be gone already; a close frame is a courtesy.
    let _ = socket.send(Message::Close(None)).await;
}

// Flags count only in the first message that is JSON at all.
async fn on_first_message(app: &App, sid: &str, connection: u64, message: &Value) {
    if message["type"] != "feature_flags" {
        return;
    }
    let preview_metadata = message["data"]["supports_preview_metadata"] == true;
    let features = server_features(app.config.max_upload_bytes);
    let reply = Message::text(frames::text("feature_flags", &features));
    app.hub.set_flags(sid.to_owned(), connection, preview_metadata, reply).await;
}
