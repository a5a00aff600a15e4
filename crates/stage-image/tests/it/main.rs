//! The image stage over gRPC on a free port, as the orchestrator uses it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod goldens;
mod nodes;
mod saving;
mod saving_advanced;
mod texts;

use std::collections::HashMap;
use std::path::PathBuf;

use comfy_artifacts::{HostTensor, Store};
use comfy_graph::{ErrorCode, Literal, NodeSpec, Value};
use comfy_imaging::{Channels, PixelView, encode_png};
use comfy_proto::stage as pb;
use comfy_proto::stage::run_stage_response::Event;
use comfy_proto::stage::stage_runner_service_client::StageRunnerServiceClient;
use comfy_stage::{Data, codec};
use tempfile::TempDir;

/// A running stage with its own folders.
struct Stage {
    folder: TempDir,
    client: StageRunnerServiceClient<tonic::transport::Channel>,
    store: Store,
}

/// What running a group gave.
#[derive(Debug)]
struct Ran {
    outputs: HashMap<String, pb::NodeDone>,
    failure: Option<(ErrorCode, String)>,
}

impl Stage {
    async fn start() -> Self {
        use clap::Parser as _;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let config = comfy_stage_image::Config::parse_from([
            "stage-image".to_owned(),
            format!("--artifacts-root={}", path("artifacts")),
            format!("--input-dir={}", path("input")),
            format!("--output-dir={}", path("output")),
            format!("--temp-dir={}", path("temp")),
        ]);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(comfy_stage_image::run(config, listener, std::future::pending()));
        let client = StageRunnerServiceClient::connect(format!("http://{address}")).await.unwrap();
        let store = Store::open(&folder.path().join("artifacts")).unwrap();
        Self { folder, client, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn input_file(&self, name: &str, bytes: &[u8]) {
        std::fs::create_dir_all(self.path("input")).unwrap();
        std::fs::write(self.path("input").join(name), bytes).unwrap();
    }

    async fn specs(&mut self) -> Vec<NodeSpec> {
        let answer = self.client.describe_nodes(pb::DescribeNodesRequest {}).await.unwrap().into_inner();
        assert_eq!(answer.stage, "image");
        answer.nodes.into_iter().map(|node| NodeSpec::try_from(node).unwrap()).collect()
    }

    async fn spec(&mut self, class: &str) -> NodeSpec {
        self.specs()
            .await
            .into_iter()
            .find(|spec| spec.class == class)
            .unwrap_or_else(|| panic!("no `{class}`"))
    }

    /// Runs a group for a job, with a small workflow to be stored in pictures.
    async fn run(&mut self, job: &str, nodes: Vec<pb::StageNode>) -> Ran {
        let request = pb::RunStageRequest {
            job_id: job.into(),
            group_id: "1".into(),
            attempt: 1,
            nodes,
            prompt_json: r#"{"3":{"class_type":"KSampler","inputs":{"cfg":7.0,"text":"ü"}}}"#.into(),
            extra_pnginfo_json: r#"{"workflow":{"nodes":[],"ü":1},"more":2}"#.into(),
            previews: false,
        };
        let mut events = self.client.run_stage(request).await.unwrap().into_inner();
        let mut ran = Ran { outputs: HashMap::new(), failure: None };
        loop {
            // The status that ends a failed call repeats the failed event.
            let Ok(Some(response)) = events.message().await else { return ran };
            match response.event {
                Some(Event::Done(done)) => {
                    ran.outputs.insert(response.node_id, done);
                }
                Some(Event::Failed(failed)) => ran.failure = Some((failed.code().into(), failed.message)),
                _ => {}
            }
        }
    }

    async fn output(&self, ran: &Ran, node: &str, slot: u32) -> Data {
        assert!(ran.failure.is_none(), "{:?}", ran.failure);
        let value = Value::try_from(ran.outputs[node].outputs[&slot].clone()).unwrap();
        codec::fetch(&value, &self.store).await.unwrap()
    }

    /// Stores an IMAGE as another stage would.
    async fn image(&self, shape: [usize; 4], samples: Vec<f32>) -> pb::InputBinding {
        let image = Data::Image(HostTensor::new(shape.to_vec(), samples).unwrap());
        bind(codec::publish(&image, &self.store).await.unwrap())
    }
}

fn bind(value: Value) -> pb::InputBinding {
    pb::InputBinding { source: Some(pb::input_binding::Source::Value((&value).into())) }
}

fn literal(value: impl Into<LiteralValue>) -> pb::InputBinding {
    bind(Value::Literal(value.into().0))
}

struct LiteralValue(Literal);

impl From<&str> for LiteralValue {
    fn from(text: &str) -> Self {
        Self(Literal::Text(text.into()))
    }
}

impl From<Literal> for LiteralValue {
    fn from(literal: Literal) -> Self {
        Self(literal)
    }
}

impl From<i128> for LiteralValue {
    fn from(number: i128) -> Self {
        Self(Literal::Int(number))
    }
}

fn link(node: &str, slot: u32) -> pb::InputBinding {
    let link = pb::LocalLink { node_id: node.into(), slot };
    pb::InputBinding { source: Some(pb::input_binding::Source::Local(link)) }
}

fn node(id: &str, class: &str, publish: &[u32], inputs: Vec<(&str, pb::InputBinding)>) -> pb::StageNode {
    let inputs = inputs.into_iter().map(|(name, binding)| (name.to_owned(), binding)).collect();
    pb::StageNode {
        node_id: id.into(),
        class: class.into(),
        inputs,
        publish: publish.to_vec(),
        ..Default::default()
    }
}

fn png(width: usize, height: usize, channels: Channels, levels: &[u8]) -> Vec<u8> {
    encode_png(PixelView::new(width, height, channels, levels).unwrap(), &[], 4).unwrap()
}
