//! `GET /v1/events`: server-sent events of one job or of all.

use super::job::Failure;
use super::jobs::has_ended;
use crate::app::Shared;
use crate::error::{ApiError, object_or_empty};
use crate::events::{Position, Signal, follow};
use crate::extract::Query;
use crate::openapi::failures::{Away, Error, Unknown, Wrong};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use comfy_proto::orchestrator::JobEvent;
use comfy_proto::orchestrator::job_event::Kind;
use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::time::Duration;
use tokio_stream::wrappers::ReceiverStream;
use utoipa::IntoParams;

const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Params {
    /// Only of this job.
    #[serde(default)]
    job_id: String,
    /// Only after this number.
    #[param(value_type = Option<u64>)]
    after: Option<String>,
}

/// Streams events. The stream of one job begins with its history and ends after its last event; asked again from
/// there, the answer is 204, which tells an `EventSource` not to come back.
#[utoipa::path(
    get,
    path = "/v1/events",
    tag = "v1",
    summary = "Streams events; a reconnecting client loses none.",
    params(Params, ("Last-Event-ID" = Option<u64>, Header, description = "As `after`; browsers send it themselves.")),
    responses(
        (status = 200, description = "Events, until the job ends or the client leaves.", body = String, content_type = "text/event-stream"),
        (status = 204, description = "The job has ended and there is no event after that number."),
        Wrong<Error>, Unknown<Error>, Away<Error>,
    ),
)]
pub async fn stream(
    State(app): State<Shared>,
    Query(params): Query<Params>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let after = read_after(&headers, params.after.as_deref())?;
    if !params.job_id.is_empty() {
        let job = app.orchestrator.job(&params.job_id).await?;
        if has_ended(&job) && after.is_some_and(|seq| seq >= job.last_seq) {
            return Ok(StatusCode::NO_CONTENT.into_response());
        }
    }
    let start = match after {
        Some(seq) => Position::After(seq),
        None if !params.job_id.is_empty() => Position::After(0),
        None => app.hub.now(),
    };
    let signals = follow(app.orchestrator.clone(), params.job_id, start);
    let events = ReceiverStream::new(signals)
        .filter_map(|signal| async move {
            match signal {
                Signal::Event(event) => to_sse(&event),
                Signal::Connected { .. } | Signal::Lost => None,
            }
        })
        .map(Ok::<_, Infallible>)
        .take_until(app.shutdown.clone().cancelled_owned());
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // A proxy that collects the stream would hold events back.
    response.headers_mut().insert("x-accel-buffering", axum::http::HeaderValue::from_static("no"));
    Ok(response)
}

/// The header wins: a browser that reconnects repeats the address it was given first.
fn read_after(headers: &HeaderMap, query: Option<&str>) -> Result<Option<u64>, ApiError> {
    let header = headers.get("last-event-id").map(|value| value.to_str().unwrap_or("?"));
    let (name, text) = match header.filter(|text| !text.is_empty()) {
        Some(text) => ("Last-Event-ID", Some(text)),
        None => ("after", query.filter(|text| !text.is_empty())),
    };
    text.map(|text| {
        text.parse()
            .map_err(|_| ApiError::bad_request(format!("`{name}` is `{text}`, not a sequence number")))
    })
    .transpose()
}

fn to_sse(event: &JobEvent) -> Option<Event> {
    let (kind, fields) = describe(event.kind.as_ref()?);
    let mut data = json!({"seq": event.seq, "job_id": event.job_id, "at_ms": event.at_ms, "kind": kind});
    if let (Value::Object(data), Value::Object(fields)) = (&mut data, fields) {
        data.extend(fields);
    }
    Some(Event::default().id(event.seq.to_string()).event(kind).data(data.to_string()))
}

fn describe(kind: &Kind) -> (&'static str, Value) {
    match kind {
        Kind::Queued(queued) => {
            let mut fields = json!({"number": crate::comfy::number(queued.number)});
            if queued.ordinal > 0 {
                fields["ordinal"] = queued.ordinal.into();
            }
            ("queued", fields)
        }
        Kind::Moved(moved) => ("moved", json!({"number": crate::comfy::number(moved.number)})),
        Kind::Started(_) => ("started", json!({})),
        Kind::Cached(cached) => {
            let ids: Vec<&str> = cached.nodes.iter().map(|node| node.node_id.as_str()).collect();
            ("cached", json!({"nodes": ids}))
        }
        Kind::NodeStarted(node) => {
            ("node_started", json!({"node_id": node.node_id, "class_type": node.class}))
        }
        Kind::NodeProgress(node) => {
            ("node_progress", json!({"node_id": node.node_id, "value": node.value, "max": node.max}))
        }
        Kind::Preview(preview) => {
            let data = base64::engine::general_purpose::STANDARD.encode(&preview.data);
            ("preview", json!({"node_id": preview.node_id, "mime": preview.mime, "data": data}))
        }
        Kind::NodeDone(node) => {
            let mut fields = json!({"node_id": node.node_id, "class_type": node.class});
            if !node.ui_json.is_empty() {
                fields["ui"] = object_or_empty(&node.ui_json);
            }
            if !node.stage.is_empty() {
                fields["stage"] = node.stage.clone().into();
            }
            if node.peak_bytes > 0 {
                fields["peak_bytes"] = node.peak_bytes.into();
            }
            ("node_done", fields)
        }
        Kind::NodeBlocked(node) => (
            "node_blocked",
            json!({"node_id": node.node_id, "class_type": node.class, "message": node.message}),
        ),
        Kind::Failed(failed) => {
            ("failed", json!({"error": Failure::from(failed.error.clone().unwrap_or_default())}))
        }
        Kind::Cancelled(cancelled) => {
            let mut fields = json!({});
            if !cancelled.node_id.is_empty() {
                fields = json!({"node_id": cancelled.node_id, "class_type": cancelled.class});
            }
            ("cancelled", fields)
        }
        Kind::Succeeded(_) => ("succeeded", json!({})),
    }
}
