//! Runs one group on one stage and turns what the stage says into signals.

use super::{StageClient, Stages};
use comfy_graph::event::NodeMemory;
use comfy_graph::run::{CallInput, Signal, StageCall, StageError, StageEvent};
use comfy_graph::{ErrorCode, ExpandedInput, ExpandedNode, Expansion, NodeId, NodeResult, Value};
use comfy_proto::status::from_status;
use comfy_proto::{convert::BadMessage, stage as pb};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::Status;

/// What every call of one job has in common.
#[derive(Debug, Clone)]
pub struct CallContext {
    pub job_id: String,
    pub prompt_json: String,
    pub extra_pnginfo_json: String,
    pub timeout: Duration,
}

impl Stages {
    /// Runs a call to its end. The last signal is always `StageEnded`. Dropping the future stops the stage.
    pub async fn run(&self, context: Arc<CallContext>, call: StageCall, signals: mpsc::Sender<Signal>) {
        let attempt = call.attempt;
        let result = self.run_call(&context, call, &signals).await;
        if let Err(error) = &result {
            tracing::debug!(job = %context.job_id, attempt, code = %error.code, message = %error.message, "call ended");
        }
        // A job that has ended hears no more.
        let _ = signals.send(Signal::StageEnded { attempt, result }).await;
    }

    async fn run_call(
        &self,
        context: &CallContext,
        call: StageCall,
        signals: &mpsc::Sender<Signal>,
    ) -> Result<(), StageError> {
        let stage = call.stage.clone();
        let Some(client) = self.client(&stage).await else {
            let away = self.never_reached().join(", ");
            let message = match away.as_str() {
                "" => format!("no stage calls itself `{stage}` any more"),
                away => format!("stage `{stage}` is not known yet; not reached so far: {away}"),
            };
            return Err(StageError { code: ErrorCode::Unavailable, message });
        };
        let _turn = client.turn.acquire().await.map_err(|_| StageError {
            code: ErrorCode::Internal,
            message: "the queue of the stage is closed".into(),
        })?;
        match tokio::time::timeout(context.timeout, stream(&client, context, call, signals)).await {
            Ok(result) => result,
            Err(_) => Err(StageError {
                code: ErrorCode::DeadlineExceeded,
                message: format!("stage `{stage}` did not finish within {} s", context.timeout.as_secs_f64()),
            }),
        }
    }
}

async fn stream(
    client: &StageClient,
    context: &CallContext,
    call: StageCall,
    signals: &mpsc::Sender<Signal>,
) -> Result<(), StageError> {
    let (attempt, stage) = (call.attempt, call.stage.clone());
    let lost = |status: Status| {
        let code = from_status(&status);
        let message = match code {
            ErrorCode::Unavailable => {
                format!("stage `{}` at {}: {}", client.name(), client.address(), status.message())
            }
            _ => status.message().to_owned(),
        };
        StageError { code, message }
    };
    let mut answers = client.rpc().run_stage(request(context, call)).await.map_err(lost)?.into_inner();
    while let Some(answer) = answers.message().await.map_err(lost)? {
        let event = read_event(answer, &stage).map_err(|error| StageError {
            code: ErrorCode::Internal,
            message: format!("stage `{}` sent a bad event: {error}", client.name()),
        })?;
        if signals.send(Signal::Stage { attempt, event }).await.is_err() {
            // The job has ended.
            break;
        }
    }
    Ok(())
}

fn request(context: &CallContext, call: StageCall) -> pb::RunStageRequest {
    let input = |input: CallInput| {
        use pb::input_binding::Source;
        let source = match input {
            CallInput::Value(value) => Source::Value((&value).into()),
            CallInput::Local(link) => Source::Local(pb::LocalLink { node_id: link.node.0, slot: link.slot }),
        };
        pb::InputBinding { source: Some(source) }
    };
    let nodes = call.nodes.into_iter().map(|node| pb::StageNode {
        node_id: node.id.0,
        class: node.class,
        inputs: node.inputs.into_iter().map(|(name, value)| (name, input(value))).collect(),
        pending: node.pending.into_iter().collect(),
        publish: node.publish.into_iter().collect(),
    });
    pb::RunStageRequest {
        job_id: context.job_id.clone(),
        group_id: call.group_id,
        attempt: call.attempt,
        nodes: nodes.collect(),
        prompt_json: context.prompt_json.clone(),
        extra_pnginfo_json: context.extra_pnginfo_json.clone(),
        previews: true,
    }
}

fn read_event(answer: pb::RunStageResponse, stage: &str) -> Result<StageEvent, BadMessage> {
    use pb::run_stage_response::Event;
    let node = NodeId(answer.node_id);
    Ok(match answer.event.ok_or(BadMessage::Missing("event"))? {
        Event::Started(_) => StageEvent::NodeStarted { node },
        Event::Progress(progress) => StageEvent::Progress { node, value: progress.value, max: progress.max },
        Event::Preview(preview) => StageEvent::Preview { node, mime: preview.mime, data: preview.data },
        Event::Done(done) => {
            let outputs = done.outputs.into_iter().map(|(slot, value)| Ok((slot, Value::try_from(value)?)));
            let ui_json = (!done.ui_json.is_empty()).then_some(done.ui_json);
            let peak_bytes = (done.peak_bytes > 0).then_some(done.peak_bytes);
            let memory = Some(NodeMemory { stage: stage.to_owned(), peak_bytes });
            let result = NodeResult { outputs: outputs.collect::<Result<_, BadMessage>>()?, ui_json, memory };
            StageEvent::NodeDone { node, result }
        }
        Event::Blocked(blocked) => StageEvent::NodeBlocked { node, message: blocked.message },
        Event::Wants(wants) => StageEvent::NodeWants { node, inputs: wants.inputs.into_iter().collect() },
        Event::Expanded(expanded) => StageEvent::NodeExpanded { node, expansion: read_expansion(expanded)? },
        Event::Failed(failed) => {
            let error = StageError { code: failed.code().into(), message: failed.message };
            StageEvent::NodeFailed { node, error }
        }
    })
}

fn read_expansion(expanded: pb::NodeExpanded) -> Result<Expansion, BadMessage> {
    let input = |binding: pb::InputBinding| {
        use pb::input_binding::Source;
        Ok(match binding.source.ok_or(BadMessage::Missing("expanded.source"))? {
            Source::Value(value) => ExpandedInput::Value(Value::try_from(value)?),
            Source::Local(link) => ExpandedInput::Link { node: link.node_id, slot: link.slot },
        })
    };
    let node = |node: pb::StageNode| {
        let inputs = node.inputs.into_iter().map(|(name, binding)| Ok((name, input(binding)?)));
        Ok(ExpandedNode { id: node.node_id, class: node.class, inputs: inputs.collect::<Result<_, _>>()? })
    };
    Ok(Expansion {
        nodes: expanded.nodes.into_iter().map(node).collect::<Result<_, BadMessage>>()?,
        outputs: expanded.outputs.into_iter().map(input).collect::<Result<_, BadMessage>>()?,
        ui_json: (!expanded.ui_json.is_empty()).then_some(expanded.ui_json),
    })
}
