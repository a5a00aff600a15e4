//! What the orchestrator keeps, and the one trait behind which it is kept.

mod rows;
mod schema;
mod sqlite;

pub use sqlite::SqliteStore;

use crate::queue_order::Placement;
use comfy_graph::{
    CacheKey, ErrorCode, JobError, JobEvent, JobEventKind, JobStatus, NodeId, NodeRef, NodeResult,
};
use std::collections::HashMap;

/// Why the store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the database failed")]
    Database(#[from] rusqlite::Error),
    #[error("the database folder cannot be made")]
    Folder(#[source] std::io::Error),
    #[error("the database has schema version {found}, this program reads version {expected}")]
    Schema { found: i64, expected: i64 },
    #[error("the database holds something unreadable in `{column}`")]
    Damaged { column: &'static str, source: serde_json::Error },
    #[error("the database holds the unknown status `{0}`")]
    UnknownStatus(String),
    #[error("there is no job `{0}`")]
    NoSuchJob(String),
    #[error("job `{0}` has already ended")]
    Ended(String),
    #[error("the store has been closed")]
    Closed,
}

impl StoreError {
    /// What a caller can do about it.
    pub fn code(&self) -> ErrorCode {
        match self {
            StoreError::NoSuchJob(_) => ErrorCode::NotFound,
            StoreError::Ended(_) => ErrorCode::FailedPrecondition,
            StoreError::Closed => ErrorCode::Unavailable,
            StoreError::Database(error)
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) =>
            {
                ErrorCode::ResourceExhausted
            }
            _ => ErrorCode::Internal,
        }
    }
}

/// The identity of an event that is about to be written.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    pub seq: u64,
    pub at_ms: i64,
}

/// A validated workflow on its way into the queue.
#[derive(Debug, Clone)]
pub struct NewJob {
    pub id: String,
    pub client_id: String,
    pub place: Place,
    pub nodes_total: u32,
    pub texts: JobTexts,
    /// The idempotency key that the job is known by from now on.
    pub key: Option<NewKey>,
}

/// An idempotency key, what was asked with it, and part of the answer.
#[derive(Debug, Clone)]
pub struct NewKey {
    pub key: String,
    /// Equal for equal requests.
    pub fingerprint: String,
    pub node_errors_json: String,
}

/// What was answered when an idempotency key was first used.
#[derive(Debug, Clone)]
pub struct UsedKey {
    pub job_id: String,
    pub number: f64,
    pub fingerprint: String,
    pub node_errors_json: String,
}

/// Where a job wants to stand in the queue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Place {
    Last,
    First,
    At(f64),
}

/// The large parts of a job, as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobTexts {
    /// The workflow in API format.
    pub graph: String,
    /// The validated graph.
    pub valid: String,
    /// ComfyUI's `extra_data`; empty when none was given.
    pub extra_data: String,
    pub targets: Vec<NodeId>,
    pub output_nodes: Vec<NodeId>,
}

/// A job as stored.
#[derive(Debug, Clone)]
pub struct JobRow {
    pub id: String,
    pub status: JobStatus,
    pub number: f64,
    pub client_id: String,
    pub created_ms: i64,
    pub started_ms: Option<i64>,
    pub finished_ms: Option<i64>,
    pub nodes_total: u32,
    pub nodes_done: u32,
    pub error: Option<JobError>,
    pub last_seq: u64,
    /// The highest attempt ever made; attempts go on from here.
    pub attempt: u64,
    /// Whether an earlier process or an earlier life of this one began the job.
    pub resumed: bool,
    /// How many jobs there have been up to this one.
    pub ordinal: u64,
    /// Left out of plain listings.
    pub texts: Option<JobTexts>,
}

/// What an output node showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    pub node: NodeRef,
    pub ui_json: String,
}

/// One change of a job; several become durable together with their event.
#[derive(Debug, Clone)]
pub enum Write {
    NodesDone(u32),
    /// Keeps a result for the job and, when it may be reused, for every later job.
    Result {
        node: NodeRef,
        key: Option<CacheKey>,
        result: NodeResult,
    },
    /// Keeps what a cached output node shows.
    Shown(Shown),
    AttemptStarted {
        attempt: u64,
        group_id: String,
        stage: String,
    },
    AttemptEnded {
        attempt: u64,
        outcome: String,
    },
    /// Puts a running job back into the queue.
    Requeue,
    End {
        status: JobStatus,
        error: Option<JobError>,
    },
}

/// Which jobs to list.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// Empty: every status.
    pub statuses: Vec<JobStatus>,
    pub limit: Option<u32>,
    pub offset: u32,
    pub newest_first: bool,
    pub detail: bool,
    /// Only jobs of this drawn workflow.
    pub workflow_id: Option<String>,
    /// Whether to sort by running time instead of creation.
    pub by_duration: bool,
}

/// What became of a submission.
#[derive(Debug, Clone)]
pub enum Submitted {
    New(JobEvent),
    /// A job with this id exists already.
    Existing(Box<JobRow>),
    /// A job with this idempotency key exists already.
    KeyUsed(UsedKey),
}

/// Durable storage of jobs. Every method is one transaction; a method that returns `Ok` has reached the disk.
pub trait JobStore: Send {
    /// Reserves sequence numbers that are never handed out again, whatever happens, and returns the first.
    fn reserve_seqs(&mut self, count: u64) -> Result<u64, StoreError>;

    /// Queues a job and writes its `Queued` event.
    fn submit(&mut self, job: &NewJob, stamp: Stamp) -> Result<Submitted, StoreError>;

    /// The job that an idempotency key stands for.
    fn used_key(&self, key: &str) -> Result<Option<UsedKey>, StoreError>;

    /// Marks the next job in queue order as running. Its `Started` event is written the first time only.
    fn claim(&mut self, stamp: Stamp) -> Result<Option<(JobRow, Option<JobEvent>)>, StoreError>;

    /// Applies changes to a job that has not ended, and writes the event that goes with them.
    ///
    /// # Errors
    /// [`StoreError::Ended`] when the job has ended: nothing may follow a terminal event.
    fn record(
        &mut self,
        job_id: &str,
        writes: &[Write],
        event: Option<(Stamp, JobEventKind)>,
    ) -> Result<Option<JobEvent>, StoreError>;

    /// The number that the next job takes at the end of the queue.
    fn next_number(&self) -> Result<f64, StoreError>;

    /// Gives jobs other places in the queue, all or none, and writes their `Moved` events. `next_number` is what
    /// [`JobStore::next_number`] answers from then on.
    fn place(
        &mut self,
        placements: &[(Placement, Stamp)],
        next_number: f64,
    ) -> Result<Vec<JobEvent>, StoreError>;

    /// Puts every running job back into the queue, before all others. Returns how many.
    fn requeue_running(&mut self) -> Result<u32, StoreError>;

    fn job(&self, id: &str, detail: bool) -> Result<Option<JobRow>, StoreError>;

    /// Lists jobs, and says how many match without limit and offset. Queued jobs alone come in queue order, all
    /// others in order of creation.
    fn jobs(&self, filter: &JobFilter) -> Result<(Vec<JobRow>, u32), StoreError>;

    fn shown(&self, job_id: &str) -> Result<Vec<Shown>, StoreError>;

    /// Reads durable events after a sequence number, in order, of one job or of all.
    fn events(&self, job_id: Option<&str>, after_seq: u64, limit: u32) -> Result<Vec<JobEvent>, StoreError>;

    /// The results that were committed for a job.
    fn job_results(&self, job_id: &str) -> Result<HashMap<NodeId, NodeResult>, StoreError>;

    /// The reusable results among some keys.
    fn cached(&mut self, keys: &[CacheKey], now_ms: i64)
    -> Result<HashMap<CacheKey, NodeResult>, StoreError>;

    /// Deletes ended jobs with their events and results; `None` deletes every ended job. Returns how many.
    fn delete(&mut self, ids: Option<&[String]>) -> Result<u32, StoreError>;

    /// Deletes the oldest ended jobs above `jobs`, and the least recently used results above `results`.
    fn prune(&mut self, jobs: u32, results: u32) -> Result<(), StoreError>;

    /// Forgets every reusable result. Returns how many.
    fn forget_results(&mut self) -> Result<u32, StoreError>;

    /// How many jobs are running and queued.
    fn counts(&self) -> Result<(u32, u32), StoreError>;
}
