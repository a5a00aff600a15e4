//! Follows the orchestrator's events over lost connections without losing or repeating a durable one.

use crate::error::ApiError;
use crate::orchestrator_client::Orchestrator;
use comfy_graph::ErrorCode;
use comfy_proto::orchestrator::job_event::Kind;
use comfy_proto::orchestrator::{JobEvent, WatchJobRequest};
use std::time::Duration;
use tokio::sync::mpsc;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const LAST_DELAY: Duration = Duration::from_secs(3);

/// What happens on a followed stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Signal {
    /// The stream is (again) open. `live`: nothing before this moment will be replayed.
    Connected {
        live: bool,
    },
    Event(JobEvent),
    /// The connection was lost; it is being made again.
    Lost,
}

/// Where to start, and how far the follower has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    /// With whatever happens next.
    Live,
    /// With the first durable event of a greater sequence number.
    After(u64),
}

impl Position {
    /// Whether an event is new here; moves on when it is durable.
    ///
    /// `is_first`: nothing durable has come over this connection yet. The orchestrator sends what is after the
    /// position it was given, so a smaller number at the beginning comes from another database and counts afresh.
    fn admits(&mut self, event: &JobEvent, is_first: bool) -> bool {
        if !is_durable(event) {
            return true;
        }
        match *self {
            Position::After(seq) if event.seq <= seq && !is_first => false,
            _ => {
                *self = Position::After(event.seq);
                true
            }
        }
    }
}

/// Whether the orchestrator keeps an event, so that it can be replayed.
pub fn is_durable(event: &JobEvent) -> bool {
    !matches!(event.kind, Some(Kind::NodeProgress(_) | Kind::Preview(_)) | None)
}

/// Whether an event is the last of its job.
pub fn is_terminal(event: &JobEvent) -> bool {
    matches!(event.kind, Some(Kind::Failed(_) | Kind::Cancelled(_) | Kind::Succeeded(_)))
}

/// Follows one job, or every job when `job_id` is empty, in a task that ends with the receiver. The stream of one
/// job ends after its last event.
pub fn follow(orchestrator: Orchestrator, job_id: String, start: Position) -> mpsc::Receiver<Signal> {
    let (sender, receiver) = mpsc::channel(256);
    tokio::spawn(async move {
        let closed = sender.clone();
        tokio::select! {
            () = closed.closed() => {}
            _ = follow_until_end(orchestrator, job_id, start, sender) => {}
        }
    });
    receiver
}

/// The receiver is gone, or the job has ended.
struct End;

async fn follow_until_end(
    orchestrator: Orchestrator,
    job_id: String,
    mut position: Position,
    sender: mpsc::Sender<Signal>,
) -> End {
    let mut delay = FIRST_DELAY;
    loop {
        let before = position;
        match follow_once(&orchestrator, &job_id, &mut position, &sender).await {
            Ok(Some(End)) => return End,
            Ok(None) => tracing::debug!("event stream ended, connecting again"),
            Err(error) if error.code == ErrorCode::NotFound.as_str() && !job_id.is_empty() => return End,
            Err(error) => tracing::debug!(code = error.code, message = error.message, "event stream lost"),
        }
        if sender.send(Signal::Lost).await.is_err() {
            return End;
        }
        if position != before {
            delay = FIRST_DELAY;
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(LAST_DELAY);
    }
}

async fn follow_once(
    orchestrator: &Orchestrator,
    job_id: &str,
    position: &mut Position,
    sender: &mpsc::Sender<Signal>,
) -> Result<Option<End>, ApiError> {
    let (after_seq, live) = match *position {
        Position::Live => (0, true),
        Position::After(seq) => (seq, false),
    };
    let request = WatchJobRequest { job_id: job_id.into(), after_seq, live_only: live };
    let mut stream = orchestrator.watch(request).await?;
    if sender.send(Signal::Connected { live }).await.is_err() {
        return Ok(Some(End));
    }
    let mut is_first = true;
    while let Some(response) = stream.message().await? {
        let Some(event) = response.event else { continue };
        if !position.admits(&event, is_first) {
            continue;
        }
        is_first &= !is_durable(&event);
        let last = !job_id.is_empty() && is_terminal(&event);
        if sender.send(Signal::Event(event)).await.is_err() || last {
            return Ok(Some(End));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use comfy_proto::orchestrator::{NodeProgress, Started};

    #[test]
    fn durable_events_pass_once_and_in_order() {
        let durable = |seq| JobEvent { seq, kind: Some(Kind::Started(Started {})), ..Default::default() };
        let fleeting = JobEvent {
            seq: 0,
            kind: Some(Kind::NodeProgress(NodeProgress::default())),
            ..Default::default()
        };
        let mut position = Position::Live;
        assert!(position.admits(&fleeting, true));
        assert_eq!(position, Position::Live);
        assert!(position.admits(&durable(5), true));
        assert!(!position.admits(&durable(5), false));
        assert!(!position.admits(&durable(4), false));
        assert!(position.admits(&fleeting, false));
        assert!(position.admits(&durable(6), false));
        assert_eq!(position, Position::After(6));
        // Another connection, another database.
        assert!(position.admits(&durable(1), true));
        assert_eq!(position, Position::After(1));
    }
}
