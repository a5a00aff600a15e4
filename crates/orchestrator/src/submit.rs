//! Takes workflows in: reads, validates and queues them.

use crate::context::Context;
use crate::error::OrchestratorError;
use crate::store::{JobTexts, NewJob, NewKey, Place, Submitted, UsedKey};
use comfy_graph::expansion::MAX_NODES;
use comfy_graph::{ApiGraph, Catalog, Digest, NodeId, PromptError, Validation, validate, workflow};
use comfy_proto::orchestrator as pb;
use serde_json::{Value, json};
use std::sync::Arc;

/// Largest workflow, with its extra data.
const MAX_BYTES: usize = 16 << 20;

/// Longest job id that a client may choose.
const MAX_ID_BYTES: usize = 256;

/// Validates a workflow and makes it durable. A workflow that is wrong is answered, not refused.
///
/// # Errors
/// When the request is malformed or too large, when a stage that may know its nodes was never reached, and when
/// another job has the same id.
pub async fn submit(
    context: &Context,
    request: pb::SubmitWorkflowRequest,
) -> Result<pb::SubmitWorkflowResponse, OrchestratorError> {
    check_request(&request)?;
    let key = idempotency_key(&request);
    if let Some(earlier) = earlier_submission(context, key.as_ref()).await? {
        return Ok(earlier);
    }
    let catalog = context.stages.refresh().await;
    let away = context.stages.never_reached();
    let place = match (request.number, request.front) {
        (Some(number), _) => Place::At(number),
        (None, true) => Place::First,
        (None, false) => Place::Last,
    };
    let id = if request.job_id.is_empty() { uuid::Uuid::new_v4().to_string() } else { request.job_id };
    let targets: Vec<NodeId> = request.targets.into_iter().map(NodeId).collect();
    let (workflow_json, extra_data_json) = (request.workflow_json, request.extra_data_json);
    let read = blocking(move || read(&workflow_json, &extra_data_json, targets, &catalog, &away)).await?;
    let (graph, texts, node_errors_json) = match read {
        Read::Rejected(rejected) => {
            return Ok(answer(pb::submit_workflow_response::Result::Rejected(rejected)));
        }
        Read::Accepted { nodes, texts, node_errors_json } => (nodes, texts, node_errors_json),
    };
    let key = key.map(|key| NewKey { node_errors_json: node_errors_json.clone(), ..key });
    let job = NewJob { id, client_id: request.client_id, place, nodes_total: graph, texts, key: key.clone() };
    let wanted = job.clone();
    let submitted = context.ledger.call(move |ledger| ledger.submit(&job)).await;
    let number = match submitted.map_err(OrchestratorError::Store)? {
        Submitted::New(event) => match event.kind {
            comfy_graph::JobEventKind::Queued { number, .. } => number,
            _ => 0.0,
        },
        // The same key arrived twice at the same time.
        Submitted::KeyUsed(used) => return Ok(answer_again(used, key.as_ref())),
        Submitted::Existing(row) => {
            let same = row.texts.as_ref().is_some_and(|texts| is_same(texts, &wanted.texts));
            if !same {
                let message = format!("job `{}` exists already, with other content", wanted.id);
                return Err(OrchestratorError::Invalid("job_id", message));
            }
            row.number
        }
    };
    context.queued.notify_one();
    tracing::info!(job = %wanted.id, number, nodes = wanted.nodes_total, "job queued");
    let accepted = pb::Accepted { job_id: wanted.id, number, node_errors_json };
    Ok(answer(pb::submit_workflow_response::Result::Accepted(accepted)))
}

/// The key of a submission and what it stands for: everything that was asked, whatever the client's connection.
fn idempotency_key(request: &pb::SubmitWorkflowRequest) -> Option<NewKey> {
    if request.idempotency_key.is_empty() {
        return None;
    }
    let asked = json!([
        request.workflow_json,
        request.job_id,
        request.extra_data_json,
        request.number,
        request.front,
        request.targets,
    ]);
    let fingerprint = Digest::of(asked.to_string().as_bytes()).to_string();
    Some(NewKey { key: request.idempotency_key.clone(), fingerprint, node_errors_json: String::new() })
}

/// What was answered to the first submission with this key, if there was one.
async fn earlier_submission(
    context: &Context,
    key: Option<&NewKey>,
) -> Result<Option<pb::SubmitWorkflowResponse>, OrchestratorError> {
    let Some(key) = key else { return Ok(None) };
    let text = key.key.clone();
    let used = context.ledger.call(move |ledger| ledger.store().used_key(&text)).await;
    Ok(used.map_err(OrchestratorError::Store)?.map(|used| answer_again(used, Some(key))))
}

fn answer_again(used: UsedKey, key: Option<&NewKey>) -> pb::SubmitWorkflowResponse {
    use pb::submit_workflow_response::Result as R;
    let UsedKey { job_id, number, fingerprint, node_errors_json } = used;
    if key.is_some_and(|key| key.fingerprint == fingerprint) {
        tracing::info!(job = %job_id, "job was submitted again with its idempotency key");
        return answer(R::Accepted(pb::Accepted { job_id, number, node_errors_json }));
    }
    answer(R::KeyReused(pb::KeyReused { job_id }))
}

/// Converts a workflow to the API format.
///
/// # Errors
/// When it is not a workflow.
pub async fn convert(context: &Context, workflow_json: String) -> Result<String, OrchestratorError> {
    check_size(workflow_json.len())?;
    let catalog = context.stages.refresh().await;
    let away = context.stages.never_reached();
    blocking(move || {
        let json = parse(&workflow_json, "workflow_json")?;
        let graph = workflow::read(&json, &catalog)
            .map_err(|e| OrchestratorError::Invalid("workflow_json", e.to_string()))?;
        check_reached(&graph, &catalog, &away)?;
        Ok(graph.to_json().to_string())
    })
    .await
}

fn answer(result: pb::submit_workflow_response::Result) -> pb::SubmitWorkflowResponse {
    pb::SubmitWorkflowResponse { result: Some(result) }
}

/// Reading a large workflow takes long enough to hold other requests up.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, OrchestratorError> + Send + 'static,
) -> Result<T, OrchestratorError> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Err(OrchestratorError::Unavailable("the orchestrator is stopping".into())),
    })
}

fn check_request(request: &pb::SubmitWorkflowRequest) -> Result<(), OrchestratorError> {
    check_size(request.workflow_json.len() + request.extra_data_json.len())?;
    if request.job_id.len() > MAX_ID_BYTES || request.job_id.contains(char::is_control) {
        let message = format!("`job_id` must have at most {MAX_ID_BYTES} bytes and no control characters");
        return Err(OrchestratorError::Invalid("job_id", message));
    }
    let key = &request.idempotency_key;
    if key.len() > MAX_ID_BYTES || key.contains(char::is_control) {
        let message =
            format!("`idempotency_key` must have at most {MAX_ID_BYTES} bytes and no control characters");
        return Err(OrchestratorError::Invalid("idempotency_key", message));
    }
    match request.number {
        Some(number) if !number.is_finite() => Err(OrchestratorError::Invalid(
            "number",
            format!("`number` holds `{number}`, which is no place in a queue"),
        )),
        _ => Ok(()),
    }
}

fn check_size(bytes: usize) -> Result<(), OrchestratorError> {
    if bytes <= MAX_BYTES {
        return Ok(());
    }
    Err(OrchestratorError::Invalid(
        "workflow_json",
        format!("the workflow has {bytes} bytes, at most {MAX_BYTES} are accepted"),
    ))
}

enum Read {
    Accepted { nodes: u32, texts: JobTexts, node_errors_json: String },
    Rejected(pb::Rejected),
}

fn read(
    workflow_json: &str,
    extra_data_json: &str,
    targets: Vec<NodeId>,
    catalog: &Arc<Catalog>,
    away: &[String],
) -> Result<Read, OrchestratorError> {
    let json = parse(workflow_json, "workflow_json")?;
    let extra_data = read_extra_data(extra_data_json, &json)?;
    let api = match workflow::read(&json, catalog) {
        Ok(api) => api,
        Err(error) => return Ok(Read::Rejected(rejected(&PromptError::from(&error), "{}".into()))),
    };
    if api.nodes.len() > MAX_NODES {
        let message = format!("the workflow has {} nodes, at most {MAX_NODES} are accepted", api.nodes.len());
        return Err(OrchestratorError::Invalid("workflow_json", message));
    }
    check_reached(&api, catalog, away)?;
    let Validation { graph, error, node_errors } = validate(&api, catalog, &targets);
    let node_errors_json = text(&node_errors);
    let Some(graph) = graph else {
        let unknown = || PromptError {
            kind: "invalid_prompt".into(),
            message: "the workflow cannot run".into(),
            details: String::new(),
            extra_info: serde_json::Map::new(),
        };
        return Ok(Read::Rejected(rejected(&error.unwrap_or_else(unknown), node_errors_json)));
    };
    let texts = JobTexts {
        graph: api.to_json().to_string(),
        valid: text(&graph),
        extra_data,
        targets,
        output_nodes: graph.outputs.clone(),
    };
    let nodes = u32::try_from(graph.nodes.len()).unwrap_or(u32::MAX);
    Ok(Read::Accepted { nodes, texts, node_errors_json })
}

fn rejected(error: &PromptError, node_errors_json: String) -> pb::Rejected {
    pb::Rejected { error_json: text(error), node_errors_json }
}

fn text<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("graphs and their errors have only string keys")
}

/// Parses JSON. serde_json refuses more than 128 levels, which protects the stack.
fn parse(text: &str, field: &'static str) -> Result<Value, OrchestratorError> {
    serde_json::from_str(text)
        .map_err(|error| OrchestratorError::Invalid(field, format!("`{field}` is not JSON: {error}")))
}

/// Reads ComfyUI's `extra_data`. A workflow in UI format is its own picture information when none was given.
fn read_extra_data(extra_data_json: &str, workflow: &Value) -> Result<String, OrchestratorError> {
    let mut extra = match extra_data_json.trim() {
        "" => json!({}),
        some => parse(some, "extra_data_json")?,
    };
    if extra.is_null() {
        extra = json!({});
    }
    let Some(fields) = extra.as_object_mut() else {
        return Err(OrchestratorError::Invalid(
            "extra_data_json",
            "`extra_data_json` is not an object".into(),
        ));
    };
    if workflow::is_ui_format(workflow) && !fields.contains_key("extra_pnginfo") {
        fields.insert("extra_pnginfo".into(), json!({"workflow": workflow}));
    }
    Ok(if fields.is_empty() { String::new() } else { extra.to_string() })
}

/// A class that nobody offers may belong to a stage that was never reached; then nobody can say that it is wrong.
fn check_reached(graph: &ApiGraph, catalog: &Catalog, away: &[String]) -> Result<(), OrchestratorError> {
    if away.is_empty() {
        return Ok(());
    }
    let classes = graph.nodes.values().filter_map(|node| node.class_type.as_deref());
    let Some(class) = classes.into_iter().find(|class| catalog.get(class).is_none()) else { return Ok(()) };
    let away = away.join(", ");
    Err(OrchestratorError::Unavailable(format!(
        "node class `{class}` is not known, and stage {away} cannot be reached"
    )))
}

/// The validated form may differ when files have changed since; what was asked for must not.
fn is_same(stored: &JobTexts, wanted: &JobTexts) -> bool {
    stored.graph == wanted.graph && stored.extra_data == wanted.extra_data && stored.targets == wanted.targets
}
