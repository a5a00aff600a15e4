//! The job machine: decides what a running job does next, and does nothing itself.
//!
//! It is fed signals (what stages said, timers, a cancel) and answers with effects that its driver carries out in
//! order. The attempt number is a fencing token: whatever an attempt says after it was given up is ignored.

mod retry;
mod stage;

pub use retry::RetryPolicy;
pub use stage::{CallInput, CallNode, StageCall, StageError, StageEvent};

use crate::event::{JobError, JobEventKind, NodeRef};
use crate::expansion::{Expansion, Replacement, expand};
use crate::plan::{Binding, Group, NodeResult, PlannedNode, plan};
use crate::{Catalog, ErrorCode, NodeId, ValidGraph};
use indexmap::IndexMap;
use retry::{Failures, Verdict};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// What a job machine is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Signal {
    Stage {
        attempt: u64,
        event: StageEvent,
    },
    /// The call has ended; `Ok` when the stage said that it is finished.
    StageEnded {
        attempt: u64,
        result: Result<(), StageError>,
    },
    TimerFired {
        timer: u64,
    },
    Cancel,
}

/// What a job machine wants done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Call a stage. Everything it needs is in the call.
    StartStage(StageCall),
    /// Give an attempt up; the stage stops when its call is dropped.
    StopStage {
        attempt: u64,
    },
    /// Keep a result and say that the node is done, both or neither.
    Commit {
        node: NodeRef,
        result: NodeResult,
    },
    SetTimer {
        timer: u64,
        after: Duration,
    },
    Emit(JobEventKind),
    /// The job has ended. Comes exactly once and is the last effect.
    Finish(Ending),
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    Succeeded,
    Failed(JobError),
    /// The node is where the job was.
    Cancelled(Option<NodeRef>),
}

/// One running job.
#[derive(Debug)]
pub struct Run {
    /// Grows when nodes expand; a lazy input that was asked for is no longer lazy.
    graph: ValidGraph,
    catalog: Arc<Catalog>,
    slots: Vec<Slot>,
    /// Whether another plan follows when every slot is done.
    is_partial: bool,
    /// What was known before, and what was committed since.
    done: IndexMap<NodeId, NodeResult>,
    /// Nodes that wait for others in their place.
    expanded: Vec<(NodeRef, Replacement)>,
    policy: RetryPolicy,
    next_attempt: u64,
    ended: bool,
}

/// A group and how far it is.
#[derive(Debug)]
struct Slot {
    group: Group,
    state: State,
    failures: Failures,
    /// The node that the running attempt works on.
    current: Option<NodeRef>,
    /// What the running attempt said about a failed node before its call ended.
    failed: Option<(NodeRef, StageError)>,
    /// Nodes that asked for more, or put others in their place, and wait for the next plan.
    asked: HashSet<NodeId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its inputs or its stage are not free yet.
    Waiting,
    Running {
        attempt: u64,
    },
    Backoff {
        timer: u64,
    },
    Done,
}

impl Run {
    /// Prepares a job and says which nodes need not run, because their results are known. Attempts are numbered from
    /// `first_attempt`, which must be larger than every attempt that was ever made for the job. The catalog says what
    /// the nodes are that others expand to.
    pub fn new(
        graph: ValidGraph,
        known: IndexMap<NodeId, NodeResult>,
        catalog: Arc<Catalog>,
        policy: RetryPolicy,
        first_attempt: u64,
    ) -> (Self, IndexMap<NodeId, NodeResult>) {
        let mut run = Self {
            graph,
            catalog,
            slots: Vec::new(),
            is_partial: false,
            done: known,
            expanded: Vec::new(),
            policy,
            next_attempt: first_attempt,
            ended: false,
        };
        let cached = run.plan();
        (run, cached)
    }

    /// Starts what can run.
    pub fn start(&mut self) -> Vec<Effect> {
        self.dispatch()
    }

    /// The graph as it is now.
    pub fn graph(&self) -> &ValidGraph {
        &self.graph
    }

    /// Takes results that need no work, of nodes that were not in the graph before. Results that are known stay.
    pub fn learn(&mut self, known: IndexMap<NodeId, NodeResult>) {
        for (id, result) in known {
            self.done.entry(id).or_insert(result);
        }
    }

    fn plan(&mut self) -> IndexMap<NodeId, NodeResult> {
        let plan = plan(&self.graph, &self.done);
        self.slots = plan.groups.into_iter().map(Slot::new).collect();
        self.is_partial = plan.is_partial;
        plan.cached
    }

    /// Takes a signal. `now` is the time since any fixed moment and never goes back.
    pub fn on(&mut self, signal: Signal, now: Duration) -> Vec<Effect> {
        if self.ended {
            return Vec::new();
        }
        match signal {
            Signal::Cancel => self.cancel(),
            Signal::TimerFired { timer } => {
                let waiting = self.slots.iter_mut().find(|slot| slot.state == State::Backoff { timer });
                match waiting {
                    Some(slot) => slot.state = State::Waiting,
                    None => return Vec::new(),
                }
                self.dispatch()
            }
            Signal::Stage { attempt, event } => match self.running(attempt) {
                Some(index) => self.on_event(index, event),
                None => Vec::new(),
            },
            Signal::StageEnded { attempt, result } => match self.running(attempt) {
                Some(index) => self.on_end(index, result, now),
                None => Vec::new(),
            },
        }
    }

    /// Whether the job has ended.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    fn running(&self, attempt: u64) -> Option<usize> {
        self.slots.iter().position(|slot| slot.state == State::Running { attempt })
    }

    fn on_event(&mut self, index: usize, event: StageEvent) -> Vec<Effect> {
        let slot = &mut self.slots[index];
        let Some(node) = slot.group.nodes.iter().find(|node| node.id == *event.node()) else {
            let message = format!(
                "stage `{}` spoke of node `{}`, which it was not given",
                slot.group.stage,
                event.node()
            );
            return self.fail(JobError { code: ErrorCode::Internal, message, node: None });
        };
        let reference = NodeRef { id: node.id.clone(), class: node.class.clone() };
        slot.failures.heard();
        match event {
            StageEvent::NodeStarted { .. } => {
                slot.current = Some(reference.clone());
                vec![Effect::Emit(JobEventKind::NodeStarted { node: reference })]
            }
            StageEvent::Progress { node, value, max } => {
                vec![Effect::Emit(JobEventKind::NodeProgress { node, value, max })]
            }
            StageEvent::Preview { node, mime, data } => {
                vec![Effect::Emit(JobEventKind::Preview { node, mime, data })]
            }
            StageEvent::NodeBlocked { message, .. } => {
                vec![Effect::Emit(JobEventKind::NodeBlocked { node: reference, message })]
            }
            StageEvent::NodeWants { inputs, .. } => {
                slot.current = None;
                slot.failures.committed();
                slot.asked.insert(reference.id.clone());
                self.want(reference, &inputs)
            }
            StageEvent::NodeExpanded { expansion, .. } => {
                slot.current = None;
                slot.failures.committed();
                slot.asked.insert(reference.id.clone());
                self.expand(reference, expansion)
            }
            StageEvent::NodeFailed { error, .. } => {
                slot.failed = Some((reference, error));
                Vec::new()
            }
            StageEvent::NodeDone { result, .. } => {
                if let Some(missing) = node.publish.iter().find(|slot| !result.outputs.contains_key(slot)) {
                    let message = format!("stage `{}` left output {missing} out", slot.group.stage);
                    return self.fail(JobError { code: ErrorCode::Internal, message, node: Some(reference) });
                }
                slot.current = None;
                slot.failures.committed();
                self.commit(reference, result)
            }
        }
    }

    /// Keeps a result, and those of expanded nodes that waited only for it.
    fn commit(&mut self, node: NodeRef, result: NodeResult) -> Vec<Effect> {
        self.done.insert(node.id.clone(), result.clone());
        let mut effects = vec![Effect::Commit { node, result }];
        effects.extend(
            self.commit_expanded(|replacement, done| {
                replacement.awaits.iter().all(|id| done.contains_key(id))
            }),
        );
        effects
    }

    fn commit_expanded(
        &mut self,
        is_done: impl Fn(&Replacement, &IndexMap<NodeId, NodeResult>) -> bool,
    ) -> Vec<Effect> {
        let mut effects = Vec::new();
        // The innermost first: an outer node may wait for one that has expanded itself.
        while let Some(index) = self.expanded.iter().rposition(|(_, waits)| is_done(waits, &self.done)) {
            let (node, Replacement { ui_json, .. }) = self.expanded.remove(index);
            let result = NodeResult { ui_json, ..NodeResult::default() };
            self.done.insert(node.id.clone(), result.clone());
            effects.push(Effect::Commit { node, result });
        }
        effects
    }

    /// Lets lazy inputs of a node be made.
    fn want(&mut self, node: NodeRef, inputs: &BTreeSet<String>) -> Vec<Effect> {
        let known = self.graph.nodes.get_mut(&node.id);
        let count = inputs.len();
        let granted = known.map_or(0, |known| inputs.iter().filter(|name| known.lazy.remove(*name)).count());
        if count == 0 || granted != count {
            let message = "the node asked for inputs that it has or that nothing is linked to".to_owned();
            return self.fail(JobError { code: ErrorCode::Internal, message, node: Some(node) });
        }
        Vec::new()
    }

    fn expand(&mut self, node: NodeRef, expansion: Expansion) -> Vec<Effect> {
        match expand(&mut self.graph, &node.id, expansion, &self.catalog) {
            Ok(replacement) => {
                self.expanded.push((node, replacement));
                Vec::new()
            }
            Err(error) => {
                let message = format!("the node cannot be expanded: {error}");
                self.fail(JobError { code: ErrorCode::Internal, message, node: Some(node) })
            }
        }
    }

    fn on_end(&mut self, index: usize, result: Result<(), StageError>, now: Duration) -> Vec<Effect> {
        let slot = &mut self.slots[index];
        let left = slot.group.remaining(&self.done, &slot.asked);
        let failed = slot.failed.take();
        if left.nodes.is_empty() {
            // Also when the connection broke after the last result: nothing is left to do.
            slot.state = State::Done;
            slot.current = None;
            return self.dispatch();
        }
        let (node, error) = match (failed, result) {
            (Some((node, error)), _) => (Some(node), error),
            (None, Err(error)) => (slot.current.clone(), error),
            (None, Ok(())) => (slot.current.clone(), StageError::early_end(&slot.group.stage)),
        };
        let retried = error.code.is_retryable();
        match slot.failures.judge(&error, &self.policy, now) {
            Verdict::Retry { after } => {
                let State::Running { attempt: timer } = slot.state else {
                    unreachable!("only a running attempt can end")
                };
                slot.group = left;
                slot.current = None;
                slot.state = State::Backoff { timer };
                let mut effects = vec![Effect::SetTimer { timer, after }];
                // The stage is free for another group meanwhile.
                effects.extend(self.dispatch());
                effects
            }
            Verdict::GiveUp { why } => {
                let stage = &slot.group.stage;
                let message = match why {
                    Some(why) if retried => format!("stage `{stage}` {why}: {}", error.message),
                    _ => error.message,
                };
                slot.state = State::Waiting;
                self.fail(JobError { code: error.code, message, node })
            }
        }
    }

    /// Starts every group whose inputs and stage are free, or ends the job when nothing is left.
    fn dispatch(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        while self.slots.iter().all(|slot| slot.state == State::Done) {
            if !self.is_partial {
                self.ended = true;
                // Nobody needs what the rest of them would have given.
                effects.extend(self.commit_expanded(|_, _| true));
                effects.push(Effect::Finish(Ending::Succeeded));
                return effects;
            }
            self.plan();
        }
        for index in 0..self.slots.len() {
            if !self.is_ready(index) {
                continue;
            }
            let attempt = self.next_attempt;
            self.next_attempt += 1;
            let call = self.call(&self.slots[index].group, attempt);
            let slot = &mut self.slots[index];
            slot.state = State::Running { attempt };
            slot.failures.attempt();
            effects.push(Effect::StartStage(call));
        }
        effects
    }

    fn is_ready(&self, index: usize) -> bool {
        let slot = &self.slots[index];
        let is_busy = |other: &Slot| {
            matches!(other.state, State::Running { .. }) && other.group.stage == slot.group.stage
        };
        slot.state == State::Waiting
            && slot.group.needs.iter().all(|need| self.slots[*need].state == State::Done)
            && !self.slots.iter().any(is_busy)
    }

    fn call(&self, group: &Group, attempt: u64) -> StageCall {
        let resolve = |binding: &Binding| match binding {
            Binding::Value(value) => CallInput::Value(value.clone()),
            Binding::Local(link) => CallInput::Local(link.clone()),
            // A group starts after the groups it needs, and a result without its published slots is refused.
            Binding::Earlier(link) => CallInput::Value(self.done[&link.node].outputs[&link.slot].clone()),
        };
        let node = |node: &PlannedNode| CallNode {
            id: node.id.clone(),
            class: node.class.clone(),
            inputs: node.inputs.iter().map(|(name, binding)| (name.clone(), resolve(binding))).collect(),
            pending: node.pending.clone(),
            publish: node.publish.clone(),
        };
        StageCall {
            attempt,
            group_id: group.id.clone(),
            stage: group.stage.clone(),
            nodes: group.nodes.iter().map(node).collect(),
        }
    }

    fn cancel(&mut self) -> Vec<Effect> {
        let node = self.slots.iter().find_map(|slot| slot.current.clone());
        self.end(Ending::Cancelled(node))
    }

    fn fail(&mut self, error: JobError) -> Vec<Effect> {
        self.end(Ending::Failed(error))
    }

    fn end(&mut self, ending: Ending) -> Vec<Effect> {
        self.ended = true;
        let running = self.slots.iter().filter_map(|slot| match slot.state {
            State::Running { attempt } => Some(Effect::StopStage { attempt }),
            _ => None,
        });
        let mut effects: Vec<Effect> = running.collect();
        effects.push(Effect::Finish(ending));
        effects
    }
}

impl Slot {
    fn new(group: Group) -> Self {
        Self {
            group,
            state: State::Waiting,
            failures: Failures::default(),
            current: None,
            failed: None,
            asked: HashSet::new(),
        }
    }
}

#[cfg(test)]
mod tests;
