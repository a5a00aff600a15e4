//! The owner of every WebSocket: follows all jobs and hands each frame to whom it concerns.

use super::frames::{self, Frame, JobFrames};
use super::small::TERMINAL;
use crate::error::ApiError;
use crate::events::{Position, Signal, follow, is_durable};
use crate::logs;
use crate::orchestrator_client::Orchestrator;
use axum::extract::ws::Message;
use comfy_proto::orchestrator::job_event::Kind;
use comfy_proto::orchestrator::{JobEvent, JobStatus, ListJobsRequest};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

/// A handle to the hub. Clones share it.
#[derive(Debug, Clone)]
pub struct Hub {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    connected: AtomicBool,
    /// The sequence number of the last durable event; 0: none yet.
    latest_seq: AtomicU64,
}

/// One side of a WebSocket.
#[derive(Debug)]
pub struct Socket {
    /// Tells two sockets with the same `sid` apart.
    pub connection: u64,
    pub frames: mpsc::Sender<Message>,
    /// Cancelled by the hub when the client reads too slowly.
    pub kick: CancellationToken,
    pub preview_metadata: bool,
}

#[derive(Debug)]
enum Command {
    Join { sid: String, socket: Socket },
    Leave { sid: String, connection: u64 },
    Flags { sid: String, connection: u64, preview_metadata: bool, reply: Message },
    Logs { sid: String, wanted: bool },
}

impl Hub {
    /// Starts the hub; it ends with `shutdown`.
    pub fn start(orchestrator: Orchestrator, shutdown: CancellationToken) -> Self {
        let (commands, inbox) = mpsc::channel(256);
        let shared = Arc::new(Shared::default());
        let owner = Owner {
            orchestrator,
            shared: shared.clone(),
            sockets: HashMap::new(),
            log_readers: HashSet::new(),
            jobs: HashMap::new(),
            queue_remaining: 0,
        };
        tokio::spawn(owner.run(inbox, shutdown));
        Self { commands, shared }
    }

    /// Whether events arrive from the orchestrator at this moment.
    pub fn is_connected(&self) -> bool {
        self.shared.connected.load(Ordering::Relaxed)
    }

    /// Where "from now on" is in the sequence of durable events.
    pub fn now(&self) -> Position {
        match self.shared.latest_seq.load(Ordering::Relaxed) {
            0 => Position::Live,
            seq => Position::After(seq),
        }
    }

    pub async fn join(&self, sid: String, socket: Socket) {
        self.send(Command::Join { sid, socket }).await;
    }

    pub async fn leave(&self, sid: String, connection: u64) {
        self.send(Command::Leave { sid, connection }).await;
    }

    pub async fn set_flags(&self, sid: String, connection: u64, preview_metadata: bool, reply: Message) {
        self.send(Command::Flags { sid, connection, preview_metadata, reply }).await;
    }

    /// Whether a client wants to read the log as it is written.
    pub async fn want_logs(&self, sid: String, wanted: bool) {
        self.send(Command::Logs { sid, wanted }).await;
    }

    async fn send(&self, command: Command) {
        // The hub is gone only when the process shuts down, and then sockets close by themselves.
        let _ = self.commands.send(command).await;
    }
}

struct Owner {
    orchestrator: Orchestrator,
    shared: Arc<Shared>,
    sockets: HashMap<String, Socket>,
    /// Connected clients that read the log.
    log_readers: HashSet<String>,
    /// Jobs that have not ended.
    jobs: HashMap<String, JobFrames>,
    queue_remaining: u32,
}

impl Owner {
    async fn run(mut self, mut inbox: mpsc::Receiver<Command>, shutdown: CancellationToken) {
        let mut signals = follow(self.orchestrator.clone(), String::new(), Position::Live);
        let mut lines = logs::ring().subscribe();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(command) = inbox.recv() => self.on_command(command),
                Some(signal) = signals.recv() => self.on_signal(signal).await,
                line = lines.recv() => match line {
                    Ok(entry) => self.on_line(&entry),
                    // Lines that went by too fast are in the ring all the same.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                else => return,
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Join { sid, socket } => {
                // The older socket of the same client stays open but silent, as in ComfyUI: closing it would make
                // two tabs that share an id push each other out for ever.
                self.sockets.insert(sid.clone(), socket);
                let status = frames::status_data(self.queue_remaining, Some(&sid));
                self.send_text(&sid, "status", &status);
                if let Some(node) = self.current_node(&sid) {
                    self.send_text(&sid, "executing", &json!({"node": node}));
                }
            }
            Command::Leave { sid, connection } => {
                if self.sockets.get(&sid).is_some_and(|socket| socket.connection == connection) {
                    self.sockets.remove(&sid);
                    self.log_readers.remove(&sid);
                }
            }
            Command::Logs { sid, wanted: true } if self.sockets.contains_key(&sid) => {
                self.log_readers.insert(sid);
            }
            // A client that is not connected hears nothing anyway.
            Command::Logs { sid, .. } => {
                self.log_readers.remove(&sid);
            }
            Command::Flags { sid, connection, preview_metadata, reply } => {
                if let Some(socket) = self.sockets.get_mut(&sid)
                    && socket.connection == connection
                {
                    socket.preview_metadata = preview_metadata;
                    self.send(&sid, reply);
                }
            }
        }
    }

    fn on_line(&mut self, entry: &logs::Entry) {
        if self.log_readers.is_empty() {
            return;
        }
        let data = json!({"entries": [entry], "size": TERMINAL});
        let readers: Vec<String> = self.log_readers.iter().cloned().collect();
        for sid in readers {
            self.send_text(&sid, "logs", &data);
        }
    }

    fn current_node(&self, sid: &str) -> Option<String> {
        self.jobs
            .values()
            .filter(|job| job.client_id() == sid)
            .find_map(JobFrames::current_node)
            .map(str::to_owned)
    }

    async fn on_signal(&mut self, signal: Signal) {
        match signal {
            Signal::Connected { live } => {
                if live && let Err(error) = self.catch_up().await {
                    tracing::warn!(code = error.code, message = error.message, "cannot list running jobs");
                }
                self.shared.connected.store(true, Ordering::Relaxed);
            }
            Signal::Lost => self.shared.connected.store(false, Ordering::Relaxed),
            Signal::Event(event) => self.on_event(&event),
        }
    }

    /// Learns about the jobs that began before the stream did.
    async fn catch_up(&mut self) -> Result<(), ApiError> {
        let system = self.orchestrator.system().await?;
        self.queue_remaining = system.running + system.pending;
        let statuses = vec![JobStatus::Queued.into(), JobStatus::Running.into()];
        let request = ListJobsRequest { statuses, detail: true, ..Default::default() };
        for job in self.orchestrator.all_jobs(request).await? {
            for event in &job.durable_events {
                self.shared.latest_seq.fetch_max(event.seq, Ordering::Relaxed);
                let frames = self.job(event).on(event);
                // Old queue lengths would only confuse.
                let frames = frames.into_iter().filter(|frame| !matches!(frame, Frame::Status { .. }));
                self.deliver(&job.client_id, frames.collect());
            }
        }
        self.deliver("", vec![Frame::Status { queue_remaining: self.queue_remaining }]);
        Ok(())
    }

    fn job(&mut self, event: &JobEvent) -> &mut JobFrames {
        self.jobs.entry(event.job_id.clone()).or_insert_with(|| JobFrames::new(event))
    }

    fn on_event(&mut self, event: &JobEvent) {
        if is_durable(event) {
            self.shared.latest_seq.store(event.seq, Ordering::Relaxed);
        }
        tell(event);
        let job = self.job(event);
        let frames = job.on(event);
        let (client_id, ended) = (job.client_id().to_owned(), job.has_ended());
        if ended {
            self.jobs.remove(&event.job_id);
        }
        self.deliver(&client_id, frames);
    }

    fn deliver(&mut self, client_id: &str, frames: Vec<Frame>) {
        for frame in frames {
            match frame {
                Frame::Status { queue_remaining } => {
                    self.queue_remaining = queue_remaining;
                    let message = frames::text("status", &frames::status_data(queue_remaining, None));
                    let everyone: Vec<String> = self.sockets.keys().cloned().collect();
                    for sid in everyone {
                        self.send(&sid, Message::text(message.clone()));
                    }
                }
                Frame::Message { kind, data } => self.send_text(client_id, kind, &data),
                Frame::Preview(preview) => {
                    let Some(socket) = self.sockets.get(client_id) else { continue };
                    if let Some(bytes) = preview.encode(socket.preview_metadata) {
                        // A client that is behind needs the frames in its queue more than another picture.
                        let _ = socket.frames.try_send(Message::binary(bytes));
                    }
                }
            }
        }
    }

    fn send_text(&mut self, sid: &str, kind: &str, data: &Value) {
        self.send(sid, Message::text(frames::text(kind, data)));
    }

    fn send(&mut self, sid: &str, message: Message) {
        let Some(socket) = self.sockets.get(sid) else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = socket.frames.try_send(message) {
            tracing::warn!(sid, "websocket client reads too slowly, closing it");
            socket.kick.cancel();
            self.sockets.remove(sid);
            self.log_readers.remove(sid);
        }
    }
}

/// Writes the beginning and the end of jobs to the log, which people read in the page.
fn tell(event: &JobEvent) {
    let job = event.job_id.as_str();
    match &event.kind {
        Some(Kind::Queued(_)) => tracing::info!(job, queue = event.queue_remaining, "got prompt"),
        Some(Kind::Succeeded(_)) => tracing::info!(job, "prompt executed"),
        Some(Kind::Cancelled(_)) => tracing::info!(job, "prompt interrupted"),
        Some(Kind::Failed(failed)) => {
            let message = failed.error.as_ref().map_or("", |error| error.message.as_str());
            tracing::warn!(job, message, "prompt failed");
        }
        _ => {}
    }
}
