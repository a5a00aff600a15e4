//! Reading rows of the database.

use super::{JobRow, JobTexts, Shown, StoreError};
use comfy_graph::{JobError, JobEvent, JobEventKind, JobStatus, NodeRef, NodeResult};
use rusqlite::Row;
use serde::de::DeserializeOwned;

/// The columns of [`job`], without and with the large ones.
pub(super) const JOB: &str = "id, status, number, client_id, created_ms, started_ms, finished_ms, nodes_total, \
     nodes_done, error, last_seq, attempt, resumed, creation";
pub(super) const JOB_DETAIL: &str = "id, status, number, client_id, created_ms, started_ms, finished_ms, \
     nodes_total, nodes_done, error, last_seq, attempt, resumed, creation, graph, valid, extra_data, targets, output_nodes";
pub(super) const EVENT: &str = "seq, job_id, at_ms, client_id, queue_remaining, kind";

pub(super) fn json<T: DeserializeOwned>(text: &str, column: &'static str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|source| StoreError::Damaged { column, source })
}

/// Writes a value whose JSON cannot fail: maps of strings, numbers and values made from JSON.
pub(super) fn text<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("stored types have only string keys and serialize without failing")
}

pub(super) fn job(row: &Row<'_>, detail: bool) -> Result<JobRow, StoreError> {
    let status: String = row.get(1)?;
    let error: Option<String> = row.get(9)?;
    let error = error.map(|error| json::<JobError>(&error, "jobs.error")).transpose()?;
    let texts = detail.then(|| texts(row)).transpose()?;
    Ok(JobRow {
        id: row.get(0)?,
        status: JobStatus::parse(&status).ok_or(StoreError::UnknownStatus(status))?,
        number: row.get(2)?,
        client_id: row.get(3)?,
        created_ms: row.get(4)?,
        started_ms: row.get(5)?,
        finished_ms: row.get(6)?,
        nodes_total: row.get(7)?,
        nodes_done: row.get(8)?,
        error,
        last_seq: unsigned(row.get(10)?),
        attempt: unsigned(row.get(11)?),
        resumed: row.get(12)?,
        ordinal: unsigned(row.get(13)?),
        texts,
    })
}

fn texts(row: &Row<'_>) -> Result<JobTexts, StoreError> {
    let (targets, output_nodes): (String, String) = (row.get(17)?, row.get(18)?);
    Ok(JobTexts {
        graph: row.get(14)?,
        valid: row.get(15)?,
        extra_data: row.get(16)?,
        targets: json(&targets, "jobs.targets")?,
        output_nodes: json(&output_nodes, "jobs.output_nodes")?,
    })
}

pub(super) fn event(row: &Row<'_>) -> Result<JobEvent, StoreError> {
    let kind: String = row.get(5)?;
    Ok(JobEvent {
        seq: unsigned(row.get(0)?),
        job_id: row.get(1)?,
        at_ms: row.get(2)?,
        client_id: row.get(3)?,
        queue_remaining: row.get(4)?,
        kind: json::<JobEventKind>(&kind, "events.kind")?,
    })
}

pub(super) fn shown(row: &Row<'_>) -> Result<Shown, StoreError> {
    let id: String = row.get(0)?;
    Ok(Shown { node: NodeRef { id: id.as_str().into(), class: row.get(1)? }, ui_json: row.get(2)? })
}

/// Reads `outputs, ui_json` from two columns.
pub(super) fn result(row: &Row<'_>, first: usize) -> Result<NodeResult, StoreError> {
    let outputs: String = row.get(first)?;
    let outputs = json(&outputs, "results.outputs")?;
    Ok(NodeResult { outputs, ui_json: row.get(first + 1)?, memory: None })
}

/// SQLite has signed integers; ours never pass 2^63.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
