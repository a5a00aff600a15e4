//! Jobs in one SQLite file.

use super::rows::{self, signed, text};
use super::{
    JobFilter, JobRow, JobStore, NewJob, Place, Shown, Stamp, StoreError, Submitted, UsedKey, Write, schema,
};
use crate::queue_order::Placement;
use comfy_graph::{CacheKey, JobEvent, JobEventKind, JobStatus, NodeId, NodeResult};
use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, Transaction, params};
use std::collections::HashMap;
use std::path::Path;

/// The default store: WAL, and every commit on the disk before it counts.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Connection,
}

impl SqliteStore {
    /// Opens or makes the database file.
    ///
    /// # Errors
    /// When the file cannot be used, belongs to another running orchestrator or has another schema version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { connection: schema::open(path)? })
    }
}

impl JobStore for SqliteStore {
    fn reserve_seqs(&mut self, count: u64) -> Result<u64, StoreError> {
        let next: i64 = self.connection.query_row(
            "UPDATE counters SET value = value + ?1 WHERE name = 'seq' RETURNING value",
            [signed(count)],
            |row| row.get(0),
        )?;
        Ok(u64::try_from(next).unwrap_or(0).saturating_sub(count))
    }

    fn submit(&mut self, job: &NewJob, stamp: Stamp) -> Result<Submitted, StoreError> {
        let transaction = self.connection.transaction()?;
        if let Some(key) = &job.key
            && let Some(used) = used_key(&transaction, &key.key)?
        {
            return Ok(Submitted::KeyUsed(used));
        }
        if let Some(existing) = find(&transaction, &job.id, true)? {
            return Ok(Submitted::Existing(Box::new(existing)));
        }
        let number = queue_number(&transaction, job.place)?;
        let texts = &job.texts;
        transaction.execute(
            "INSERT INTO jobs (id, status, number, client_id, created_ms, nodes_total, last_seq, graph, valid, \
             extra_data, targets, output_nodes) VALUES (?1, 'queued', ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            params![
                job.id,
                number,
                job.client_id,
                stamp.at_ms,
                job.nodes_total,
                signed(stamp.seq),
                texts.graph,
                texts.valid,
                texts.extra_data,
                text(&texts.targets),
                text(&texts.output_nodes),
            ],
        )?;
        let ordinal = u64::try_from(transaction.last_insert_rowid()).unwrap_or(0);
        if let Some(key) = &job.key {
            transaction.execute(
                "INSERT INTO idempotency_keys (key, fingerprint, job_id, node_errors) VALUES (?1, ?2, ?3, ?4)",
                params![key.key, key.fingerprint, job.id, key.node_errors_json],
            )?;
        }
        let kind = JobEventKind::Queued { number, ordinal };
        let event = write_event(&transaction, &job.id, &job.client_id, stamp, kind)?;
        transaction.commit()?;
        Ok(Submitted::New(event))
    }

    fn used_key(&self, key: &str) -> Result<Option<UsedKey>, StoreError> {
        used_key(&self.connection, key)
    }

    fn claim(&mut self, stamp: Stamp) -> Result<Option<(JobRow, Option<JobEvent>)>, StoreError> {
        let transaction = self.connection.transaction()?;
        let next: Option<String> = transaction
            .query_row(
                "SELECT id FROM jobs WHERE status = 'queued' ORDER BY resumed DESC, number, creation LIMIT 1",
                [],
                |row| row.get(0),
            )
            .optional()?;
        let Some(id) = next else { return Ok(None) };
        let job = find(&transaction, &id, true)?.ok_or_else(|| StoreError::NoSuchJob(id.clone()))?;
        transaction.execute(
            "UPDATE jobs SET status = 'running', started_ms = COALESCE(started_ms, ?2) WHERE id = ?1",
            params![id, stamp.at_ms],
        )?;
        let event = match job.started_ms {
            None => Some(write_event(&transaction, &id, &job.client_id, stamp, JobEventKind::Started)?),
            Some(_) => None,
        };
        transaction.commit()?;
        Ok(Some((JobRow { status: JobStatus::Running, ..job }, event)))
    }

    fn record(
        &mut self,
        job_id: &str,
        writes: &[Write],
        event: Option<(Stamp, JobEventKind)>,
    ) -> Result<Option<JobEvent>, StoreError> {
        let transaction = self.connection.transaction()?;
        let job = find(&transaction, job_id, false)?.ok_or_else(|| StoreError::NoSuchJob(job_id.into()))?;
        if job.status.is_ended() {
            return Err(StoreError::Ended(job_id.into()));
        }
        let now_ms = event.as_ref().map_or_else(crate::clock::now_ms, |(stamp, _)| stamp.at_ms);
        for write in writes {
            apply(&transaction, job_id, write, now_ms)?;
        }
        let written = match event {
            Some((stamp, kind)) => Some(write_event(&transaction, job_id, &job.client_id, stamp, kind)?),
            None => None,
        };
        transaction.commit()?;
        Ok(written)
    }

    fn next_number(&self) -> Result<f64, StoreError> {
        let sql = "SELECT CAST(value AS REAL) FROM counters WHERE name = 'number'";
        Ok(self.connection.query_row(sql, [], |row| row.get(0))?)
    }

    fn place(
        &mut self,
        placements: &[(Placement, Stamp)],
        next_number: f64,
    ) -> Result<Vec<JobEvent>, StoreError> {
        let transaction = self.connection.transaction()?;
        let mut events = Vec::with_capacity(placements.len());
        for (Placement { id, number, resumed }, stamp) in placements {
            let client_id: Option<String> = transaction
                .query_row(
                    "UPDATE jobs SET number = ?2, resumed = ?3 WHERE id = ?1 AND status = 'queued' \
                     RETURNING client_id",
                    params![id, number, resumed],
                    |row| row.get(0),
                )
                .optional()?;
            let client_id = client_id.ok_or_else(|| StoreError::NoSuchJob(id.clone()))?;
            let kind = JobEventKind::Moved { number: *number };
            events.push(write_event(&transaction, id, &client_id, *stamp, kind)?);
        }
        let value = next_number as i64;
        transaction.execute("UPDATE counters SET value = ?1 WHERE name = 'number'", [value])?;
        transaction.commit()?;
        Ok(events)
    }

    fn requeue_running(&mut self) -> Result<u32, StoreError> {
        let count = self
            .connection
            .execute("UPDATE jobs SET status = 'queued', resumed = 1 WHERE status = 'running'", [])?;
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    fn job(&self, id: &str, detail: bool) -> Result<Option<JobRow>, StoreError> {
        find(&self.connection, id, detail)
    }

    fn jobs(&self, filter: &JobFilter) -> Result<(Vec<JobRow>, u32), StoreError> {
        let names: Vec<String> = match filter.statuses.as_slice() {
            [] => JobStatus::ALL.iter().map(|status| format!("'{}'", status.as_str())).collect(),
            some => some.iter().map(|status| format!("'{}'", status.as_str())).collect(),
        };
        let statuses = names.join(", ");
        let order = match (filter.statuses.as_slice(), filter.newest_first) {
            _ if filter.by_duration && filter.newest_first => "finished_ms - started_ms DESC, creation DESC",
            _ if filter.by_duration => "finished_ms - started_ms, creation",
            ([JobStatus::Queued], false) => "resumed DESC, number, creation",
            (_, false) => "creation",
            (_, true) => "creation DESC",
        };
        // Text that is empty or no JSON belongs to no workflow.
        let matching = format!(
            "FROM jobs WHERE status IN ({statuses}) AND (?1 IS NULL OR CASE WHEN json_valid(extra_data) \
             THEN json_extract(extra_data, '$.extra_pnginfo.workflow.id') END = ?1)"
        );
        let columns = if filter.detail { rows::JOB_DETAIL } else { rows::JOB };
        let limit = filter.limit.map_or(-1, i64::from);
        let jobs = collect(
            &self.connection,
            &format!("SELECT {columns} {matching} ORDER BY {order} LIMIT ?2 OFFSET ?3"),
            params![filter.workflow_id, limit, filter.offset],
            |row| rows::job(row, filter.detail),
        )?;
        let total = self.connection.query_row(
            &format!("SELECT count(*) {matching}"),
            params![filter.workflow_id],
            |row| row.get(0),
        )?;
        Ok((jobs, total))
    }

    fn shown(&self, job_id: &str) -> Result<Vec<Shown>, StoreError> {
        collect(
            &self.connection,
            "SELECT node_id, class, ui_json FROM job_results WHERE job_id = ?1 AND ui_json IS NOT NULL ORDER BY rowid",
            params![job_id],
            rows::shown,
        )
    }

    fn events(&self, job_id: Option<&str>, after_seq: u64, limit: u32) -> Result<Vec<JobEvent>, StoreError> {
        let columns = rows::EVENT;
        let after = signed(after_seq);
        match job_id {
            Some(job_id) => collect(
                &self.connection,
                &format!("SELECT {columns} FROM events WHERE job_id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3"),
                params![job_id, after, limit],
                rows::event,
            ),
            None => collect(
                &self.connection,
                &format!("SELECT {columns} FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2"),
                params![after, limit],
                rows::event,
            ),
        }
    }

    fn job_results(&self, job_id: &str) -> Result<HashMap<NodeId, NodeResult>, StoreError> {
        let pairs = collect(
            &self.connection,
            "SELECT node_id, outputs, ui_json FROM job_results WHERE job_id = ?1 AND outputs IS NOT NULL",
            params![job_id],
            |row| {
                let id: String = row.get(0)?;
                Ok((NodeId(id), rows::result(row, 1)?))
            },
        )?;
        Ok(pairs.into_iter().collect())
    }

    fn cached(
        &mut self,
        keys: &[CacheKey],
        now_ms: i64,
    ) -> Result<HashMap<CacheKey, NodeResult>, StoreError> {
        let transaction = self.connection.transaction()?;
        let mut found = HashMap::new();
        {
            let mut read =
                transaction.prepare("SELECT outputs, ui_json FROM results WHERE cache_key = ?1")?;
            let mut touch = transaction.prepare("UPDATE results SET used_ms = ?2 WHERE cache_key = ?1")?;
            for key in keys {
                let mut matches = read.query([key.as_str()])?;
                if let Some(row) = matches.next()? {
                    found.insert(key.clone(), rows::result(row, 0)?);
                    touch.execute(params![key.as_str(), now_ms])?;
                }
            }
        }
        transaction.commit()?;
        Ok(found)
    }

    fn delete(&mut self, ids: Option<&[String]>) -> Result<u32, StoreError> {
        let transaction = self.connection.transaction()?;
        let ended = "status IN ('completed', 'failed', 'cancelled')";
        let doomed: Vec<String> = match ids {
            None => collect(&transaction, &format!("SELECT id FROM jobs WHERE {ended}"), [], |row| {
                Ok(row.get(0)?)
            })?,
            Some(ids) => {
                let mut doomed = Vec::new();
                for id in ids {
                    let sql = format!("SELECT id FROM jobs WHERE id = ?1 AND {ended}");
                    doomed.extend(collect(&transaction, &sql, [id], |row| Ok(row.get::<_, String>(0)?))?);
                }
                doomed
            }
        };
        let count = delete_jobs(&transaction, &doomed)?;
        transaction.commit()?;
        Ok(count)
    }

    fn prune(&mut self, jobs: u32, results: u32) -> Result<(), StoreError> {
        let transaction = self.connection.transaction()?;
        let doomed = collect(
            &transaction,
            "SELECT id FROM jobs WHERE status IN ('completed', 'failed', 'cancelled') \
             ORDER BY finished_ms DESC, creation DESC LIMIT -1 OFFSET ?1",
            [jobs],
            |row| Ok(row.get(0)?),
        )?;
        delete_jobs(&transaction, &doomed)?;
        transaction.execute(
            "DELETE FROM results WHERE cache_key IN \
             (SELECT cache_key FROM results ORDER BY used_ms DESC LIMIT -1 OFFSET ?1)",
            [results],
        )?;
        transaction.commit()?;
        Ok(())
    }

    fn forget_results(&mut self) -> Result<u32, StoreError> {
        let count = self.connection.execute("DELETE FROM results", [])?;
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    fn counts(&self) -> Result<(u32, u32), StoreError> {
        let count = |status: &str| {
            self.connection
                .query_row("SELECT count(*) FROM jobs WHERE status = ?1", [status], |row| row.get(0))
        };
        Ok((count("running")?, count("queued")?))
    }
}

fn used_key(connection: &Connection, key: &str) -> Result<Option<UsedKey>, StoreError> {
    let sql = "SELECT job_id, number, fingerprint, node_errors FROM idempotency_keys \
               JOIN jobs ON jobs.id = job_id WHERE key = ?1";
    let read = |row: &Row<'_>| {
        Ok(UsedKey {
            job_id: row.get(0)?,
            number: row.get(1)?,
            fingerprint: row.get(2)?,
            node_errors_json: row.get(3)?,
        })
    };
    Ok(collect(connection, sql, [key], read)?.pop())
}

fn find(connection: &Connection, id: &str, detail: bool) -> Result<Option<JobRow>, StoreError> {
    let columns = if detail { rows::JOB_DETAIL } else { rows::JOB };
    let sql = format!("SELECT {columns} FROM jobs WHERE id = ?1");
    Ok(collect(connection, &sql, [id], |row| rows::job(row, detail))?.pop())
}

fn collect<T>(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    read: impl Fn(&Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare(sql)?;
    let mut found = statement.query(params)?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        all.push(read(row)?);
    }
    Ok(all)
}

/// Gives a job its queue number. A given number is taken as it is and moves the counter no further.
fn queue_number(transaction: &Transaction<'_>, place: Place) -> Result<f64, StoreError> {
    let sign = match place {
        Place::At(number) => return Ok(number),
        Place::Last => 1.0,
        Place::First => -1.0,
    };
    let counter: f64 = transaction.query_row(
        "UPDATE counters SET value = value + 1 WHERE name = 'number' RETURNING CAST(value - 1 AS REAL)",
        [],
        |row| row.get(0),
    )?;
    // Zero has no sign here, so that JSON shows `0` and not `-0`.
    Ok(if counter == 0.0 { 0.0 } else { sign * counter })
}

fn write_event(
    transaction: &Transaction<'_>,
    job_id: &str,
    client_id: &str,
    stamp: Stamp,
    kind: JobEventKind,
) -> Result<JobEvent, StoreError> {
    let queue_remaining: u32 = transaction.query_row(
        "SELECT count(*) FROM jobs WHERE status IN ('queued', 'running')",
        [],
        |row| row.get(0),
    )?;
    transaction.execute(
        "INSERT INTO events (seq, job_id, at_ms, client_id, queue_remaining, kind) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![signed(stamp.seq), job_id, stamp.at_ms, client_id, queue_remaining, text(&kind)],
    )?;
    transaction.execute("UPDATE jobs SET last_seq = ?2 WHERE id = ?1", params![job_id, signed(stamp.seq)])?;
    Ok(JobEvent {
        seq: stamp.seq,
        job_id: job_id.into(),
        at_ms: stamp.at_ms,
        client_id: client_id.into(),
        queue_remaining,
        kind,
    })
}

fn apply(transaction: &Transaction<'_>, job_id: &str, write: &Write, now_ms: i64) -> Result<(), StoreError> {
    let run = |sql: &str, params: &[&dyn ToSql]| transaction.execute(sql, params);
    match write {
        Write::NodesDone(count) => {
            run("UPDATE jobs SET nodes_done = ?2 WHERE id = ?1", params![job_id, count])?;
        }
        Write::Result { node, key, result } => {
            let outputs = text(&result.outputs);
            run(
                "INSERT OR REPLACE INTO job_results (job_id, node_id, class, outputs, ui_json) \
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![job_id, node.id.as_str(), node.class, outputs, result.ui_json],
            )?;
            if let Some(key) = key {
                keep_result(transaction, key, result, now_ms)?;
            }
        }
        Write::Shown(shown) => {
            run(
                "INSERT OR IGNORE INTO job_results (job_id, node_id, class, outputs, ui_json) \
                 VALUES (?1, ?2, ?3, NULL, ?4)",
                params![job_id, shown.node.id.as_str(), shown.node.class, shown.ui_json],
            )?;
        }
        Write::AttemptStarted { attempt, group_id, stage } => {
            run(
                "INSERT INTO attempts (job_id, attempt, group_id, stage, started_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![job_id, signed(*attempt), group_id, stage, now_ms],
            )?;
            run("UPDATE jobs SET attempt = ?2 WHERE id = ?1", params![job_id, signed(*attempt)])?;
        }
        Write::AttemptEnded { attempt, outcome } => {
            run(
                "UPDATE attempts SET ended_ms = ?3, outcome = ?4 WHERE job_id = ?1 AND attempt = ?2",
                params![job_id, signed(*attempt), now_ms, outcome],
            )?;
        }
        Write::Requeue => {
            run("UPDATE jobs SET status = 'queued', resumed = 1 WHERE id = ?1", params![job_id])?;
        }
        Write::End { status, error } => {
            let error = error.as_ref().map(text);
            run(
                "UPDATE jobs SET status = ?2, error = ?3, finished_ms = ?4, resumed = 0, \
                 nodes_done = CASE ?2 WHEN 'completed' THEN nodes_total ELSE nodes_done END WHERE id = ?1",
                params![job_id, status.as_str(), error, now_ms],
            )?;
        }
    }
    Ok(())
}

/// Keeps a result for later jobs. Slots that an earlier job published stay, because both runs give the same.
fn keep_result(
    transaction: &Transaction<'_>,
    key: &CacheKey,
    result: &NodeResult,
    now_ms: i64,
) -> Result<(), StoreError> {
    let sql = "SELECT outputs, ui_json FROM results WHERE cache_key = ?1";
    let earlier = collect(transaction, sql, [key.as_str()], |row| rows::result(row, 0))?.pop();
    let mut kept = earlier.unwrap_or_default();
    kept.outputs.extend(result.outputs.clone());
    kept.ui_json = result.ui_json.clone().or(kept.ui_json);
    transaction.execute(
        "INSERT OR REPLACE INTO results (cache_key, outputs, ui_json, used_ms) VALUES (?1, ?2, ?3, ?4)",
        params![key.as_str(), text(&kept.outputs), kept.ui_json, now_ms],
    )?;
    Ok(())
}

fn delete_jobs(transaction: &Transaction<'_>, ids: &[String]) -> Result<u32, StoreError> {
    let mut count = 0;
    for id in ids {
        count += transaction.execute("DELETE FROM jobs WHERE id = ?1", [id])?;
        for table in ["events", "job_results", "attempts", "idempotency_keys"] {
            transaction.execute(&format!("DELETE FROM {table} WHERE job_id = ?1"), [id])?;
        }
    }
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}
