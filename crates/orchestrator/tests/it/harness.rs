//! Starts, kills and asks an orchestrator.

use comfy_graph::ArtifactRef;
use comfy_orchestrator::{Config, results::ResultCheck, run_with};
use comfy_proto::orchestrator as pb;
use comfy_proto::orchestrator::job_event::Kind;
use comfy_proto::orchestrator::orchestrator_service_client::OrchestratorServiceClient;
use comfy_testkit::fake_stage::FakeStage;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// Longest wait for anything that is expected to happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that outlives one process: database folder, artifact volume, stages.
pub struct World {
    pub dir: TempDir,
    pub sampler: FakeStage,
    pub image: FakeStage,
    pub volume: Arc<FakeVolume>,
}

/// A volume on which everything exists that was not lost.
#[derive(Default)]
pub struct FakeVolume {
    lost: Mutex<HashSet<String>>,
    pub all_files_lost: std::sync::atomic::AtomicBool,
}

impl FakeVolume {
    /// Loses a blob.
    pub fn lose(&self, digest: &str) {
        self.lost.lock().unwrap().insert(digest.into());
    }
}

impl ResultCheck for FakeVolume {
    fn artifact_exists<'a>(&'a self, artifact: &'a ArtifactRef) -> BoxFuture<'a, bool> {
        Box::pin(async move { !self.lost.lock().unwrap().contains(artifact.digest.as_str()) })
    }

    fn file_exists<'a>(&'a self, folder: &'a str, _: &'a str, filename: &'a str) -> BoxFuture<'a, bool> {
        assert_eq!(folder, "output", "{filename}");
        Box::pin(async move { !self.all_files_lost.load(std::sync::atomic::Ordering::SeqCst) })
    }
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, sampler: FakeStage::sampler(), image: FakeStage::image(), volume: Arc::default() }
    }

    pub fn config(&self) -> Config {
        use clap::Parser as _;
        Config {
            stage_sampler_addr: self.sampler.url(),
            stage_image_addr: self.image.url(),
            data_dir: self.dir.path().into(),
            ..Config::parse_from(["orchestrator"])
        }
    }

    pub async fn start(&self) -> Orchestrator {
        self.start_with(self.config()).await
    }

    pub async fn start_with(&self, config: Config) -> Orchestrator {
        Orchestrator::start(config, self.volume.clone()).await
    }
}

/// One orchestrator process, as good as: it has a runtime of its own, so that killing it leaves nothing behind.
pub struct Orchestrator {
    runtime: Option<Runtime>,
    stop: CancellationToken,
    served: Option<tokio::task::JoinHandle<()>>,
    pub client: OrchestratorServiceClient<Channel>,
}

impl Orchestrator {
    async fn start(config: Config, volume: Arc<FakeVolume>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let served = runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            run_with(config, volume, listener, stopped).await.unwrap();
        });
        let url = format!("http://{address}");
        let mut client = OrchestratorServiceClient::connect(url).await.unwrap();
        // The listener takes connections before the service answers.
        client.get_system(pb::GetSystemRequest {}).await.unwrap();
        Self { runtime: Some(runtime), stop, served: Some(served), client }
    }

    /// Ends it as `kill -9` does.
    pub fn kill(mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    /// Ends it as SIGTERM does and waits until it is gone.
    pub async fn stop(mut self) {
        self.stop.cancel();
        let served = self.served.take().unwrap();
        tokio::time::timeout(PATIENCE, served).await.unwrap().unwrap();
    }

    pub async fn submit(&mut self, workflow: &serde_json::Value) -> String {
        self.submit_as(pb::SubmitWorkflowRequest {
            workflow_json: workflow.to_string(),
            ..Default::default()
        })
        .await
        .job_id
    }

    pub async fn submit_as(&mut self, request: pb::SubmitWorkflowRequest) -> pb::Accepted {
        let answer = self.client.submit_workflow(request).await.unwrap().into_inner();
        match answer.result.unwrap() {
            pb::submit_workflow_response::Result::Accepted(accepted) => accepted,
            other => panic!("{other:?}"),
        }
    }

    pub async fn job(&mut self, id: &str) -> pb::Job {
        let request = pb::GetJobRequest { job_id: id.into() };
        self.client.get_job(request).await.unwrap().into_inner().job.unwrap()
    }

    /// Waits until this many nodes are committed: a stage is ahead of what the orchestrator has heard and kept.
    pub async fn wait_done(&mut self, id: &str, nodes: u32) -> pb::Job {
        let waiting = async {
            loop {
                let job = self.job(id).await;
                if job.nodes_done >= nodes {
                    break job;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.expect("the nodes are committed within 30 s")
    }

    /// Every event of a job after a sequence number, up to its end.
    pub async fn events_after(&mut self, id: &str, after_seq: u64) -> Vec<pb::JobEvent> {
        let request = pb::WatchJobRequest { job_id: id.into(), after_seq, live_only: false };
        let stream = self.client.watch_job(request).await.unwrap().into_inner();
        let all = stream.map(|answer| answer.unwrap().event.unwrap()).collect();
        tokio::time::timeout(PATIENCE, all).await.expect("the job ends within 30 s")
    }

    /// Waits for the end of a job and returns its durable events.
    pub async fn finish(&mut self, id: &str) -> Vec<String> {
        let events = self.events_after(id, 0).await;
        durable(&events)
    }

    pub async fn cancel(&mut self, id: &str) -> pb::CancelJobResponse {
        self.client.cancel_job(pb::CancelJobRequest { job_id: id.into() }).await.unwrap().into_inner()
    }
}

impl Drop for Orchestrator {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Durable events as short texts, such as `done 3`.
pub fn durable(events: &[pb::JobEvent]) -> Vec<String> {
    let text = |event: &pb::JobEvent| {
        Some(match event.kind.as_ref().unwrap() {
            Kind::Queued(_) => "queued".into(),
            Kind::Moved(moved) => format!("moved to {}", moved.number),
            Kind::Started(_) => "started".into(),
            Kind::Cached(cached) => {
                let ids: Vec<&str> = cached.nodes.iter().map(|node| node.node_id.as_str()).collect();
                format!("cached {}", ids.join(","))
            }
            Kind::NodeStarted(node) => format!("start {}", node.node_id),
            Kind::NodeDone(node) => format!("done {}", node.node_id),
            Kind::NodeBlocked(node) => format!("blocked {}: {}", node.node_id, node.message),
            Kind::Failed(failed) => {
                let error = failed.error.as_ref().unwrap();
                format!("failed {} {:?}: {}", error.node_id, error.code(), error.message)
            }
            Kind::Cancelled(cancelled) => format!("cancelled {}", cancelled.node_id),
            Kind::Succeeded(_) => "succeeded".into(),
            Kind::NodeProgress(_) | Kind::Preview(_) => return None,
        })
    };
    events.iter().filter_map(text).collect()
}

/// How often each text occurs that begins with a prefix.
pub fn count(events: &[String], prefix: &str) -> usize {
    events.iter().filter(|event| event.starts_with(prefix)).count()
}

/// How many terminal events there are.
pub fn endings(events: &[String]) -> usize {
    count(events, "succeeded") + count(events, "failed") + count(events, "cancelled")
}
