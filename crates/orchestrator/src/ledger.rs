//! The one owner of the store: gives every event its number, makes it durable, then tells the watchers.
//!
//! Everything that becomes an event passes through one thread, so watchers see events in the order of their
//! numbers, and a durable event is on the disk before anybody hears of it.

use crate::clock::now_ms;
use crate::error::OrchestratorError;
use crate::queue_order::{self, Placement};
use crate::store::{JobFilter, JobRow, JobStore, NewJob, Stamp, StoreError, Submitted, Write};
use comfy_graph::{JobEvent, JobEventKind, JobStatus, NodeId};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::thread::JoinHandle;
use tokio::sync::{broadcast, mpsc, oneshot};

/// Numbers reserved at a time. A block that a crash cuts short leaves a gap, never a repeat.
const SEQ_BLOCK: u64 = 1024;

/// Events a watcher may fall behind before it has to read the store again.
const LIVE_EVENTS: usize = 512;

/// Reusable results that are kept; each is a few hundred bytes.
const RESULTS_KEPT: u32 = 200_000;

/// What the driver of a running job is told.
#[derive(Debug)]
pub enum Control {
    /// Cancel; the sender is dropped or used once the job has ended.
    Cancel(oneshot::Sender<()>),
}

/// What a running job is doing at this moment.
#[derive(Debug, Clone, Default)]
pub struct Live {
    pub node: Option<NodeId>,
    pub value: u64,
    pub max: u64,
}

/// What became of a request to cancel.
#[derive(Debug)]
pub enum Cancelling {
    AlreadyEnded,
    Done,
    /// The job's driver has been told; it answers when the job has ended.
    Asked(oneshot::Receiver<()>),
}

/// The state behind the ledger thread.
pub struct Ledger {
    store: Box<dyn JobStore>,
    events: broadcast::Sender<Arc<JobEvent>>,
    next_seq: u64,
    reserved_to: u64,
    queue_remaining: u32,
    running: HashMap<String, Running>,
    history_limit: u32,
}

struct Running {
    client_id: String,
    control: mpsc::UnboundedSender<Control>,
    live: Live,
}

impl Ledger {
    fn new(
        mut store: Box<dyn JobStore>,
        history_limit: u32,
        events: broadcast::Sender<Arc<JobEvent>>,
    ) -> Result<Self, StoreError> {
        let requeued = store.requeue_running()?;
        if requeued > 0 {
            tracing::info!(jobs = requeued, "jobs of an earlier run go on");
        }
        let (_, queue_remaining) = store.counts()?;
        let running = HashMap::new();
        Ok(Self { store, events, next_seq: 0, reserved_to: 0, queue_remaining, running, history_limit })
    }

    /// The store, for reading.
    pub fn store(&mut self) -> &mut dyn JobStore {
        self.store.as_mut()
    }

    fn stamp(&mut self) -> Result<Stamp, StoreError> {
        let seq = self.last_seq()? + 1;
        self.next_seq = seq + 1;
        Ok(Stamp { seq, at_ms: now_ms() })
    }

    /// Every event so far has at most this number, every later one a larger one.
    pub fn last_seq(&mut self) -> Result<u64, StoreError> {
        if self.next_seq == self.reserved_to {
            self.next_seq = self.store.reserve_seqs(SEQ_BLOCK)?;
            self.reserved_to = self.next_seq + SEQ_BLOCK;
        }
        Ok(self.next_seq - 1)
    }

    fn publish(&mut self, event: JobEvent) {
        self.queue_remaining = event.queue_remaining;
        // Nobody may be watching.
        let _ = self.events.send(Arc::new(event));
    }

    /// Queues a job. A job that exists already is returned as it is.
    pub fn submit(&mut self, job: &NewJob) -> Result<Submitted, StoreError> {
        let stamp = self.stamp()?;
        let submitted = self.store.submit(job, stamp)?;
        if let Submitted::New(event) = &submitted {
            self.publish(event.clone());
        }
        Ok(submitted)
    }

    /// Takes the next job from the queue. From here on `control` reaches its driver.
    pub fn claim(&mut self, control: mpsc::UnboundedSender<Control>) -> Result<Option<JobRow>, StoreError> {
        let stamp = self.stamp()?;
        let Some((job, event)) = self.store.claim(stamp)? else { return Ok(None) };
        let running = Running { client_id: job.client_id.clone(), control, live: Live::default() };
        self.running.insert(job.id.clone(), running);
        if let Some(event) = event {
            self.publish(event);
        }
        Ok(Some(job))
    }

    /// Makes changes durable together with their event, then publishes the event.
    pub fn record(
        &mut self,
        job_id: &str,
        writes: &[Write],
        kind: Option<JobEventKind>,
    ) -> Result<(), StoreError> {
        let stamped = match kind {
            Some(kind) => Some((self.stamp()?, kind)),
            None => None,
        };
        if let Some(event) = self.store.record(job_id, writes, stamped)? {
            self.note(job_id, &event.kind);
            self.publish(event);
        }
        Ok(())
    }

    /// Tells the watchers something that is not kept. Says nothing about a job that is not running.
    pub fn mention(&mut self, job_id: &str, kind: JobEventKind) -> Result<(), StoreError> {
        let stamp = self.stamp()?;
        self.note(job_id, &kind);
        let Some(running) = self.running.get(job_id) else { return Ok(()) };
        let event = JobEvent {
            seq: stamp.seq,
            job_id: job_id.into(),
            at_ms: stamp.at_ms,
            client_id: running.client_id.clone(),
            queue_remaining: self.queue_remaining,
            kind,
        };
        self.publish(event);
        Ok(())
    }

    fn note(&mut self, job_id: &str, kind: &JobEventKind) {
        let Some(running) = self.running.get_mut(job_id) else { return };
        match kind {
            JobEventKind::NodeStarted { node } => {
                running.live = Live { node: Some(node.id.clone()), value: 0, max: 0 };
            }
            JobEventKind::NodeProgress { value, max, .. } => {
                (running.live.value, running.live.max) = (*value, *max);
            }
            JobEventKind::NodeDone { .. } => running.live = Live::default(),
            _ => {}
        }
    }

    /// Ends a job with its terminal event and forgets its driver.
    pub fn finish(&mut self, job_id: &str, end: Write, kind: JobEventKind) -> Result<(), StoreError> {
        self.running.remove(job_id);
        self.record(job_id, &[end], Some(kind))?;
        self.store.prune(self.history_limit, RESULTS_KEPT)
    }

    /// Puts a running job back into the queue and forgets its driver.
    pub fn requeue(&mut self, job_id: &str) -> Result<(), StoreError> {
        self.running.remove(job_id);
        self.record(job_id, &[Write::Requeue], None)
    }

    /// Cancels a queued job, or asks the driver of a running one.
    pub fn cancel(&mut self, job_id: &str) -> Result<Cancelling, OrchestratorError> {
        let missing = || OrchestratorError::NoSuchJob(job_id.into());
        let job = self.store.job(job_id, false)?.ok_or_else(missing)?;
        if job.status.is_ended() {
            return Ok(Cancelling::AlreadyEnded);
        }
        if let Some(running) = self.running.get(job_id) {
            let (answer, done) = oneshot::channel();
            // A driver that has just gone drops its receiver; then `done` fails at once and the job is read again.
            let _ = running.control.send(Control::Cancel(answer));
            return Ok(Cancelling::Asked(done));
        }
        let end = Write::End { status: JobStatus::Cancelled, error: None };
        self.record(job_id, &[end], Some(JobEventKind::Cancelled { node: None }))?;
        Ok(Cancelling::Done)
    }

    /// Moves a job that waits before another one, or to the end of the queue.
    ///
    /// # Errors
    /// When one of the two does not exist or does not wait.
    pub fn move_job(&mut self, job_id: &str, before: Option<&str>) -> Result<(), OrchestratorError> {
        for id in [Some(job_id), before].into_iter().flatten() {
            let job = self.store.job(id, false)?.ok_or_else(|| OrchestratorError::NoSuchJob(id.into()))?;
            if job.status != JobStatus::Queued {
                return Err(OrchestratorError::NotWaiting { id: id.into(), status: job.status.as_str() });
            }
        }
        let filter = JobFilter { statuses: vec![JobStatus::Queued], ..JobFilter::default() };
        let (waiting, _) = self.store.jobs(&filter)?;
        let queue: Vec<Placement> = waiting
            .into_iter()
            .map(|job| Placement { id: job.id, number: job.number, resumed: job.resumed })
            .collect();
        let order = queue_order::move_before(&queue, job_id, before, self.store.next_number()?);
        if order.placements.is_empty() {
            return Ok(());
        }
        let mut stamped = Vec::with_capacity(order.placements.len());
        for placement in order.placements {
            stamped.push((placement, self.stamp()?));
        }
        for event in self.store.place(&stamped, order.next_number)? {
            self.publish(event);
        }
        Ok(())
    }

    /// What a job is doing now; nothing when it is not running.
    pub fn live(&self, job_id: &str) -> Live {
        self.running.get(job_id).map(|running| running.live.clone()).unwrap_or_default()
    }
}

type Command = Box<dyn FnOnce(&mut Ledger) + Send>;

enum Message {
    Command(Command),
    Close,
}

/// Sends work to the ledger thread. Cloning shares the thread, which ends with its last handle or when closed.
#[derive(Clone)]
pub struct LedgerHandle {
    messages: blocking::Sender<Message>,
    events: broadcast::Sender<Arc<JobEvent>>,
}

impl LedgerHandle {
    /// Starts the ledger thread. Jobs that an earlier process left running are queued again.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn start(store: Box<dyn JobStore>, history_limit: u32) -> Result<(Self, JoinHandle<()>), StoreError> {
        let (events, _) = broadcast::channel(LIVE_EVENTS);
        let mut ledger = Ledger::new(store, history_limit, events.clone())?;
        let (messages, inbox) = blocking::channel();
        let thread = std::thread::Builder::new()
            .name("ledger".into())
            .spawn(move || {
                while let Ok(Message::Command(command)) = inbox.recv() {
                    command(&mut ledger);
                }
            })
            .map_err(StoreError::Folder)?;
        Ok((Self { messages, events }, thread))
    }

    /// Runs something on the ledger thread and waits for its answer.
    ///
    /// # Errors
    /// [`StoreError::Closed`] when the ledger has been closed.
    pub async fn call<T: Send + 'static, E: From<StoreError> + Send + 'static>(
        &self,
        work: impl FnOnce(&mut Ledger) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let (answer, result) = oneshot::channel();
        let command: Command = Box::new(move |ledger| {
            // The caller may have gone; the work counts all the same.
            let _ = answer.send(work(ledger));
        });
        self.messages.send(Message::Command(command)).map_err(|_| StoreError::Closed)?;
        result.await.map_err(|_| StoreError::Closed)?
    }

    /// Hears every event from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<JobEvent>> {
        self.events.subscribe()
    }

    /// Closes the store once everything sent so far is done.
    pub fn close(&self) {
        // The thread may have ended already.
        let _ = self.messages.send(Message::Close);
    }
}
