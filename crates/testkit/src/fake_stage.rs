//! A stage service that computes nothing: it answers as told, can be held, failed, killed and brought back.
//!
//! What a fake node "computes" is a text that depends only on its class and inputs, so equal work gives equal
//! results and a test can see what reached whom.

use comfy_graph::{
    ArtifactRef, DType, Digest, ErrorCode, InputSpec, Literal, Media, NodeSpec, OutputSpec, Value,
};
use comfy_proto::stage as pb;
use comfy_proto::stage::stage_runner_service_server::{StageRunnerService, StageRunnerServiceServer};
use comfy_proto::status::to_status;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tonic::{Request, Response, Status};

/// What every node says that it took.
pub const PEAK_BYTES: u64 = 5 << 20;

/// A fake stage and what it has seen. It lives in a runtime of its own, so that killing it cuts every connection.
pub struct FakeStage {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

struct Shared {
    name: String,
    fingerprint: Mutex<String>,
    specs: Vec<NodeSpec>,
    models: Vec<pb::ModelFile>,
    failures: Mutex<HashMap<String, VecDeque<(ErrorCode, String)>>>,
    calls: Mutex<Vec<pb::RunStageRequest>>,
    started: watch::Sender<HashMap<String, usize>>,
    held: watch::Sender<HashSet<String>>,
}

impl FakeStage {
    /// Starts a stage on a free port.
    pub fn start(name: &str, specs: Vec<NodeSpec>) -> Self {
        let shared = Arc::new(Shared {
            name: name.into(),
            fingerprint: Mutex::new("fake".into()),
            specs,
            models: vec![pb::ModelFile {
                folder: "checkpoints".into(),
                name: format!("{name}.safetensors"),
                ..Default::default()
            }],
            failures: Mutex::default(),
            calls: Mutex::default(),
            started: watch::Sender::default(),
            held: watch::Sender::default(),
        });
        let (address, runtime) = serve(shared.clone(), SocketAddr::from(([127, 0, 0, 1], 0)));
        Self { address, shared, runtime: Some(runtime) }
    }

    /// A sampler stage with [`sampler_specs`].
    pub fn sampler() -> Self {
        Self::start("sampler", sampler_specs())
    }

    /// An image stage with [`image_specs`].
    pub fn image() -> Self {
        Self::start("image", image_specs())
    }

    /// Where the stage answers, also after a restart.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes the next run of a class fail. Several failures are used up in order.
    pub fn fail_next(&self, class: &str, code: ErrorCode, message: &str) {
        let mut failures = self.shared.failures.lock().expect("no holder panics");
        failures.entry(class.into()).or_default().push_back((code, message.into()));
    }

    /// Makes every node of a class wait after it has started.
    pub fn hold(&self, class: &str) {
        self.shared.held.send_modify(|held| {
            held.insert(class.into());
        });
    }

    /// Lets the nodes of a class go on.
    pub fn release(&self, class: &str) {
        self.shared.held.send_modify(|held| {
            held.remove(class);
        });
    }

    /// Waits until nodes of a class have been started this many times in all.
    pub async fn wait_started(&self, class: &str, times: usize) {
        let mut started = self.shared.started.subscribe();
        let enough = started.wait_for(|counts| counts.get(class).copied().unwrap_or_default() >= times);
        tokio::time::timeout(Duration::from_secs(30), enough)
            .await
            .unwrap_or_else(|_| panic!("`{class}` was not started {times} times within 30 s"))
            .expect("the stage outlives its waiters");
    }

    /// How often nodes of a class have been started.
    pub fn started(&self, class: &str) -> usize {
        self.shared.started.borrow().get(class).copied().unwrap_or_default()
    }

    /// Every call so far.
    pub fn calls(&self) -> Vec<pb::RunStageRequest> {
        self.shared.calls.lock().expect("no holder panics").clone()
    }

    /// Makes every result different from now on, as another device would.
    pub fn set_fingerprint(&self, fingerprint: &str) {
        *self.shared.fingerprint.lock().expect("no holder panics") = fingerprint.into();
    }

    /// Ends the stage as a crash does: nothing is finished and every connection is cut.
    pub fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Brings a killed stage back at the same address.
    pub fn restart(&mut self) {
        self.kill();
        let (_, runtime) = serve(self.shared.clone(), self.address);
        self.runtime = Some(runtime);
    }
}

impl Drop for FakeStage {
    fn drop(&mut self) {
        self.kill();
    }
}

fn serve(shared: Arc<Shared>, address: SocketAddr) -> (SocketAddr, Runtime) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime can be made");
    let listener = bind(address);
    let address = listener.local_addr().expect("a bound listener has an address");
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("the listener does not block");
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<StageRunnerServiceServer<Service>>().await;
        tonic::transport::Server::builder()
            .add_service(health_service)
            .add_service(StageRunnerServiceServer::new(Service { shared }))
            .serve_with_incoming(incoming)
            .await
            .expect("a loopback listener keeps working");
    });
    (address, runtime)
}

/// Binds, waiting for a killed predecessor to let go of the port.
fn bind(address: SocketAddr) -> std::net::TcpListener {
    let mut tries = 0;
    loop {
        match std::net::TcpListener::bind(address) {
            Ok(listener) => {
                listener.set_nonblocking(true).expect("sockets can be non-blocking");
                return listener;
            }
            Err(error) if tries < 500 && error.kind() == std::io::ErrorKind::AddrInUse => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => panic!("cannot bind {address}: {error}"),
        }
    }
}

struct Service {
    shared: Arc<Shared>,
}

#[tonic::async_trait]
impl StageRunnerService for Service {
    async fn describe_nodes(
        &self,
        _request: Request<pb::DescribeNodesRequest>,
    ) -> Result<Response<pb::DescribeNodesResponse>, Status> {
        Ok(Response::new(pb::DescribeNodesResponse {
            stage: self.shared.name.clone(),
            fingerprint: self.shared.fingerprint.lock().expect("no holder panics").clone(),
            nodes: self.shared.specs.iter().map(Into::into).collect(),
        }))
    }

    type RunStageStream = BoxStream<'static, Result<pb::RunStageResponse, Status>>;

    async fn run_stage(
        &self,
        request: Request<pb::RunStageRequest>,
    ) -> Result<Response<Self::RunStageStream>, Status> {
        let request = request.into_inner();
        self.shared.calls.lock().expect("no holder panics").push(request.clone());
        let (events, stream) = mpsc::channel(16);
        let shared = self.shared.clone();
        tokio::spawn(async move {
            let watcher = events.clone();
            tokio::select! {
                result = run(&shared, request, &events) => if let Err(status) = result {
                    // The caller may have gone.
                    let _ = events.send(Err(status)).await;
                },
                () = watcher.closed() => {}
            }
        });
        Ok(Response::new(tokio_stream::wrappers::ReceiverStream::new(stream).boxed()))
    }

    async fn list_models(
        &self,
        request: Request<pb::ListModelsRequest>,
    ) -> Result<Response<pb::ListModelsResponse>, Status> {
        let folder = request.into_inner().folder;
        let wanted = |model: &&pb::ModelFile| folder.is_empty() || model.folder == folder;
        Ok(Response::new(pb::ListModelsResponse {
            models: self.shared.models.iter().filter(wanted).cloned().collect(),
        }))
    }

    async fn get_model_metadata(
        &self,
        request: Request<pb::GetModelMetadataRequest>,
    ) -> Result<Response<pb::GetModelMetadataResponse>, Status> {
        let pb::GetModelMetadataRequest { folder, name, .. } = request.into_inner();
        match self.shared.models.iter().find(|model| model.folder == folder && model.name == name) {
            Some(_) => {
                let metadata_json = serde_json::json!({"stage": self.shared.name}).to_string();
                Ok(Response::new(pb::GetModelMetadataResponse { metadata_json, ..Default::default() }))
            }
            None => Err(Status::not_found(format!("there is no file `{name}` in `{folder}`"))),
        }
    }

    async fn free_memory(
        &self,
        _request: Request<pb::FreeMemoryRequest>,
    ) -> Result<Response<pb::FreeMemoryResponse>, Status> {
        Ok(Response::new(pb::FreeMemoryResponse { freed_bytes: 1000 }))
    }
}

type Events = mpsc::Sender<Result<pb::RunStageResponse, Status>>;

async fn run(shared: &Shared, request: pb::RunStageRequest, events: &Events) -> Result<(), Status> {
    let mut outputs: HashMap<(String, u32), comfy_proto::graph::Value> = HashMap::new();
    for node in request.nodes {
        run_node(shared, node, &mut outputs, events).await?;
    }
    Ok(())
}

async fn run_node(
    shared: &Shared,
    node: pb::StageNode,
    outputs: &mut HashMap<(String, u32), comfy_proto::graph::Value>,
    events: &Events,
) -> Result<(), Status> {
    use pb::run_stage_response::Event;
    let id = node.node_id.clone();
    let say = |event| {
        let response = pb::RunStageResponse { node_id: id.clone(), event: Some(event) };
        async { events.send(Ok(response)).await.map_err(|_| Status::cancelled("the caller has gone")) }
    };
    let spec = shared.specs.iter().find(|spec| spec.class == node.class);
    let spec =
        spec.ok_or_else(|| Status::invalid_argument(format!("there is no node class `{}`", node.class)))?;
    say(Event::Started(pb::NodeStarted {})).await?;
    shared.started.send_modify(|counts| *counts.entry(node.class.clone()).or_default() += 1);
    let mut held = shared.held.subscribe();
    held.wait_for(|held| !held.contains(&node.class))
        .await
        .map_err(|_| Status::cancelled("the stage has gone"))?;

    let inputs = resolve(&node, outputs)?;
    let steps = steps(&inputs);
    for step in 1..=steps {
        say(Event::Progress(pb::NodeProgress { value: step, max: steps })).await?;
        if step == 1 {
            say(Event::Preview(pb::NodePreview { mime: "image/jpeg".into(), data: vec![0xff, 0xd8] }))
                .await?;
        }
    }
    let failure =
        shared.failures.lock().expect("no holder panics").get_mut(&node.class).and_then(VecDeque::pop_front);
    if let Some((code, message)) = failure {
        let failed = pb::NodeFailed {
            code: comfy_proto::graph::ErrorCode::from(code).into(),
            message: message.clone(),
        };
        say(Event::Failed(failed)).await?;
        return Err(to_status(code, message));
    }
    let text = describe(&node.class, &inputs);
    let mut published = HashMap::new();
    for (slot, output) in (0u32..).zip(&spec.outputs) {
        let value = make_value(&output.socket, &format!("{text}#{slot}"));
        if node.publish.contains(&slot) {
            published.insert(slot, value.clone());
        }
        outputs.insert((id.clone(), slot), value);
    }
    let ui_json = if spec.output_node { shown(&text) } else { String::new() };
    say(Event::Done(pb::NodeDone { outputs: published, ui_json, peak_bytes: PEAK_BYTES })).await
}

fn resolve(
    node: &pb::StageNode,
    outputs: &HashMap<(String, u32), comfy_proto::graph::Value>,
) -> Result<Vec<(String, Value)>, Status> {
    use pb::input_binding::Source;
    let mut inputs = Vec::new();
    for (name, binding) in &node.inputs {
        let value = match binding.source.clone() {
            Some(Source::Value(value)) => value,
            Some(Source::Local(link)) => {
                let missing = || {
                    Status::invalid_argument(format!(
                        "`{name}` comes from node `{}`, which has not run",
                        link.node_id
                    ))
                };
                outputs.get(&(link.node_id.clone(), link.slot)).cloned().ok_or_else(missing)?
            }
            None => return Err(Status::invalid_argument(format!("`{name}` has no source"))),
        };
        inputs.push((name.clone(), Value::try_from(value)?));
    }
    inputs.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(inputs)
}

fn steps(inputs: &[(String, Value)]) -> u64 {
    let steps = inputs.iter().find(|(name, _)| name == "steps");
    match steps {
        Some((_, Value::Literal(Literal::Int(steps)))) => u64::try_from(*steps).unwrap_or_default(),
        _ => 0,
    }
}

fn describe(class: &str, inputs: &[(String, Value)]) -> String {
    let text = inputs.iter().map(|(name, value)| format!("{name}={value:?};")).collect::<String>();
    format!("{class}:{}", &Digest::of(text.as_bytes()).as_str()[..16])
}

fn make_value(socket: &str, text: &str) -> comfy_proto::graph::Value {
    let value = match socket {
        "IMAGE" | "MASK" => Value::Artifact(ArtifactRef {
            digest: Digest::of(text.as_bytes()),
            bytes: text.len() as u64,
            media: Media::Tensor { dtype: DType::F32, shape: vec![1, 8, 8, 3] },
        }),
        "MODEL" | "CLIP" | "VAE" => Value::Recipe(serde_json::json!({"made_by": text})),
        _ => Value::Literal(Literal::Text(text.into())),
    };
    (&value).into()
}

fn shown(text: &str) -> String {
    let filename = format!("{}.png", text.replace(':', "_"));
    serde_json::json!({"images": [{"filename": filename, "subfolder": "", "type": "output"}]}).to_string()
}

/// `Load` -> MODEL, CLIP, VAE; `Encode` -> CONDITIONING; `Sample` -> LATENT; `Decode` -> IMAGE.
pub fn sampler_specs() -> Vec<NodeSpec> {
    vec![
        spec("Load", vec![InputSpec::text("name", "")], &["MODEL", "CLIP", "VAE"]),
        spec("Encode", vec![InputSpec::prompt("text"), InputSpec::socket("clip", "CLIP")], &["CONDITIONING"]),
        spec(
            "Sample",
            vec![
                InputSpec::socket("model", "MODEL"),
                InputSpec::socket("positive", "CONDITIONING"),
                InputSpec::seed("seed"),
                InputSpec::int("steps", 2, (1, 10_000), 1),
            ],
            &["LATENT"],
        ),
        spec(
            "Decode",
            vec![InputSpec::socket("samples", "LATENT"), InputSpec::socket("vae", "VAE")],
            &["IMAGE"],
        ),
    ]
}

/// `Invert` IMAGE -> IMAGE; `Save`, an output node.
pub fn image_specs() -> Vec<NodeSpec> {
    let save =
        spec("Save", vec![InputSpec::socket("images", "IMAGE"), InputSpec::text("prefix", "out")], &[]);
    vec![
        spec("Invert", vec![InputSpec::socket("image", "IMAGE")], &["IMAGE"]),
        NodeSpec { output_node: true, ..save },
    ]
}

fn spec(class: &str, inputs: Vec<InputSpec>, outputs: &[&str]) -> NodeSpec {
    let outputs = outputs.iter().map(|socket| OutputSpec::of(socket)).collect();
    NodeSpec {
        class: class.into(),
        display_name: class.into(),
        category: "fake".into(),
        inputs,
        outputs,
        ..NodeSpec::default()
    }
}

/// A workflow over both stages: load 1, encode 2, sample 3, decode 4, invert 5, save 6.
pub fn text_to_image(seed: u64) -> serde_json::Value {
    serde_json::json!({
        "1": {"class_type": "Load", "inputs": {"name": "tiny"}},
        "2": {"class_type": "Encode", "inputs": {"text": "a cat", "clip": ["1", 1]}},
        "3": {"class_type": "Sample", "inputs": {"model": ["1", 0], "positive": ["2", 0], "seed": seed, "steps": 2}},
        "4": {"class_type": "Decode", "inputs": {"samples": ["3", 0], "vae": ["1", 2]}},
        "5": {"class_type": "Invert", "inputs": {"image": ["4", 0]}},
        "6": {"class_type": "Save", "inputs": {"images": ["5", 0], "prefix": "out"}},
    })
}
