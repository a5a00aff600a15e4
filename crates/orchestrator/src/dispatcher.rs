//! Takes jobs from the queue, in order and not more than allowed at a time.

use crate::context::Context;
use crate::driver::drive;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Wait after the store failed to answer.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs jobs until the orchestrator stops, then waits until every running job has been put back.
pub async fn dispatch(context: Arc<Context>, max_running: usize) {
    let mut running = JoinSet::new();
    while !context.stopping.is_cancelled() {
        let mut failed = false;
        while running.len() < max_running && !failed {
            let (control, orders) = mpsc::unbounded_channel();
            match context.ledger.call(|ledger| ledger.claim(control)).await {
                Ok(Some(job)) => {
                    running.spawn(drive(context.clone(), job, orders));
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "queue cannot be read");
                    failed = true;
                }
            }
        }
        tokio::select! {
            () = context.stopping.cancelled() => {}
            () = context.queued.notified() => {}
            Some(ended) = running.join_next() => note_panic(ended),
            () = tokio::time::sleep(PAUSE), if failed => {}
        }
    }
    while let Some(ended) = running.join_next().await {
        note_panic(ended);
    }
}

fn note_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(error = &error as &dyn std::error::Error, "driver of a job broke");
    }
}
