//! Services that die or freeze at random moments while many jobs run.

use crate::client::{self, Txt2Img};
use crate::cluster::{Cluster, Service};
use crate::pictures::pixels;
use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How many jobs are run unless `COMFY_FAULT_JOBS` says otherwise.
const JOBS: u64 = 16;

/// Longest time for all jobs, per job.
const PATIENCE_PER_JOB: Duration = Duration::from_secs(20);

fn workflow(seed: u64) -> Value {
    // Every job draws something of its own, so nothing is taken from the cache.
    Txt2Img { steps: 12, seed, positive: format!("picture {seed}"), ..Txt2Img::default() }.api()
}

/// Submits as a careful client does: again with the same key until there is an answer.
async fn submit_for_sure(cluster: &Cluster, seed: u64) -> anyhow::Result<String> {
    let started = Instant::now();
    loop {
        let request = reqwest::Client::new()
            .post(cluster.url("/v1/workflows"))
            .header("content-type", "application/json")
            .header("idempotency-key", format!("fault-{seed}"))
            .timeout(Duration::from_secs(5));
        let answer = request.body(workflow(seed).to_string()).send().await;
        if let Ok(answer) = answer {
            let status = answer.status().as_u16();
            let text = answer.text().await.unwrap_or_default();
            if status == 202 {
                let body: Value = serde_json::from_str(&text)?;
                return Ok(body["job_id"].as_str().context("no job id")?.to_owned());
            }
            ensure!(status >= 500, "submit: {status} {text}");
        }
        if started.elapsed() > Duration::from_secs(60) {
            bail!("nobody takes job {seed}:\n{}", cluster.logs());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A number that looks random and is the same for ever.
fn scatter(index: u64) -> u64 {
    let mixed = (index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 33
}

#[tokio::test]
async fn jobs_outlive_a_stack_that_keeps_dying() -> anyhow::Result<()> {
    let asked = std::env::var("COMFY_FAULT_JOBS").ok();
    let count = asked.map_or(Ok(JOBS), |text| text.parse()).context("COMFY_FAULT_JOBS is a number")?;
    let mut cluster = Cluster::start().await?;
    let mut jobs: Vec<String> = Vec::new();
    let mut kills: HashMap<&str, u64> = HashMap::new();
    let started = Instant::now();
    loop {
        // A few at a time, so that kills also meet submissions.
        for _ in 0..4 {
            let seed = jobs.len() as u64;
            if seed < count {
                jobs.push(submit_for_sure(&cluster, seed).await?);
            }
        }
        let turn: u64 = kills.values().sum();
        let service = Service::ALL[(scatter(turn) % 4) as usize];
        cluster.kill(service)?;
        *kills.entry(service.name()).or_default() += 1;
        tokio::time::sleep(Duration::from_millis(scatter(turn) % 300)).await;
        cluster.spawn(service)?;
        let pause = 1000 + scatter(turn + 7) % 1000;
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let open = client::get(&cluster, "/v1/jobs?status=queued,running").await;
        let done = open.is_ok_and(|list| list["total"] == 0);
        if done && jobs.len() as u64 == count {
            break;
        }
        if started.elapsed() > PATIENCE_PER_JOB * u32::try_from(count)? {
            bail!("jobs do not end:\n{}", cluster.logs());
        }
    }
    cluster.wait_until_ready().await?;
    let took = started.elapsed();

    let calm = Cluster::start().await?;
    for (seed, job) in (0..).zip(&jobs) {
        let disturbed = client::picture(&cluster, job).await?;
        let undisturbed = client::submit(&calm, &workflow(seed)).await?;
        let expected = client::picture(&calm, &undisturbed).await?;
        ensure!(pixels(&disturbed) == pixels(&expected), "job {seed} drew something else");
        let path = format!("/v1/events?job_id={job}&after=0");
        let events = client::get_bytes_until(&cluster, &path, "event: succeeded").await?;
        let ended = client::endings(&events);
        ensure!(ended == 1, "job {seed} ended {ended} times:\n{events}");
    }
    let unique: std::collections::HashSet<&String> = jobs.iter().collect();
    ensure!(unique.len() as u64 == count, "a submission made two jobs or none");
    let saved = cluster.saved_pictures()?;
    ensure!(saved as u64 == count, "{count} jobs saved {saved} pictures");
    println!("{count} jobs in {:.0} s, killed: {kills:?}", took.as_secs_f64());
    Ok(())
}

#[tokio::test]
async fn a_frozen_stage_is_given_up_and_its_late_answer_ignored() -> anyhow::Result<()> {
    let cluster = Cluster::start_with_env(&[("STAGE_TIMEOUT", "15s")]).await?;
    let draw = |seed| Txt2Img { steps: 30, seed, ..Txt2Img::default() }.api();
    // The checkpoint is loaded once, so that the limit is spent on drawing.
    let first = client::submit(&cluster, &draw(2)).await?;
    client::picture(&cluster, &first).await?;

    let job = client::submit(&cluster, &draw(1)).await?;
    client::wait_for_node(&cluster, &job, "3").await?;
    cluster.signal(Service::StageSampler, "STOP")?;
    // Past the limit of the call, so that the next attempt is on its way when the stage wakes.
    tokio::time::sleep(Duration::from_secs(17)).await;
    cluster.signal(Service::StageSampler, "CONT")?;
    let disturbed = client::picture(&cluster, &job).await?;
    let calm = Cluster::start().await?;
    let undisturbed = client::submit(&calm, &draw(1)).await?;
    ensure!(pixels(&disturbed) == pixels(&client::picture(&calm, &undisturbed).await?), "another picture");
    let path = format!("/v1/events?job_id={job}&after=0");
    let events = client::get_bytes_until(&cluster, &path, "event: succeeded").await?;
    let ends = events.matches("event: succeeded").count();
    ensure!(ends == 1 && !events.contains("event: failed"), "{events}");
    ensure!(cluster.logs().contains("trying again"), "nothing was given up:\n{}", cluster.logs());
    Ok(())
}
