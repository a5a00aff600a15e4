//! What a person or a script does with the stack.

use crate::cluster::Cluster;
use anyhow::{Context as _, bail, ensure};
use futures::StreamExt as _;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::Message;

/// How long any job of these tests may take on a slow machine.
const JOB_LIMIT: Duration = Duration::from_secs(240);

/// A text-to-image workflow in API format.
pub struct Txt2Img {
    pub checkpoint: &'static str,
    pub sampler: &'static str,
    pub scheduler: &'static str,
    pub side: u32,
    pub steps: u32,
    pub seed: u64,
    pub cfg: f64,
    pub positive: String,
    pub negative: String,
}

impl Default for Txt2Img {
    fn default() -> Self {
        let (checkpoint, sampler, scheduler) = ("tiny_sd1_random.safetensors", "euler", "normal");
        let (positive, negative) = ("a photo of a cat".into(), "(masterpiece:1.3), [blurry] dog".into());
        Self { checkpoint, sampler, scheduler, side: 64, steps: 4, seed: 42, cfg: 7.0, positive, negative }
    }
}

impl Txt2Img {
    pub fn api(&self) -> Value {
        json!({
            "3": {"class_type": "KSampler", "inputs": {
                "seed": self.seed, "steps": self.steps, "cfg": self.cfg, "sampler_name": self.sampler,
                "scheduler": self.scheduler, "denoise": 1.0, "model": ["4", 0], "positive": ["6", 0],
                "negative": ["7", 0], "latent_image": ["5", 0]}},
            "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": self.checkpoint}},
            "5": {"class_type": "EmptyLatentImage", "inputs": {
                "width": self.side, "height": self.side, "batch_size": 1}},
            "6": {"class_type": "CLIPTextEncode", "inputs": {"text": self.positive, "clip": ["4", 1]}},
            "7": {"class_type": "CLIPTextEncode", "inputs": {"text": self.negative, "clip": ["4", 1]}},
            "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
            "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "ComfyUI", "images": ["8", 0]}}
        })
    }
}

/// Posts JSON text and returns status and body.
pub async fn post_text(cluster: &Cluster, path: &str, body: String) -> anyhow::Result<(u16, Value)> {
    let request = reqwest::Client::new().post(cluster.url(path)).header("content-type", "application/json");
    let answer = request.body(body).send().await?;
    let status = answer.status().as_u16();
    let text = answer.text().await?;
    Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
}

pub async fn post(cluster: &Cluster, path: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
    post_text(cluster, path, body.to_string()).await
}

pub async fn get(cluster: &Cluster, path: &str) -> anyhow::Result<Value> {
    let answer = reqwest::get(cluster.url(path)).await?;
    let status = answer.status();
    let text = answer.text().await?;
    ensure!(status.is_success(), "GET {path}: {status} {text}");
    Ok(serde_json::from_str(&text)?)
}

pub async fn get_bytes(cluster: &Cluster, path: &str) -> anyhow::Result<Vec<u8>> {
    Ok(reqwest::get(cluster.url(path)).await?.error_for_status()?.bytes().await?.to_vec())
}

/// Submits a workflow and returns the id of its job.
pub async fn submit(cluster: &Cluster, workflow: &Value) -> anyhow::Result<String> {
    let (status, body) = post(cluster, "/v1/workflows", workflow).await?;
    ensure!(status == 202, "submit: {status} {body}");
    Ok(body["job_id"].as_str().context("no job id")?.to_owned())
}

/// Waits until a job has ended. Calls that fail are repeated: the gateway may be down for a moment.
pub async fn wait(cluster: &Cluster, job: &str) -> anyhow::Result<Value> {
    let started = Instant::now();
    loop {
        if let Ok(found) = get(cluster, &format!("/v1/jobs/{job}")).await
            && !matches!(found["status"].as_str(), Some("queued" | "running"))
        {
            return Ok(found);
        }
        if started.elapsed() > JOB_LIMIT {
            bail!("job {job} has not ended after {JOB_LIMIT:?}:\n{}", cluster.logs());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits for a job to complete and returns its picture.
pub async fn picture(cluster: &Cluster, job: &str) -> anyhow::Result<Vec<u8>> {
    let found = wait(cluster, job).await?;
    ensure!(found["status"] == "completed", "{found}\n{}", cluster.logs());
    get_bytes(cluster, &format!("/v1/jobs/{job}/output")).await
}

/// Waits until a job has reached a node of a class, or has ended.
pub async fn wait_for_node(cluster: &Cluster, job: &str, node: &str) -> anyhow::Result<()> {
    let started = Instant::now();
    while started.elapsed() < JOB_LIMIT {
        let found = get(cluster, &format!("/v1/jobs/{job}")).await?;
        let ended = !matches!(found["status"].as_str(), Some("queued" | "running"));
        if found["current_node"] == node || ended {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bail!("job {job} never reached node {node}")
}

/// What a ComfyUI client script does: connects, posts to `/prompt`, follows `/ws` until the prompt has ended, and
/// asks `/history` for the files.
pub async fn comfy_script(cluster: &Cluster, graph: &Value) -> anyhow::Result<(Vec<Value>, Vec<u8>)> {
    let (mut socket, _) =
        tokio_tungstenite::connect_async(format!("ws://{}/ws?clientId=script", cluster.address())).await?;
    let body = json!({"prompt": graph, "client_id": "script"});
    let (status, answer) = post(cluster, "/prompt", &body).await?;
    ensure!(status == 200, "prompt: {status} {answer}");
    let id = answer["prompt_id"].as_str().context("no prompt id")?.to_owned();
    let mut frames = Vec::new();
    loop {
        let message = tokio::time::timeout(JOB_LIMIT, socket.next()).await?.context("socket closed")??;
        let Message::Text(text) = message else { continue };
        let frame: Value = serde_json::from_str(&text)?;
        let ended = frame["type"] == "executing"
            && frame["data"]["node"].is_null()
            && frame["data"]["prompt_id"] == id.as_str();
        frames.push(frame);
        if ended {
            break;
        }
    }
    let history = get(cluster, &format!("/history/{id}")).await?;
    let image = &history[&id]["outputs"]["9"]["images"][0];
    let query = format!(
        "/view?filename={}&subfolder={}&type={}",
        image["filename"].as_str().with_context(|| format!("no picture in {history}"))?,
        image["subfolder"].as_str().unwrap_or_default(),
        image["type"].as_str().unwrap_or_default()
    );
    Ok((frames, get_bytes(cluster, &query).await?))
}

/// Reads a stream until a text has come by, and returns what was read.
pub async fn get_bytes_until(cluster: &Cluster, path: &str, text: &str) -> anyhow::Result<String> {
    let mut stream = reqwest::get(cluster.url(path)).await?.error_for_status()?.bytes_stream();
    let mut read = String::new();
    while !read.contains(text) {
        let next = tokio::time::timeout(Duration::from_secs(30), stream.next()).await;
        let Some(bytes) = next.with_context(|| format!("no `{text}` in:\n{read}"))? else { break };
        read.push_str(&String::from_utf8_lossy(&bytes?));
    }
    Ok(read)
}

/// How often a stream of events says that a job has ended.
pub fn endings(events: &str) -> usize {
    let ends = ["event: succeeded", "event: failed", "event: cancelled"];
    ends.iter().map(|end| events.matches(end).count()).sum()
}
