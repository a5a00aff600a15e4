//! Runs one group of nodes on the thread that calls it.

use crate::Inputs;
use crate::codec;
use crate::ctx::Ctx;
use crate::data::Data;
use crate::lists::{self, Gathered};
use crate::memory::Peak;
use crate::node::{ExpandedInput, ExpandedNode, Expansion, Node, NodeError, Outputs, StageState};
use comfy_artifacts::Store;
use comfy_graph::{ErrorCode, NodeSpec, Value};
use comfy_proto::stage as pb;
use comfy_proto::stage::run_stage_response::Event;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::mpsc::Sender;
use tonic::Status;

/// Where events of a running group go.
pub(crate) type Events = Sender<Result<pb::RunStageResponse, Status>>;

/// The nodes of a stage by class, with everything they need.
pub struct Runner<S: StageState> {
    pub(crate) state: Arc<S>,
    pub(crate) nodes: HashMap<String, (&'static dyn Node<S>, NodeSpec)>,
    pub(crate) store: Store,
    pub(crate) handle: Handle,
}

/// A failure and where it happened.
pub(crate) struct GroupError {
    pub node_id: String,
    pub error: NodeError,
}

impl<S: StageState> Runner<S> {
    /// Runs the nodes in order. Values between nodes of the group stay in memory.
    pub(crate) fn run(&self, request: &pb::RunStageRequest, events: &Events) -> Result<(), GroupError> {
        let mut local: HashMap<(String, u32), Data> = HashMap::new();
        for node in &request.nodes {
            let fail = |error| GroupError { node_id: node.node_id.clone(), error };
            let peak = Peak::start();
            let outputs = match self.run_node(request, node, &local, events).map_err(fail)? {
                Answer::Wants(inputs) => {
                    send(events, &node.node_id, Event::Wants(pb::NodeWants { inputs })).map_err(fail)?;
                    continue;
                }
                Answer::Outputs(outputs) => outputs,
            };
            if let Some(expansion) = &outputs.expansion {
                let expanded = self.publish_expansion(expansion, &outputs).map_err(fail)?;
                send(events, &node.node_id, Event::Expanded(expanded)).map_err(fail)?;
                continue;
            }
            let mut done = self.publish(node, &outputs).map_err(fail)?;
            done.peak_bytes = peak.bytes().unwrap_or_default();
            send(events, &node.node_id, Event::Done(done)).map_err(fail)?;
            local.extend(outputs.slots.into_iter().zip(0u32..).map(|(d, i)| ((node.node_id.clone(), i), d)));
        }
        Ok(())
    }

    fn run_node(
        &self,
        request: &pb::RunStageRequest,
        node: &pb::StageNode,
        local: &HashMap<(String, u32), Data>,
        events: &Events,
    ) -> Result<Answer, NodeError> {
        let (code, spec) = self.nodes.get(&node.class).ok_or_else(|| {
            NodeError::invalid(format!("stage `{}` has no node `{}`", self.state.name(), node.class))
        })?;
        send(events, &node.node_id, Event::Started(pb::NodeStarted {}))?;
        let inputs = self.inputs(node, local)?;
        let runs = lists::runs(&inputs, spec.input_is_list)?;
        let wanted = wanted(*code, &runs, &node.pending)?;
        if !wanted.is_empty() {
            return Ok(Answer::Wants(wanted));
        }
        let mut gathered = Gathered::new(&spec.outputs);
        let is_only_run = runs.len() == 1;
        for (element, inputs) in runs.into_iter().enumerate() {
            if let Some(message) = lists::blocked(&inputs) {
                if let Some(message) = message {
                    send(events, &node.node_id, Event::Blocked(pb::NodeBlocked { message }))?;
                }
                gathered.block();
                continue;
            }
            let ctx = Ctx::new(self.state.as_ref(), request, (&node.node_id, element), events);
            ctx.check_cancelled()?;
            // A panic in a node is a bug of ours; it must not take the stage and other jobs down.
            let outputs =
                catch_unwind(AssertUnwindSafe(|| code.run(&inputs, &ctx))).unwrap_or_else(|panic| {
                    Err(NodeError::internal(format!("the node panicked: {}", panic_text(&panic))))
                })?;
            if outputs.expansion.is_some() {
                return expanded(spec, outputs, is_only_run).map(Answer::Outputs);
            }
            gathered.add(outputs)?;
        }
        Ok(Answer::Outputs(gathered.finish()))
    }

    fn inputs(
        &self,
        node: &pb::StageNode,
        local: &HashMap<(String, u32), Data>,
    ) -> Result<Vec<(String, Data)>, NodeError> {
        let mut values = Vec::with_capacity(node.inputs.len());
        for (name, binding) in &node.inputs {
            use pb::input_binding::Source;
            let data = match &binding.source {
                None => return Err(NodeError::invalid(format!("input `{name}` has no source"))),
                Some(Source::Local(link)) => {
                    local.get(&(link.node_id.clone(), link.slot)).cloned().ok_or_else(|| {
                        let (node, slot) = (&link.node_id, link.slot);
                        NodeError::invalid(format!(
                            "input `{name}` links to slot {slot} of `{node}`, which is not here"
                        ))
                    })?
                }
                Some(Source::Value(value)) => {
                    let value =
                        Value::try_from(value.clone()).map_err(|e| NodeError::invalid(e.to_string()))?;
                    self.handle.block_on(codec::fetch(&value, &self.store))?
                }
            };
            values.push((name.clone(), data));
        }
        Ok(values)
    }

    fn publish_expansion(
        &self,
        expansion: &Expansion,
        outputs: &Outputs,
    ) -> Result<pb::NodeExpanded, NodeError> {
        use pb::input_binding::Source;
        let bind = |input: &ExpandedInput| {
            let source = match input {
                ExpandedInput::Value(data) => {
                    Source::Value((&self.handle.block_on(codec::publish(data, &self.store))?).into())
                }
                ExpandedInput::Link(node, slot) => {
                    Source::Local(pb::LocalLink { node_id: node.clone(), slot: *slot })
                }
            };
            Ok(pb::InputBinding { source: Some(source) })
        };
        let node = |node: &ExpandedNode| {
            let inputs = node.inputs.iter().map(|(name, input)| Ok((name.clone(), bind(input)?)));
            Ok(pb::StageNode {
                node_id: node.id.clone(),
                class: node.class.clone(),
                inputs: inputs.collect::<Result<_, NodeError>>()?,
                ..Default::default()
            })
        };
        Ok(pb::NodeExpanded {
            nodes: expansion.nodes.iter().map(node).collect::<Result<_, NodeError>>()?,
            outputs: expansion.outputs.iter().map(bind).collect::<Result<_, NodeError>>()?,
            ui_json: shown(outputs),
        })
    }

    fn publish(&self, node: &pb::StageNode, outputs: &Outputs) -> Result<pb::NodeDone, NodeError> {
        let mut published = BTreeMap::new();
        for &slot in &node.publish {
            let data = outputs.slots.get(slot as usize).ok_or_else(|| {
                NodeError::invalid(format!("node `{}` has no output slot {slot}", node.class))
            })?;
            let value = self.handle.block_on(codec::publish(data, &self.store))?;
            published.insert(slot, (&value).into());
        }
        let outputs_by_slot = published.into_iter().collect();
        Ok(pb::NodeDone { outputs: outputs_by_slot, ui_json: shown(outputs), peak_bytes: 0 })
    }
}

/// What calling a node came to.
enum Answer {
    Outputs(Outputs),
    /// It needs these pending inputs first.
    Wants(Vec<String>),
}

/// The pending inputs that any run of a node needs.
fn wanted<S>(code: &dyn Node<S>, runs: &[Inputs], pending: &[String]) -> Result<Vec<String>, NodeError> {
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    if pending.is_empty() {
        return Ok(Vec::new());
    }
    for inputs in runs.iter().filter(|inputs| lists::blocked(inputs).is_none()) {
        wanted.extend(code.wants(inputs, pending)?);
    }
    Ok(wanted.into_iter().collect())
}

/// Checks an answer that puts other nodes in the place of one.
fn expanded(spec: &NodeSpec, outputs: Outputs, is_only_run: bool) -> Result<Outputs, NodeError> {
    let class = &spec.class;
    if !spec.expands {
        return Err(NodeError::internal(format!("`{class}` expands although its spec does not say so")));
    }
    if !is_only_run {
        return Err(NodeError::invalid(format!(
            "`{class}` expands and cannot run once per element of a list"
        )));
    }
    Ok(outputs)
}

fn shown(outputs: &Outputs) -> String {
    outputs.ui.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// Sends an event that must arrive. A closed channel means that nobody wants the result.
pub(crate) fn send(events: &Events, node_id: &str, event: Event) -> Result<(), NodeError> {
    let response = pb::RunStageResponse { node_id: node_id.into(), event: Some(event) };
    events.blocking_send(Ok(response)).map_err(|_| NodeError::cancelled())
}

impl GroupError {
    /// Reports the failure as an event and then as the status of the call.
    pub(crate) fn report(self, events: &Events) {
        let Self { node_id, error } = self;
        if error.code != ErrorCode::Cancelled {
            tracing::warn!(node = %node_id, code = %error.code, error = %error.message, "node failed");
        }
        let code: comfy_proto::graph::ErrorCode = error.code.into();
        let failed = pb::NodeFailed { code: code.into(), message: error.message.clone() };
        // When nobody listens any more there is nobody to tell.
        if send(events, &node_id, Event::Failed(failed)).is_ok() {
            let _ = events.blocking_send(Err(comfy_proto::status::to_status(error.code, error.message)));
        }
    }
}

fn panic_text(panic: &Box<dyn std::any::Any + Send>) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
