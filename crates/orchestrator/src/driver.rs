//! Carries out what the job machine of one running job wants.

use crate::context::Context;
use crate::ledger::Control;
use crate::results::still_usable;
use crate::stages::CallContext;
use crate::store::{JobRow, JobTexts, Shown, StoreError, Write};
use comfy_graph::event::{CachedNode, JobError, JobEventKind, JobStatus, NodeRef};
use comfy_graph::run::{Effect, Ending, RetryPolicy, Run, Signal, StageEvent};
use comfy_graph::{CacheKey, Catalog, NodeId, NodeResult, ValidGraph, cache_keys, validate, workflow};
use futures::StreamExt as _;
use indexmap::IndexMap;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};
use tracing::instrument;

/// Blobs and files looked up at the same time.
const LOOKUPS: usize = 16;

/// Events of a stage that may wait while the store is busy; a faster stage is slowed down.
const SIGNALS: usize = 64;

/// Runs one claimed job until it ends or the orchestrator stops.
#[instrument(skip_all, fields(job = %job.id))]
pub async fn drive(context: Arc<Context>, job: JobRow, mut control: mpsc::UnboundedReceiver<Control>) {
    let id = job.id.clone();
    let result = match Driver::prepare(context.clone(), job).await {
        Ok((driver, effects)) => driver.run(effects, &mut control).await,
        Err(error) => Err(error),
    };
    let Err(error) = result else { return };
    tracing::error!(error = &error as &dyn std::error::Error, "job cannot go on");
    let failure =
        JobError { code: error.code(), message: format!("the job could not be kept: {error}"), node: None };
    if let Err(error) = finish(&context, &id, Ending::Failed(failure)).await {
        // The job stays as it is on disk and goes on with the next start.
        tracing::error!(error = &error as &dyn std::error::Error, "job cannot be ended");
    }
}

struct Driver {
    context: Arc<Context>,
    id: String,
    keys: IndexMap<NodeId, Option<CacheKey>>,
    call: Arc<CallContext>,
    run: Run,
    began: Instant,
    /// Nodes that need no more work, for the count that people see.
    done: HashSet<NodeId>,
    /// Calls and timers. Dropping the driver stops them all.
    tasks: JoinSet<()>,
    attempts: HashMap<u64, AbortHandle>,
    signals: (mpsc::Sender<Signal>, mpsc::Receiver<Signal>),
    /// Who waits for the job to be cancelled.
    cancelled_by: Vec<oneshot::Sender<()>>,
}

impl Driver {
    async fn prepare(context: Arc<Context>, job: JobRow) -> Result<(Self, Vec<Effect>), StoreError> {
        let texts = job.texts.clone().unwrap_or_default();
        let catalog = context.stages.refresh().await;
        let graph = current_graph(&texts, &catalog)?;
        let keys = cache_keys(&graph);
        let known = known_results(&context, &job.id, &keys).await?;
        let policy = RetryPolicy { unreachable_for: context.unreachable_limit, ..RetryPolicy::default() };
        let (mut run, cached) = Run::new(graph, known, catalog, policy, job.attempt + 1);
        announce_cached(&context, &job, run.graph(), &cached).await?;
        let call = Arc::new(CallContext {
            job_id: job.id.clone(),
            prompt_json: texts.graph,
            extra_pnginfo_json: extra_pnginfo(&texts.extra_data),
            timeout: context.stage_timeout,
        });
        let done = cached.into_keys().collect();
        let effects = run.start();
        let driver = Self {
            context,
            id: job.id,
            keys,
            call,
            run,
            began: Instant::now(),
            done,
            tasks: JoinSet::new(),
            attempts: HashMap::new(),
            signals: mpsc::channel(SIGNALS),
            cancelled_by: Vec::new(),
        };
        Ok((driver, effects))
    }

    async fn run(
        mut self,
        mut effects: Vec<Effect>,
        control: &mut mpsc::UnboundedReceiver<Control>,
    ) -> Result<(), StoreError> {
        loop {
            for effect in effects {
                self.carry_out(effect).await?;
            }
            if self.run.is_ended() {
                return Ok(());
            }
            let signal = tokio::select! {
                biased;
                () = self.context.stopping.cancelled() => return self.put_back().await,
                Some(Control::Cancel(answer)) = control.recv() => {
                    self.cancelled_by.push(answer);
                    Signal::Cancel
                }
                Some(signal) = self.signals.1.recv() => signal,
            };
            if let Signal::StageEnded { attempt, result } = &signal {
                self.attempts.remove(attempt);
                let outcome = match result {
                    Ok(()) => "ended".to_owned(),
                    Err(error) => error.code.as_str().to_owned(),
                };
                self.record(vec![Write::AttemptEnded { attempt: *attempt, outcome }], None).await?;
            }
            let expanded = match &signal {
                Signal::Stage { event: StageEvent::NodeExpanded { node, .. }, .. } => Some(node.clone()),
                _ => None,
            };
            effects = self.run.on(signal, self.began.elapsed());
            if let Some(node) = expanded {
                self.learn(&node).await?;
            }
        }
    }

    /// Looks up what is known of the nodes that `parent` has put in its place.
    async fn learn(&mut self, parent: &NodeId) -> Result<(), StoreError> {
        // What it expands to has keys of its own; an answer without values is not worth keeping for other jobs.
        self.keys.insert(parent.clone(), None);
        let graph = self.run.graph();
        let new = cache_keys(graph).into_iter().filter(|(id, _)| !self.keys.contains_key(id));
        // Nobody would be told what an output node shows if another job's result were taken for it.
        let own_if_shown = |(id, key): (NodeId, Option<CacheKey>)| {
            (id.clone(), if graph.nodes[&id].output_node { None } else { key })
        };
        let new: IndexMap<NodeId, Option<CacheKey>> = new.map(own_if_shown).collect();
        let known = known_results(&self.context, &self.id, &new).await?;
        self.run.learn(known);
        self.keys.extend(new);
        Ok(())
    }

    async fn carry_out(&mut self, effect: Effect) -> Result<(), StoreError> {
        match effect {
            Effect::StartStage(call) => {
                let (attempt, group_id, stage) = (call.attempt, call.group_id.clone(), call.stage.clone());
                // On disk before the stage hears of it, so that no later life of the job uses the number again.
                self.record(vec![Write::AttemptStarted { attempt, group_id, stage }], None).await?;
                let (context, common, signals) =
                    (self.context.clone(), self.call.clone(), self.signals.0.clone());
                let task = self.tasks.spawn(async move { context.stages.run(common, call, signals).await });
                self.attempts.insert(attempt, task);
            }
            Effect::StopStage { attempt } => {
                if let Some(task) = self.attempts.remove(&attempt) {
                    task.abort();
                }
            }
            Effect::SetTimer { timer, after } => {
                tracing::warn!(
                    attempt = timer,
                    wait_ms = after.as_millis() as u64,
                    "attempt failed, trying again"
                );
                let signals = self.signals.0.clone();
                self.tasks.spawn(async move {
                    tokio::time::sleep(after).await;
                    // A job that has ended hears no more.
                    let _ = signals.send(Signal::TimerFired { timer }).await;
                });
            }
            Effect::Commit { node, result } => {
                self.done.insert(node.id.clone());
                let key = self.keys.get(&node.id).cloned().flatten();
                let kind = JobEventKind::NodeDone {
                    node: node.clone(),
                    ui_json: result.ui_json.clone(),
                    memory: result.memory.clone(),
                };
                let writes =
                    vec![Write::Result { node, key, result }, Write::NodesDone(count(self.done.len()))];
                self.record(writes, Some(kind)).await?;
            }
            Effect::Emit(kind) if kind.is_durable() => self.record(Vec::new(), Some(kind)).await?,
            Effect::Emit(kind) => {
                let id = self.id.clone();
                self.context.ledger.call(move |ledger| ledger.mention(&id, kind)).await?;
            }
            Effect::Finish(ending) => {
                finish(&self.context, &self.id, ending).await?;
                for waiting in self.cancelled_by.drain(..) {
                    // Whoever asked may have gone.
                    let _ = waiting.send(());
                }
            }
        }
        Ok(())
    }

    async fn record(&self, writes: Vec<Write>, kind: Option<JobEventKind>) -> Result<(), StoreError> {
        let id = self.id.clone();
        self.context.ledger.call(move |ledger| ledger.record(&id, &writes, kind)).await
    }

    /// The orchestrator stops: the job goes back into the queue and keeps what it has committed.
    async fn put_back(mut self) -> Result<(), StoreError> {
        self.tasks.shutdown().await;
        let id = self.id.clone();
        self.context.ledger.call(move |ledger| ledger.requeue(&id)).await?;
        tracing::info!("job goes on with the next start");
        Ok(())
    }
}

async fn finish(context: &Context, id: &str, ending: Ending) -> Result<(), StoreError> {
    let (status, error, kind) = match ending {
        Ending::Succeeded => (JobStatus::Completed, None, JobEventKind::Succeeded),
        Ending::Failed(error) => (JobStatus::Failed, Some(error.clone()), JobEventKind::Failed { error }),
        Ending::Cancelled(node) => (JobStatus::Cancelled, None, JobEventKind::Cancelled { node }),
    };
    match &error {
        Some(error) => {
            let node = error.node.as_ref().map(|node| node.id.as_str());
            tracing::warn!(status = status.as_str(), code = %error.code, node, message = %error.message, "job ended");
        }
        None => tracing::info!(status = status.as_str(), "job ended"),
    }
    let id = id.to_owned();
    context.ledger.call(move |ledger| ledger.finish(&id, Write::End { status, error }, kind)).await
}

/// Validates the workflow against what the stages offer now, because files and devices may have changed since it
/// was submitted. A graph that no longer validates as it did runs as accepted; its nodes then say what is wrong.
fn current_graph(texts: &JobTexts, catalog: &Catalog) -> Result<ValidGraph, StoreError> {
    let damaged = |column| move |source| StoreError::Damaged { column, source };
    let accepted: ValidGraph = serde_json::from_str(&texts.valid).map_err(damaged("jobs.valid"))?;
    let json: serde_json::Value = serde_json::from_str(&texts.graph).map_err(damaged("jobs.graph"))?;
    let again =
        workflow::read(&json, catalog).ok().and_then(|api| validate(&api, catalog, &texts.targets).graph);
    let same = |graph: &ValidGraph| {
        graph.outputs.len() == accepted.outputs.len() && graph.nodes.keys().eq(accepted.nodes.keys())
    };
    Ok(again.filter(same).unwrap_or(accepted))
}

/// Results that need no work: those committed for this job, and reusable ones of any job.
async fn known_results(
    context: &Context,
    job_id: &str,
    keys: &IndexMap<NodeId, Option<CacheKey>>,
) -> Result<IndexMap<NodeId, NodeResult>, StoreError> {
    let id = job_id.to_owned();
    let wanted: Vec<CacheKey> = keys.values().flatten().cloned().collect();
    let (own, cached) = context
        .ledger
        .call(move |ledger| {
            let cached = ledger.store().cached(&wanted, crate::clock::now_ms())?;
            Ok::<_, StoreError>((ledger.store().job_results(&id)?, cached))
        })
        .await?;
    let candidates: Vec<(NodeId, NodeResult)> = keys
        .iter()
        .filter_map(|(id, key)| {
            let result = own.get(id).or_else(|| cached.get(key.as_ref()?))?;
            Some((id.clone(), result.clone()))
        })
        .collect();
    let check = context.check.as_ref();
    let usable = futures::stream::iter(candidates)
        .map(|(id, result)| async move { (id, still_usable(check, result).await) })
        .buffered(LOOKUPS)
        .filter_map(|(id, result)| async move { Some((id, result?)) });
    Ok(usable.collect().await)
}

/// Tells which nodes are not run. A job that goes on after an interruption tells only what it has not told yet.
async fn announce_cached(
    context: &Context,
    job: &JobRow,
    graph: &ValidGraph,
    cached: &IndexMap<NodeId, NodeResult>,
) -> Result<(), StoreError> {
    let id = job.id.clone();
    let events =
        context.ledger.call(move |ledger| ledger.store().events(Some(&id), 0, u32::MAX >> 1)).await?;
    let mut told: HashSet<NodeId> = HashSet::new();
    let mut was_announced = false;
    for event in events {
        match event.kind {
            JobEventKind::Cached { nodes } => {
                was_announced = true;
                told.extend(nodes.into_iter().map(|cached| cached.node.id));
            }
            JobEventKind::NodeDone { node, .. } => {
                told.insert(node.id);
            }
            _ => {}
        }
    }
    let mut writes = vec![Write::NodesDone(count(cached.len()))];
    let mut nodes = Vec::new();
    for (id, result) in cached.iter().filter(|(id, _)| !told.contains(*id)) {
        let node = NodeRef { id: id.clone(), class: graph.nodes[id].class.clone() };
        let ui_json = result.ui_json.clone().filter(|_| graph.nodes[id].output_node);
        if let Some(ui_json) = &ui_json {
            writes.push(Write::Shown(Shown { node: node.clone(), ui_json: ui_json.clone() }));
        }
        nodes.push(CachedNode { node, ui_json });
    }
    let kind = (!was_announced || !nodes.is_empty()).then_some(JobEventKind::Cached { nodes });
    let id = job.id.clone();
    context.ledger.call(move |ledger| ledger.record(&id, &writes, kind)).await
}

fn extra_pnginfo(extra_data: &str) -> String {
    let extra: serde_json::Value = serde_json::from_str(extra_data).unwrap_or_default();
    extra.get("extra_pnginfo").filter(|info| !info.is_null()).map(ToString::to_string).unwrap_or_default()
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
