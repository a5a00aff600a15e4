//! Follows the events of one job or of all: first what has happened, then what happens.

use crate::context::Context;
use crate::error::OrchestratorError;
use crate::store::StoreError;
use comfy_graph::JobEvent;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::broadcast::{self, error::RecvError};

/// Events read from the store at a time.
const PAGE: u32 = 500;

/// Where a watcher wants to begin.
#[derive(Debug, Clone, Copy)]
pub enum From {
    /// After a sequence number; 0 is the beginning.
    Seq(u64),
    Now,
}

/// A position in the history of events.
///
/// It listens before it reads, so nothing falls between; what it hears twice it knows by the number. When it falls
/// too far behind the live events it reads the store again, so durable events are never left out.
pub struct Watcher {
    context: Arc<Context>,
    job_id: Option<String>,
    live: broadcast::Receiver<Arc<JobEvent>>,
    last_seq: u64,
    backlog: VecDeque<JobEvent>,
    is_behind: bool,
    has_ended: bool,
}

impl Watcher {
    /// Starts to follow a job, or every job.
    ///
    /// # Errors
    /// When there is no such job.
    pub async fn start(
        context: Arc<Context>,
        job_id: Option<String>,
        from: From,
    ) -> Result<Self, OrchestratorError> {
        let live = context.ledger.subscribe();
        let wanted = job_id.clone();
        let (now, job) = context
            .ledger
            .call(move |ledger| {
                let job = match wanted {
                    Some(id) => {
                        Some(ledger.store().job(&id, false)?.ok_or(OrchestratorError::NoSuchJob(id))?)
                    }
                    None => None,
                };
                Ok::<_, OrchestratorError>((ledger.last_seq()?, job))
            })
            .await?;
        let last_seq = match from {
            From::Now => now,
            From::Seq(seq) if seq <= now => seq,
            // A number of another database means nothing here.
            From::Seq(_) => 0,
        };
        let has_ended = job.is_some_and(|job| job.status.is_ended() && job.last_seq <= last_seq);
        let is_behind = matches!(from, From::Seq(_));
        Ok(Self { context, job_id, live, last_seq, backlog: VecDeque::new(), is_behind, has_ended })
    }

    /// Waits for the next event. `None` after the last event of the job, and when the orchestrator stops.
    pub async fn next(&mut self) -> Option<Result<Arc<JobEvent>, StoreError>> {
        while !self.has_ended {
            if let Some(event) = self.backlog.pop_front() {
                return Some(Ok(self.pass(Arc::new(event))));
            }
            if self.is_behind {
                if let Err(error) = self.read_page().await {
                    self.has_ended = true;
                    return Some(Err(error));
                }
                continue;
            }
            let stopping = self.context.stopping.clone();
            tokio::select! {
                () = stopping.cancelled() => return None,
                heard = self.live.recv() => match heard {
                    Ok(event) if self.concerns(&event) => return Some(Ok(self.pass(event))),
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => self.is_behind = true,
                    Err(RecvError::Closed) => return None,
                },
            }
        }
        None
    }

    fn concerns(&self, event: &JobEvent) -> bool {
        event.seq > self.last_seq && self.job_id.as_ref().is_none_or(|id| *id == event.job_id)
    }

    fn pass(&mut self, event: Arc<JobEvent>) -> Arc<JobEvent> {
        self.last_seq = event.seq;
        self.has_ended = self.job_id.is_some() && event.kind.is_terminal();
        event
    }

    async fn read_page(&mut self) -> Result<(), StoreError> {
        let (job_id, after) = (self.job_id.clone(), self.last_seq);
        let page = self
            .context
            .ledger
            .call(move |ledger| ledger.store().events(job_id.as_deref(), after, PAGE))
            .await?;
        self.is_behind = page.len() == PAGE as usize;
        self.backlog = page.into();
        Ok(())
    }
}
