//! The gRPC service of a stage.

use crate::node::{Node, NodeError, StageState};
use crate::runner::{Events, Runner};
use comfy_artifacts::Store;
use comfy_graph::NodeSpec;
use comfy_graph::spec::{InputSpec, Widget};
use comfy_proto::MAX_MESSAGE_BYTES;
use comfy_proto::stage as pb;
use comfy_proto::stage::stage_runner_service_server::{StageRunnerService, StageRunnerServiceServer};
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status};

/// Groups that may wait for a free worker before a call is refused.
const QUEUE_LENGTH: usize = 16;
/// Events that may wait for a slow listener.
const EVENT_BUFFER: usize = 64;

/// A stage: nodes, state and the artifact store, ready to serve.
pub struct StageServer<S: StageState> {
    runner: Arc<Runner<S>>,
    nodes: &'static [&'static dyn Node<S>],
    work: mpsc::Sender<Work>,
}

struct Work {
    request: pb::RunStageRequest,
    events: Events,
}

impl<S: StageState> StageServer<S> {
    /// Starts `workers` compute threads (at least one) for the nodes. Call it inside a tokio runtime.
    ///
    /// # Panics
    /// When two nodes have the same class: a mistake in the node tables that any test finds.
    pub fn new(state: Arc<S>, store: Store, nodes: &'static [&'static dyn Node<S>], workers: usize) -> Self {
        let mut by_class = HashMap::new();
        for &node in nodes {
            let spec = node.spec();
            let class = spec.class.clone();
            assert!(by_class.insert(class.clone(), (node, spec)).is_none(), "two nodes are called `{class}`");
        }
        let handle = tokio::runtime::Handle::current();
        let runner = Arc::new(Runner { state, nodes: by_class, store, handle });
        let (work, queue) = mpsc::channel::<Work>(QUEUE_LENGTH);
        let queue = Arc::new(std::sync::Mutex::new(queue));
        for i in 0..workers.max(1) {
            let (runner, queue) = (runner.clone(), queue.clone());
            std::thread::Builder::new()
                .name(format!("compute-{i}"))
                .spawn(move || compute(&runner, &queue))
                .expect("a thread can be started when the process starts");
        }
        Self { runner, nodes, work }
    }

    /// Serves on a listener until `shutdown` resolves. Health is `SERVING` from the start.
    ///
    /// # Errors
    /// When the transport fails.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), tonic::transport::Error> {
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<StageRunnerServiceServer<Self>>().await;
        let service = StageRunnerServiceServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(std::time::Duration::from_secs(10)))
            .add_service(health_service)
            .add_service(service)
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), shutdown)
            .await
    }

    /// Fills the file lists of a spec with what is on disk now.
    fn with_options(&self, mut spec: NodeSpec) -> NodeSpec {
        self.fill_options(&mut spec.inputs);
        spec
    }

    fn fill_options(&self, inputs: &mut [InputSpec]) {
        for input in inputs {
            let (folder, files) = match &mut input.widget {
                Some(Widget::DynamicCombo { options }) => {
                    options.iter_mut().for_each(|option| self.fill_options(&mut option.inputs));
                    continue;
                }
                Some(Widget::Combo { options, folder: Some(folder), .. }) => (folder, options),
                Some(Widget::Text { mentions: Some(mentions), .. }) => {
                    (&mut mentions.folder, &mut mentions.files)
                }
                _ => continue,
            };
            if let Some(found) = self.runner.state.options(folder) {
                *files = found;
            }
        }
    }
}

/// One compute thread: takes the next group and runs it to its end.
fn compute<S: StageState>(runner: &Runner<S>, queue: &std::sync::Mutex<mpsc::Receiver<Work>>) {
    loop {
        let next = queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).blocking_recv();
        let Some(Work { request, events }) = next else { return };
        // The caller may have given up while the group waited.
        if events.is_closed() {
            continue;
        }
        let span = tracing::info_span!("group", job = %request.job_id, group = %request.group_id, attempt = request.attempt);
        let _entered = span.enter();
        let started = std::time::Instant::now();
        match runner.run(&request, &events) {
            Ok(()) => tracing::info!(nodes = request.nodes.len(), elapsed = ?started.elapsed(), "group done"),
            Err(error) => error.report(&events),
        }
    }
}

#[tonic::async_trait]
impl<S: StageState> StageRunnerService for StageServer<S> {
    type RunStageStream = ReceiverStream<Result<pb::RunStageResponse, Status>>;

    async fn describe_nodes(
        &self,
        _request: Request<pb::DescribeNodesRequest>,
    ) -> Result<Response<pb::DescribeNodesResponse>, Status> {
        let state = &self.runner.state;
        let nodes = self.nodes.iter().map(|node| (&self.with_options(node.spec())).into()).collect();
        let (stage, fingerprint) = (state.name().to_owned(), state.fingerprint());
        Ok(Response::new(pb::DescribeNodesResponse { stage, fingerprint, nodes }))
    }

    async fn run_stage(
        &self,
        request: Request<pb::RunStageRequest>,
    ) -> Result<Response<Self::RunStageStream>, Status> {
        let request = request.into_inner();
        let (events, stream) = mpsc::channel(EVENT_BUFFER);
        self.work.try_send(Work { request, events }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Status::resource_exhausted("the stage's queue is full"),
            mpsc::error::TrySendError::Closed(_) => Status::unavailable("the stage is shutting down"),
        })?;
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn list_models(
        &self,
        request: Request<pb::ListModelsRequest>,
    ) -> Result<Response<pb::ListModelsResponse>, Status> {
        let (state, folder) = (self.runner.state.clone(), request.into_inner().folder);
        let models = tokio::task::spawn_blocking(move || state.models(&folder))
            .await
            .map_err(|_| Status::internal("listing the models panicked"))?;
        Ok(Response::new(pb::ListModelsResponse { models }))
    }

    async fn get_model_metadata(
        &self,
        request: Request<pb::GetModelMetadataRequest>,
    ) -> Result<Response<pb::GetModelMetadataResponse>, Status> {
        let (state, request) = (self.runner.state.clone(), request.into_inner());
        let read = move || {
            if request.cover
                && let Some(cover) = state.model_cover(&request.folder, &request.name)
            {
                return Ok((BTreeMap::new(), cover));
            }
            Ok((state.model_metadata(&request.folder, &request.name)?, Vec::new()))
        };
        let (metadata, cover) = tokio::task::spawn_blocking(read)
            .await
            .map_err(|_| Status::internal("reading the file panicked"))?
            .map_err(|error: NodeError| comfy_proto::status::to_status(error.code, error.message))?;
        let metadata_json =
            if metadata.is_empty() { String::new() } else { serde_json::json!(metadata).to_string() };
        Ok(Response::new(pb::GetModelMetadataResponse { metadata_json, cover }))
    }

    async fn free_memory(
        &self,
        _request: Request<pb::FreeMemoryRequest>,
    ) -> Result<Response<pb::FreeMemoryResponse>, Status> {
        let state = self.runner.state.clone();
        // A model that is being loaded holds the cache, so this may wait.
        let freed_bytes = tokio::task::spawn_blocking(move || state.free_memory())
            .await
            .map_err(|_| Status::internal("forgetting the models panicked"))?;
        tracing::info!(freed_bytes, "models forgotten");
        Ok(Response::new(pb::FreeMemoryResponse { freed_bytes }))
    }
}
