//! `POST /v1/workflows` and `/v1/workflows/convert`.

use crate::app::Shared;
use crate::comfy::prompt::read_idempotency_key;
use crate::error::{ApiError, Body, object_or_empty, read_body, read_json};
use crate::openapi::failures::{Away, Error, KeyReused, TooLarge, Wrong};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use comfy_proto::orchestrator::SubmitWorkflowRequest;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

/// A graph in API format, a drawn workflow, or an object with `prompt` or `workflow`, and `client_id` and `extra_data`.
#[derive(ToSchema)]
#[schema(value_type = Object, example = json!({
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 255}},
    "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
}))]
pub struct Workflow(
    #[expect(dead_code, reason = "described here, read by hand: errors name what is wrong")] Value,
);

/// A job that waits.
#[derive(Serialize, ToSchema)]
pub struct Submitted {
    job_id: String,
    status: &'static str,
    /// Its place in the queue.
    #[schema(value_type = f64)]
    number: Value,
    /// What is wrong with nodes that were left out.
    #[schema(value_type = Object)]
    node_errors: Value,
}

const WRAPPER_KEYS: [&str; 4] = ["workflow", "prompt", "client_id", "extra_data"];

#[utoipa::path(
    post,
    path = "/v1/workflows",
    tag = "v1",
    summary = "Queues a workflow.",
    params(("Idempotency-Key" = Option<String>, Header, description = "Sent again with the same request, no second job is made.", pattern = "^[!-~]{1,255}$")),
    request_body = Workflow,
    responses(
        (status = 202, description = "The job that was made, or the one that the key names.", body = Submitted),
        Wrong<Error>, TooLarge<Error>, KeyReused<Error>, Away<Error>,
    ),
)]
pub async fn submit(
    State(app): State<Shared>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Submitted>), ApiError> {
    let bytes = read_body(body)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let parsed = read_json(Ok(bytes))?;
    let request = read_request(text, &parsed)?;
    let idempotency_key = read_idempotency_key(&headers)?;
    let accepted = app.orchestrator.submit(SubmitWorkflowRequest { idempotency_key, ..request }).await?;
    crate::telemetry::submitted("v1");
    let answer = Submitted {
        job_id: accepted.job_id,
        status: "queued",
        number: crate::comfy::number(accepted.number),
        node_errors: object_or_empty(&accepted.node_errors_json),
    };
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

/// Turns a UI workflow into the graph that would run.
#[utoipa::path(
    post,
    path = "/v1/workflows/convert",
    tag = "v1",
    summary = "Turns a drawn workflow into API format.",
    request_body = Workflow,
    responses(
        (status = 200, description = "The graph.", body = Object),
        Wrong<Error>, TooLarge<Error>, Away<Error>,
    ),
)]
pub async fn convert(State(app): State<Shared>, body: Body) -> Result<Json<Value>, ApiError> {
    let parsed = read_json(body)?;
    let workflow = wrapped(&parsed).and_then(|wrapper| wrapper.get("workflow")).unwrap_or(&parsed);
    if !workflow.is_object() {
        return Err(ApiError::bad_request("a workflow is a JSON object"));
    }
    let graph = app.orchestrator.convert(workflow.to_string()).await?;
    let graph = serde_json::from_str(&graph).map_err(|error| {
        ApiError::internal(format!("the orchestrator sent a graph that is not JSON: {error}"))
    })?;
    Ok(Json(graph))
}

/// The object around a workflow, if there is one: a node of an API graph has a `class_type`, a wrapped workflow not.
fn wrapped(body: &Value) -> Option<&Map<String, Value>> {
    let object = body.as_object()?;
    if object.get("nodes").is_some_and(Value::is_array) {
        return None;
    }
    let inner = ["prompt", "workflow"].iter().find_map(|key| object.get(*key))?;
    inner.get("class_type").is_none().then_some(object)
}

fn read_request(text: String, body: &Value) -> Result<SubmitWorkflowRequest, ApiError> {
    if !body.is_object() {
        return Err(ApiError::bad_request("a workflow is a JSON object"));
    }
    let Some(wrapper) = wrapped(body) else {
        // Passed on as it came: pictures embed this text.
        return Ok(SubmitWorkflowRequest { workflow_json: text, ..Default::default() });
    };
    if let Some(unknown) = wrapper.keys().find(|key| !WRAPPER_KEYS.contains(&key.as_str())) {
        let valid = WRAPPER_KEYS.map(|key| format!("`{key}`")).join(", ");
        return Err(ApiError::bad_request(format!("unknown field `{unknown}`, expected one of {valid}")));
    }
    let client_id = match wrapper.get("client_id") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(id)) => id.clone(),
        Some(_) => return Err(ApiError::bad_request("`client_id` is not a string")),
    };
    let mut extra_data = match wrapper.get("extra_data") {
        None | Some(Value::Null) => json!({}),
        Some(extra @ Value::Object(_)) => extra.clone(),
        Some(_) => return Err(ApiError::bad_request("`extra_data` is not an object")),
    };
    let workflow = match (wrapper.get("prompt"), wrapper.get("workflow")) {
        (Some(prompt), Some(workflow)) => {
            if extra_data["extra_pnginfo"].is_null() {
                extra_data["extra_pnginfo"] = json!({"workflow": workflow});
            }
            prompt
        }
        (Some(only), None) | (None, Some(only)) => only,
        (None, None) => return Err(ApiError::bad_request("`workflow` or `prompt` is missing")),
    };
    if !workflow.is_object() {
        return Err(ApiError::bad_request("a workflow is a JSON object"));
    }
    let has_extra = extra_data.as_object().is_some_and(|extra| !extra.is_empty());
    Ok(SubmitWorkflowRequest {
        workflow_json: workflow.to_string(),
        client_id,
        extra_data_json: if has_extra { extra_data.to_string() } else { String::new() },
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<SubmitWorkflowRequest, ApiError> {
        read_request(text.into(), &serde_json::from_str(text).unwrap())
    }

    #[test]
    fn bare_workflows_pass_verbatim() {
        for text in [
            r#"{ "nodes" : [], "links":[], "extra": {"workflow": {}} }"#,
            r#"{"3": {"class_type": "KSampler", "inputs": {}}}"#,
            r#"{"prompt": {"class_type": "CLIPTextEncode", "inputs": {}}}"#,
            r#"{"nodes": [], "workflow": {}}"#,
        ] {
            assert_eq!(read(text).unwrap().workflow_json, text);
        }
    }

    #[test]
    fn wrapped_workflows_are_unwrapped() {
        let request = read(r#"{"workflow": {"nodes": []}, "client_id": "c"}"#).unwrap();
        assert_eq!((request.workflow_json.as_str(), request.client_id.as_str()), (r#"{"nodes":[]}"#, "c"));
        assert_eq!(request.extra_data_json, "");
        let request = read(r#"{"prompt": {"1": {}}, "workflow": {"nodes": []}}"#).unwrap();
        assert_eq!(request.workflow_json, r#"{"1":{}}"#);
        assert_eq!(request.extra_data_json, r#"{"extra_pnginfo":{"workflow":{"nodes":[]}}}"#);
    }

    #[test]
    fn wrong_bodies_are_named() {
        for (text, message) in [
            ("[]", "a workflow is a JSON object"),
            (r#"{"prompt": 3}"#, "a workflow is a JSON object"),
            (
                r#"{"prompt": {}, "clientid": "c"}"#,
                "unknown field `clientid`, expected one of `workflow`, `prompt`, `client_id`, `extra_data`",
            ),
            (r#"{"prompt": {}, "client_id": 1}"#, "`client_id` is not a string"),
        ] {
            assert_eq!(read(text).unwrap_err().message, message, "{text}");
        }
    }
}
