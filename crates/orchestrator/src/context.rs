//! What every part of the orchestrator shares.

use crate::ledger::LedgerHandle;
use crate::results::ResultCheck;
use crate::stages::Stages;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Shared by the service, the dispatcher and the drivers.
pub struct Context {
    pub ledger: LedgerHandle,
    pub stages: Stages,
    pub check: Arc<dyn ResultCheck>,
    pub stage_timeout: Duration,
    pub unreachable_limit: Duration,
    /// Wakes the dispatcher when a job was queued.
    pub queued: Notify,
    /// Cancelled when the orchestrator stops.
    pub stopping: CancellationToken,
}
