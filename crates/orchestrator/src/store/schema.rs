//! The tables, and the check that they are the ones this program knows.

use super::StoreError;
use rusqlite::Connection;
use std::path::Path;
use std::time::Duration;

/// Raised with every change of the tables.
const VERSION: i64 = 2;

const TABLES: &str = "
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
INSERT INTO counters VALUES ('seq', 1), ('number', 0);

CREATE TABLE jobs (
    creation INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL,
    number REAL NOT NULL,
    resumed INTEGER NOT NULL DEFAULT 0,
    client_id TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    started_ms INTEGER,
    finished_ms INTEGER,
    nodes_total INTEGER NOT NULL,
    nodes_done INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    last_seq INTEGER NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    graph TEXT NOT NULL,
    valid TEXT NOT NULL,
    extra_data TEXT NOT NULL,
    targets TEXT NOT NULL,
    output_nodes TEXT NOT NULL
) STRICT;
CREATE INDEX jobs_queue ON jobs (status, resumed DESC, number, creation);

CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    job_id TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    client_id TEXT NOT NULL,
    queue_remaining INTEGER NOT NULL,
    kind TEXT NOT NULL
) STRICT;
CREATE INDEX events_job ON events (job_id, seq);

CREATE TABLE job_results (
    job_id TEXT NOT NULL,
    node_id TEXT NOT NULL,
    class TEXT NOT NULL,
    outputs TEXT,
    ui_json TEXT,
    PRIMARY KEY (job_id, node_id)
) STRICT;

CREATE TABLE results (
    cache_key TEXT PRIMARY KEY,
    outputs TEXT NOT NULL,
    ui_json TEXT,
    used_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX results_used ON results (used_ms);

CREATE TABLE attempts (
    job_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    group_id TEXT NOT NULL,
    stage TEXT NOT NULL,
    started_ms INTEGER NOT NULL,
    ended_ms INTEGER,
    outcome TEXT,
    PRIMARY KEY (job_id, attempt)
) STRICT;
";

/// What version 2 adds.
const KEYS: &str = "
CREATE TABLE idempotency_keys (
    key TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    job_id TEXT NOT NULL,
    node_errors TEXT NOT NULL
) STRICT;
CREATE INDEX idempotency_keys_job ON idempotency_keys (job_id);
";

/// Opens the database file and makes its tables when it is new.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(StoreError::Folder)?;
    }
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    // One orchestrator owns the file: a second one must fail instead of running every job twice.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Exclusive)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match found {
        VERSION => {}
        0 => {
            transaction.execute_batch(TABLES)?;
            transaction.execute_batch(KEYS)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
        }
        1 => {
            transaction.execute_batch(KEYS)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
        }
        found => return Err(StoreError::Schema { found, expected: VERSION }),
    }
    transaction.commit()?;
    Ok(connection)
}
