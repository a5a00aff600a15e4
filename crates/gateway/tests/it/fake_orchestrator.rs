//! An orchestrator whose jobs do what a test says.

use base64::Engine as _;
use comfy_graph::spec::{InputSpec, NodeSpec, OutputSpec};
use comfy_proto::orchestrator as pb;
use comfy_proto::orchestrator::job_event::Kind;
use comfy_proto::orchestrator::orchestrator_service_server::{
    OrchestratorService, OrchestratorServiceServer,
};
use comfy_proto::orchestrator::{Job, JobEvent, JobStatus};
use comfy_proto::stage::{
    GetModelMetadataRequest, GetModelMetadataResponse, ListModelsRequest, ListModelsResponse, ModelFile,
};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status};

/// A list with a GIF of one pixel, as `ssmd_cover_images` holds it.
const COVER: &str = r#"["R0lGODlhAQABAIAAAP///wAAACwAAAAAAQABAAACAkQBADs="]"#;

/// What survives a restart of the fake.
struct State {
    jobs: Vec<Job>,
    seq: u64,
    submitted: Vec<pb::SubmitWorkflowRequest>,
    freed: Vec<pb::FreeMemoryRequest>,
    /// Every call fails with this while it is set.
    failure: Option<Status>,
}

#[derive(Clone)]
pub struct Fake {
    state: Arc<Mutex<State>>,
    live: broadcast::Sender<JobEvent>,
}

/// The fake while it serves. Its runtime is its own: ending it cuts every connection, as the death of a process does.
pub struct Running {
    pub fake: Fake,
    pub address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Running {
    pub async fn start() -> Self {
        let state =
            State { jobs: Vec::new(), seq: 0, submitted: Vec::new(), freed: Vec::new(), failure: None };
        let fake = Fake { state: Arc::new(Mutex::new(state)), live: broadcast::channel(256).0 };
        let mut running = Self { fake, address: "127.0.0.1:0".parse().unwrap(), runtime: None };
        running.start_again().await;
        running
    }

    /// Cuts every connection; the durable events stay.
    pub async fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        self.fake.live = broadcast::channel(256).0;
        let closed = async { while TcpStream::connect(self.address).await.is_ok() {} };
        crate::gateway::within(closed).await;
    }

    pub async fn start_again(&mut self) {
        let socket = std::net::TcpListener::bind(self.address).unwrap();
        socket.set_nonblocking(true).unwrap();
        self.address = socket.local_addr().unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let service = OrchestratorServiceServer::new(self.fake.clone());
        runtime.spawn(async move {
            let incoming = TcpListenerStream::new(TcpListener::from_std(socket).unwrap());
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        self.runtime = Some(runtime);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Fake {
    pub fn submitted(&self) -> Vec<pb::SubmitWorkflowRequest> {
        self.state.lock().unwrap().submitted.clone()
    }

    pub fn freed(&self) -> Vec<pb::FreeMemoryRequest> {
        self.state.lock().unwrap().freed.clone()
    }

    pub fn fail_with(&self, failure: Option<Status>) {
        self.state.lock().unwrap().failure = failure;
    }

    /// Lets something happen to a job; returns the event's sequence number.
    pub fn happen(&self, job_id: &str, kind: Kind) -> u64 {
        let mut state = self.state.lock().unwrap();
        state.seq += 1;
        let seq = state.seq;
        let at_ms = 1_700_000_000_000 + seq as i64;
        let job = state.jobs.iter_mut().find(|job| job.id == job_id).expect("the job exists");
        apply(job, &kind, at_ms);
        let mut event = JobEvent {
            seq,
            job_id: job_id.into(),
            at_ms,
            client_id: job.client_id.clone(),
            queue_remaining: 0,
            kind: Some(kind),
        };
        let durable = !matches!(event.kind, Some(Kind::NodeProgress(_) | Kind::Preview(_)));
        if durable {
            job.last_seq = seq;
        }
        let active = state.jobs.iter().filter(|job| job.finished_ms == 0).count();
        event.queue_remaining = active as u32;
        if durable {
            let job = state.jobs.iter_mut().find(|job| job.id == job_id).unwrap();
            job.durable_events.push(event.clone());
        }
        // Nobody may be listening.
        let _ = self.live.send(event);
        seq
    }

    /// Lets a job start and run its nodes; the last one, an output node, saves `saved`.
    pub fn run(&self, job_id: &str, nodes: &[(&str, &str)], saved: &str) {
        self.happen(job_id, Kind::Started(pb::Started {}));
        self.happen(job_id, Kind::Cached(pb::Cached { nodes: Vec::new() }));
        for (index, (id, class)) in nodes.iter().enumerate() {
            let (node_id, class) = (id.to_string(), class.to_string());
            self.happen(
                job_id,
                Kind::NodeStarted(pb::NodeStarted { node_id: node_id.clone(), class: class.clone() }),
            );
            if class == "KSampler" {
                for value in 1..=2 {
                    let node_id = node_id.clone();
                    self.happen(job_id, Kind::NodeProgress(pb::NodeProgress { node_id, value, max: 2 }));
                }
                let preview = pb::Preview {
                    node_id: node_id.clone(),
                    mime: "image/jpeg".into(),
                    data: b"jpeg".to_vec(),
                };
                self.happen(job_id, Kind::Preview(preview));
            }
            let last = index + 1 == nodes.len();
            let ui_json = if last { saved.to_owned() } else { String::new() };
            self.happen(
                job_id,
                Kind::NodeDone(pb::NodeDone {
                    node_id,
                    class,
                    ui_json,
                    stage: "stage-image".into(),
                    peak_bytes: 7,
                }),
            );
        }
        self.happen(job_id, Kind::Succeeded(pb::Succeeded {}));
    }

    fn check(&self) -> Result<(), Status> {
        self.state.lock().unwrap().failure.clone().map_or(Ok(()), Err)
    }
}

fn apply(job: &mut Job, kind: &Kind, at_ms: i64) {
    let status = match kind {
        Kind::Started(_) => {
            job.started_ms = at_ms;
            JobStatus::Running
        }
        Kind::NodeStarted(node) => {
            job.current_node = node.node_id.clone();
            return;
        }
        Kind::NodeProgress(node) => {
            (job.progress_value, job.progress_max) = (node.value, node.max);
            return;
        }
        Kind::NodeDone(node) => {
            job.nodes_done += 1;
            job.current_node.clear();
            if !node.ui_json.is_empty() {
                job.outputs.push(pb::NodeUi {
                    node_id: node.node_id.clone(),
                    class: node.class.clone(),
                    ui_json: node.ui_json.clone(),
                });
            }
            return;
        }
        Kind::Failed(failed) => {
            job.error = failed.error.clone();
            JobStatus::Failed
        }
        Kind::Cancelled(_) => JobStatus::Cancelled,
        Kind::Succeeded(_) => JobStatus::Completed,
        Kind::Moved(moved) => {
            job.number = moved.number;
            return;
        }
        Kind::Queued(_) | Kind::Cached(_) | Kind::Preview(_) | Kind::NodeBlocked(_) => return,
    };
    job.set_status(status);
    if status != JobStatus::Running {
        job.finished_ms = at_ms;
    }
}

fn model(folder: &str, name: &str) -> ModelFile {
    ModelFile {
        folder: folder.into(),
        name: name.into(),
        bytes: 123,
        modified_ms: 1500,
        family: "sd1".into(),
        usable: true,
        is_default: true,
        ..Default::default()
    }
}

fn save_image() -> NodeSpec {
    NodeSpec {
        class: "SaveImage".into(),
        display_name: "Save Image".into(),
        category: "image".into(),
        inputs: vec![InputSpec::socket("images", "IMAGE"), InputSpec::seed("seed")],
        outputs: vec![OutputSpec::of("IMAGE")],
        output_node: true,
        ..NodeSpec::default()
    }
}

type EventStream = Pin<Box<dyn Stream<Item = Result<pb::WatchJobResponse, Status>> + Send>>;

#[tonic::async_trait]
impl OrchestratorService for Fake {
    type WatchJobStream = EventStream;

    async fn submit_workflow(
        &self,
        request: Request<pb::SubmitWorkflowRequest>,
    ) -> Result<Response<pb::SubmitWorkflowResponse>, Status> {
        use pb::submit_workflow_response::Result as R;
        self.check()?;
        let request = request.into_inner();
        let workflow: Value = serde_json::from_str(&request.workflow_json).expect("the gateway checks JSON");
        if workflow["1"]["class_type"] == "NoSuchNode" {
            let error = json!({
                "type": "invalid_prompt", "message": "node NoSuchNode does not exist",
                "details": "Node ID '#1'", "extra_info": {"a": 1},
            });
            let rejected = pb::Rejected {
                error_json: error.to_string(),
                node_errors_json: r#"{"1":{"errors":[]}}"#.into(),
            };
            return Ok(Response::new(pb::SubmitWorkflowResponse { result: Some(R::Rejected(rejected)) }));
        }
        if request.idempotency_key == "used" {
            let reused = pb::KeyReused { job_id: "earlier".into() };
            return Ok(Response::new(pb::SubmitWorkflowResponse { result: Some(R::KeyReused(reused)) }));
        }
        let (id, number) = {
            let mut state = self.state.lock().unwrap();
            let number = state.jobs.len() as f64;
            let id = if request.job_id.is_empty() { format!("job-{number}") } else { request.job_id.clone() };
            state.jobs.push(Job {
                id: id.clone(),
                status: JobStatus::Queued.into(),
                number,
                client_id: request.client_id.clone(),
                created_ms: 1000,
                nodes_total: 3,
                graph_json: request.workflow_json.clone(),
                extra_data_json: request.extra_data_json.clone(),
                output_nodes: vec!["9".into()],
                ..Default::default()
            });
            state.submitted.push(request);
            (id, number)
        };
        self.happen(&id, Kind::Queued(pb::Queued { number, ordinal: 0 }));
        let accepted = pb::Accepted { job_id: id, number, node_errors_json: "{}".into() };
        Ok(Response::new(pb::SubmitWorkflowResponse { result: Some(R::Accepted(accepted)) }))
    }

    async fn get_job(
        &self,
        request: Request<pb::GetJobRequest>,
    ) -> Result<Response<pb::GetJobResponse>, Status> {
        self.check()?;
        let id = request.into_inner().job_id;
        let state = self.state.lock().unwrap();
        let job = state.jobs.iter().find(|job| job.id == id).cloned();
        let job = job.ok_or_else(|| Status::not_found(format!("no job `{id}`")))?;
        Ok(Response::new(pb::GetJobResponse { job: Some(job) }))
    }

    async fn list_jobs(
        &self,
        request: Request<pb::ListJobsRequest>,
    ) -> Result<Response<pb::ListJobsResponse>, Status> {
        self.check()?;
        let request = request.into_inner();
        let state = self.state.lock().unwrap();
        let mut jobs: Vec<Job> = state
            .jobs
            .iter()
            .filter(|job| request.statuses.is_empty() || request.statuses.contains(&job.status))
            .cloned()
            .collect();
        if request.newest_first {
            jobs.reverse();
        }
        let total = jobs.len() as u32;
        let limit = if request.limit == 0 { usize::MAX } else { request.limit as usize };
        let jobs = jobs.into_iter().skip(request.offset as usize).take(limit).collect();
        Ok(Response::new(pb::ListJobsResponse { jobs, total }))
    }

    async fn cancel_job(
        &self,
        request: Request<pb::CancelJobRequest>,
    ) -> Result<Response<pb::CancelJobResponse>, Status> {
        let id = request.into_inner().job_id;
        let job =
            self.get_job(Request::new(pb::GetJobRequest { job_id: id.clone() })).await?.into_inner().job;
        let job = job.expect("found");
        let cancelled = job.finished_ms == 0;
        if cancelled {
            let class = if job.current_node.is_empty() { "" } else { "KSampler" };
            let at = pb::Cancelled { node_id: job.current_node, class: class.into() };
            self.happen(&id, Kind::Cancelled(at));
        }
        let job = self.get_job(Request::new(pb::GetJobRequest { job_id: id })).await?.into_inner().job;
        Ok(Response::new(pb::CancelJobResponse { job, cancelled }))
    }

    async fn move_job(
        &self,
        request: Request<pb::MoveJobRequest>,
    ) -> Result<Response<pb::MoveJobResponse>, Status> {
        let pb::MoveJobRequest { job_id, before_job_id } = request.into_inner();
        let find = |id: &str| self.get_job(Request::new(pb::GetJobRequest { job_id: id.into() }));
        let job = find(&job_id).await?.into_inner().job.expect("found");
        if job.status() != JobStatus::Queued {
            return Err(Status::failed_precondition(format!("job `{job_id}` does not wait")));
        }
        let number = match before_job_id.as_str() {
            "" => 100.0,
            before => find(before).await?.into_inner().job.expect("found").number - 0.5,
        };
        self.happen(&job_id, Kind::Moved(pb::Moved { number }));
        Ok(Response::new(pb::MoveJobResponse { job: find(&job_id).await?.into_inner().job }))
    }

    async fn delete_jobs(
        &self,
        request: Request<pb::DeleteJobsRequest>,
    ) -> Result<Response<pb::DeleteJobsResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.state.lock().unwrap();
        let before = state.jobs.len();
        state.jobs.retain(|job| job.finished_ms == 0 || !(request.all || request.job_ids.contains(&job.id)));
        Ok(Response::new(pb::DeleteJobsResponse { deleted: (before - state.jobs.len()) as u32 }))
    }

    async fn watch_job(
        &self,
        request: Request<pb::WatchJobRequest>,
    ) -> Result<Response<EventStream>, Status> {
        self.check()?;
        let request = request.into_inner();
        let wanted = move |event: &JobEvent| request.job_id.is_empty() || request.job_id == event.job_id;
        let (sender, receiver) = mpsc::channel(256);
        let mut live = self.live.subscribe();
        let mut past: Vec<JobEvent> = if request.live_only {
            Vec::new()
        } else {
            let state = self.state.lock().unwrap();
            state.jobs.iter().flat_map(|job| job.durable_events.clone()).collect()
        };
        past.retain(|event| event.seq > request.after_seq && wanted(event));
        past.sort_by_key(|event| event.seq);
        tokio::spawn(async move {
            let mut last = 0;
            for event in past {
                last = event.seq;
                let _ = sender.send(Ok(pb::WatchJobResponse { event: Some(event) })).await;
            }
            while let Ok(event) = live.recv().await {
                if event.seq > last && wanted(&event) {
                    let response = Ok(pb::WatchJobResponse { event: Some(event) });
                    if sender.send(response).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn list_nodes(
        &self,
        _: Request<pb::ListNodesRequest>,
    ) -> Result<Response<pb::ListNodesResponse>, Status> {
        self.check()?;
        let node = pb::CatalogNode { stage: "stage-image".into(), spec: Some((&save_image()).into()) };
        Ok(Response::new(pb::ListNodesResponse { nodes: vec![node] }))
    }

    async fn list_models(
        &self,
        request: Request<ListModelsRequest>,
    ) -> Result<Response<ListModelsResponse>, Status> {
        self.check()?;
        let models = match request.into_inner().folder.as_str() {
            "checkpoints" => {
                vec![ModelFile { has_cover: true, ..model("checkpoints", "sub/tiny.safetensors") }]
            }
            "embeddings" => vec![model("embeddings", "sub/v1.5.pt")],
            "gligen" => return Err(Status::not_found("no folder `gligen`")),
            _ => Vec::new(),
        };
        Ok(Response::new(ListModelsResponse { models }))
    }

    async fn get_model_metadata(
        &self,
        request: Request<GetModelMetadataRequest>,
    ) -> Result<Response<GetModelMetadataResponse>, Status> {
        self.check()?;
        let GetModelMetadataRequest { folder, name, cover } = request.into_inner();
        if cover && name == "sub/tiny.safetensors" {
            // The same picture, beside the file.
            let list: Vec<String> = serde_json::from_str(COVER).unwrap();
            let cover = base64::engine::general_purpose::STANDARD.decode(&list[0]).unwrap();
            return Ok(Response::new(GetModelMetadataResponse { cover, ..Default::default() }));
        }
        let metadata_json = match (folder.as_str(), name.as_str()) {
            ("checkpoints", "sub/tiny.safetensors" | "sd15_random.safetensors") => {
                r#"{"format":"pt"}"#.into()
            }
            ("checkpoints", "silent.safetensors") => String::new(),
            ("checkpoints", "cover.safetensors") => json!({"ssmd_cover_images": COVER}).to_string(),
            _ => return Err(Status::not_found(format!("there is no file `{name}` in `{folder}`"))),
        };
        Ok(Response::new(GetModelMetadataResponse { metadata_json, cover: Vec::new() }))
    }

    async fn free_memory(
        &self,
        request: Request<pb::FreeMemoryRequest>,
    ) -> Result<Response<pb::FreeMemoryResponse>, Status> {
        self.check()?;
        self.state.lock().unwrap().freed.push(request.into_inner());
        Ok(Response::new(pb::FreeMemoryResponse::default()))
    }

    async fn convert_workflow(
        &self,
        request: Request<pb::ConvertWorkflowRequest>,
    ) -> Result<Response<pb::ConvertWorkflowResponse>, Status> {
        let workflow: Value = serde_json::from_str(&request.into_inner().workflow_json).unwrap();
        let Some(nodes) = workflow["nodes"].as_array() else {
            return Err(Status::invalid_argument("`nodes` is missing"));
        };
        let graph: serde_json::Map<String, Value> = nodes
            .iter()
            .map(|node| (node["id"].to_string(), json!({"class_type": node["type"], "inputs": {}})))
            .collect();
        Ok(Response::new(pb::ConvertWorkflowResponse { graph_json: Value::Object(graph).to_string() }))
    }

    async fn get_system(
        &self,
        _: Request<pb::GetSystemRequest>,
    ) -> Result<Response<pb::GetSystemResponse>, Status> {
        self.check()?;
        let state = self.state.lock().unwrap();
        let count = |status: JobStatus| state.jobs.iter().filter(|job| job.status() == status).count() as u32;
        Ok(Response::new(pb::GetSystemResponse {
            version: "0.1.0".into(),
            services: vec![pb::ServiceState {
                name: "stage-sampler".into(),
                address: "127.0.0.1:9091".into(),
                serving: true,
                detail: "cpu float32".into(),
            }],
            running: count(JobStatus::Running),
            pending: count(JobStatus::Queued),
        }))
    }
}
