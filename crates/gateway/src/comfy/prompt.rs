//! `GET` and `POST /prompt`, `/interrupt`, `/free`.

use crate::app::Shared;
use crate::error::{ApiError, Body, ComfyError, flag, object_or_empty, read_json, read_optional_object};
use crate::openapi::failures::{Away, KeyReused, Refusal, TooLarge, Wrong};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use comfy_proto::orchestrator::{FreeMemoryRequest, JobStatus, ListJobsRequest, SubmitWorkflowRequest};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// How long the queue is.
#[derive(Serialize, ToSchema)]
pub struct QueueLength {
    exec_info: ExecInfo,
}

#[derive(Serialize, ToSchema)]
struct ExecInfo {
    queue_remaining: u32,
}

/// What to run. Described here and read by hand, so that errors name what is wrong.
#[derive(ToSchema)]
#[schema(example = json!({"prompt": {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 255}},
    "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
}}))]
#[expect(dead_code, reason = "described, never made")]
pub struct Prompt {
    /// A graph in API format, or a drawn workflow.
    #[schema(value_type = Object)]
    prompt: Value,
    client_id: Option<Id>,
    prompt_id: Option<Id>,
    #[schema(value_type = Option<Object>)]
    extra_data: Option<Value>,
    /// Its place in the queue.
    number: Option<Id>,
    front: Option<bool>,
    /// Only these output nodes, and what they need.
    partial_execution_targets: Option<Vec<String>>,
}

/// A text, or a number that stands for one or is written as one.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "described, never made")]
enum Id {
    Text(String),
    Number(f64),
}

/// A job that waits.
#[derive(Serialize, ToSchema)]
pub struct PromptAccepted {
    prompt_id: String,
    #[schema(value_type = f64)]
    number: Value,
    #[schema(value_type = Object)]
    node_errors: Value,
}

/// Which job.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described, never made")]
pub struct PromptId {
    prompt_id: Option<Id>,
}

/// What to forget.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described, never made")]
pub struct Free {
    unload_models: Option<bool>,
    free_memory: Option<bool>,
}

const MAX_KEY_BYTES: usize = 255;

#[utoipa::path(
    get,
    path = "/prompt",
    tag = "comfyui",
    summary = "Says how many jobs are queued or running.",
    responses(
        (status = 200, description = "The answer.", body = QueueLength),
        Away<Refusal>,
    ),
)]
pub async fn get(State(app): State<Shared>) -> Result<Json<QueueLength>, ComfyError> {
    let system = app.orchestrator.system().await?;
    Ok(Json(QueueLength { exec_info: ExecInfo { queue_remaining: system.running + system.pending } }))
}

#[utoipa::path(
    post,
    path = "/prompt",
    tag = "comfyui",
    summary = "Queues a graph in API format, or a drawn workflow.",
    params(("Idempotency-Key" = Option<String>, Header, description = "Sent again with the same request, no second job is made.", pattern = "^[!-~]{1,255}$")),
    request_body = Prompt,
    responses(
        (status = 200, description = "The answer.", body = PromptAccepted),
        Wrong<Refusal>, TooLarge<Refusal>, KeyReused<Refusal>, Away<Refusal>,
    ),
)]
pub async fn post(
    State(app): State<Shared>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PromptAccepted>, ComfyError> {
    let request = read_request(&read_json(body)?)?;
    let idempotency_key = read_idempotency_key(&headers)?;
    let accepted = app.orchestrator.submit(SubmitWorkflowRequest { idempotency_key, ..request }).await?;
    crate::telemetry::submitted("comfyui");
    Ok(Json(PromptAccepted {
        prompt_id: accepted.job_id,
        number: super::number(accepted.number),
        node_errors: object_or_empty(&accepted.node_errors_json),
    }))
}

fn read_request(body: &Value) -> Result<SubmitWorkflowRequest, ApiError> {
    let prompt = match &body["prompt"] {
        // A drawn workflow as the page saves it, without anything around it.
        Value::Null if body["nodes"].is_array() => body.to_string(),
        Value::Null => {
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "no_prompt", "no prompt was given"));
        }
        prompt @ Value::Object(_) => prompt.to_string(),
        _ => {
            return Err(ApiError::new(
                StatusCode::BAD_REQUEST,
                "invalid_prompt",
                "`prompt` is not an object",
            ));
        }
    };
    let extra_data = match &body["extra_data"] {
        Value::Null => String::new(),
        Value::Object(extra) => {
            let mut extra = extra.clone();
            // Credentials for services that this stack does not call have no place in a stored job.
            extra.remove("auth_token_comfy_org");
            extra.remove("api_key_comfy_org");
            Value::Object(extra).to_string()
        }
        _ => return Err(ApiError::bad_request("`extra_data` is not an object")),
    };
    Ok(SubmitWorkflowRequest {
        workflow_json: prompt,
        job_id: read_id(body, "prompt_id")?,
        client_id: read_id(body, "client_id")?,
        extra_data_json: extra_data,
        number: read_number(&body["number"])?,
        front: flag(body, "front")?,
        targets: read_targets(&body["partial_execution_targets"])?,
        idempotency_key: String::new(),
    })
}

/// Reads the header `Idempotency-Key`; empty when there is none.
///
/// # Errors
/// 400 when it is empty, too long or holds anything but visible ASCII.
pub fn read_idempotency_key(headers: &HeaderMap) -> Result<String, ApiError> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(String::new()) };
    match value.to_str().map(str::trim) {
        Ok(key)
            if (1..=MAX_KEY_BYTES).contains(&key.len())
                && key.bytes().all(|byte| byte.is_ascii_graphic()) =>
        {
            Ok(key.to_owned())
        }
        _ => Err(ApiError::bad_request(format!(
            "`Idempotency-Key` must be 1 to {MAX_KEY_BYTES} visible ASCII characters"
        ))),
    }
}

fn read_id(body: &Value, key: &str) -> Result<String, ApiError> {
    match &body[key] {
        Value::Null => Ok(String::new()),
        Value::String(id) => Ok(id.clone()),
        Value::Number(id) => Ok(id.to_string()),
        _ => Err(ApiError::bad_request(format!("`{key}` is not a string"))),
    }
}

fn read_number(value: &Value) -> Result<Option<f64>, ApiError> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(ApiError::bad_request("`number` is not a finite number")),
        },
        value => value.as_f64().map(Some).ok_or_else(|| ApiError::bad_request("`number` is not a number")),
    }
}

fn read_targets(value: &Value) -> Result<Vec<String>, ApiError> {
    let bad = || ApiError::bad_request("`partial_execution_targets` is not a list of node ids");
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(ids) => ids.iter().map(|id| id.as_str().map(str::to_owned).ok_or_else(bad)).collect(),
        _ => Err(bad()),
    }
}

/// Cancels the running job, or the named one if it runs.
#[utoipa::path(
    post,
    path = "/interrupt",
    tag = "comfyui",
    summary = "Cancels the running job, or the named one if it runs.",
    request_body = Option<PromptId>,
    responses(
        (status = 200, description = "Done."),
        Wrong<Refusal>, TooLarge<Refusal>, Away<Refusal>,
    ),
)]
pub async fn interrupt(State(app): State<Shared>, body: Body) -> Result<StatusCode, ComfyError> {
    let wanted = read_id(&read_optional_object(body)?, "prompt_id")?;
    let request = ListJobsRequest { statuses: vec![JobStatus::Running.into()], ..Default::default() };
    for job in app.orchestrator.jobs(request).await?.jobs {
        if wanted.is_empty() || wanted == job.id {
            super::ignore_missing(app.orchestrator.cancel(&job.id).await)?;
        }
    }
    Ok(StatusCode::OK)
}

/// Lets the stages forget their models, and the orchestrator its reusable results, as the page asks. What runs now
/// is not disturbed.
#[utoipa::path(
    post,
    path = "/free",
    tag = "comfyui",
    summary = "Forgets loaded models, and reusable results.",
    request_body = Option<Free>,
    responses(
        (status = 200, description = "Done."),
        Wrong<Refusal>, TooLarge<Refusal>, Away<Refusal>,
    ),
)]
pub async fn free(State(app): State<Shared>, body: Body) -> Result<StatusCode, ComfyError> {
    let body = read_optional_object(body)?;
    let forget_results = flag(&body, "free_memory")?;
    let unload_models = flag(&body, "unload_models")? || forget_results;
    if unload_models {
        app.orchestrator.free_memory(FreeMemoryRequest { unload_models, forget_results }).await?;
    }
    Ok(StatusCode::OK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_are_read_and_secrets_left_out() {
        let body = json!({
            "prompt": {"1": {}}, "prompt_id": 12345, "client_id": "c", "front": true, "number": "2.5",
            "extra_data": {"api_key_comfy_org": "k", "extra_pnginfo": {}}, "partial_execution_targets": ["9"],
        });
        let request = read_request(&body).unwrap();
        assert_eq!(request.job_id, "12345");
        assert_eq!(request.extra_data_json, r#"{"extra_pnginfo":{}}"#);
        assert_eq!((request.number, request.front), (Some(2.5), true));
        assert_eq!(request.targets, ["9"]);
        let drawn = json!({"nodes": [], "links": []});
        for body in [drawn.clone(), json!({"prompt": drawn})] {
            assert_eq!(read_request(&body).unwrap().workflow_json, drawn.to_string());
        }
    }

    #[test]
    fn idempotency_keys_are_checked() {
        let read = |text: &str| {
            let headers = [("idempotency-key".parse().unwrap(), text.parse().unwrap())];
            read_idempotency_key(&HeaderMap::from_iter(headers)).ok()
        };
        assert_eq!(read("a-1"), Some("a-1".into()));
        assert_eq!(read(" "), None);
        assert_eq!(read("a 1"), None);
        assert_eq!(read(&"k".repeat(256)), None);
        assert_eq!(read("K\u{e4}se"), None);
        assert_eq!(read_idempotency_key(&HeaderMap::new()), Ok(String::new()));
    }

    #[test]
    fn wrong_requests_are_named() {
        for (body, code) in [
            (json!({}), "no_prompt"),
            (json!([]), "no_prompt"),
            (json!({"prompt": []}), "invalid_prompt"),
            (json!({"prompt": {}, "number": "nan"}), "invalid_argument"),
            (json!({"prompt": {}, "client_id": []}), "invalid_argument"),
            (json!({"prompt": {}, "extra_data": 1}), "invalid_argument"),
            (json!({"prompt": {}, "partial_execution_targets": [1]}), "invalid_argument"),
        ] {
            assert_eq!(read_request(&body).unwrap_err().code, code, "{body}");
        }
    }
}
