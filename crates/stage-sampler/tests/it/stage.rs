//! A stage on a free port, and a small language for the groups it is sent.

use clap::Parser;
use comfy_artifacts::{HostTensor, Store};
use comfy_graph::{Literal, Value};
use comfy_proto::stage::input_binding::Source;
use comfy_proto::stage::run_stage_response::Event;
use comfy_proto::stage::stage_runner_service_client::StageRunnerServiceClient;
use comfy_proto::stage::{InputBinding, LocalLink, RunStageRequest, StageNode};
use comfy_stage::{Data, codec};
use comfy_stage_sampler::Config;
use std::collections::HashMap;
use std::path::PathBuf;

pub const CHECKPOINT: &str = "tiny.safetensors";

/// A running stage; its server ends with the test's runtime.
pub struct Stage {
    address: String,
    store: Store,
    folder: tempfile::TempDir,
}

/// One input of a node.
#[derive(Clone)]
pub enum Give<'a> {
    Int(i128),
    Float(f64),
    Bool(bool),
    Text(&'a str),
    /// An output of an earlier node.
    Link(&'a str, u32),
    /// A value that an earlier group published.
    Value(Value),
}

/// A node of a group; its first output is published when its id starts with a capital letter.
pub struct Step<'a>(pub &'a str, pub &'a str, pub Vec<(&'a str, Give<'a>)>);

impl Stage {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = folder.path().join("checkpoints");
        std::fs::create_dir_all(&checkpoints).unwrap();
        comfy_testkit::random_checkpoint::write_tiny(&checkpoints.join(CHECKPOINT)).unwrap();
        let artifacts = folder.path().join("artifacts");
        let config = Config::parse_from([
            "stage-sampler",
            "--models-dir",
            folder.path().to_str().unwrap(),
            "--output-dir",
            folder.path().join("output").to_str().unwrap(),
            "--artifacts-root",
            artifacts.to_str().unwrap(),
        ]);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(comfy_stage_sampler::run(config, listener, std::future::pending()));
        Self { address, store: Store::open(&artifacts).unwrap(), folder }
    }

    /// Puts a control network where the stage looks for them.
    pub fn write_control(&self, name: &str, file: &comfy_testkit::random_checkpoint::ControlFile) {
        file.write(&self.place("controlnet", name)).unwrap();
    }

    /// Runs a group and returns what its published outputs carry, by node and slot.
    pub async fn publish(&self, steps: Vec<Step<'_>>) -> Result<HashMap<(String, u32), Value>, String> {
        let nodes = steps.into_iter().map(stage_node).collect();
        let request = RunStageRequest { nodes, job_id: "job".into(), ..RunStageRequest::default() };
        let mut client = StageRunnerServiceClient::connect(self.address.clone()).await.unwrap();
        let mut events = client.run_stage(request).await.unwrap().into_inner();
        let mut published = HashMap::new();
        while let Some(event) = events.message().await.map_err(|status| status.message().to_owned())? {
            match event.event {
                Some(Event::Done(done)) => {
                    for (slot, value) in done.outputs {
                        published.insert((event.node_id.clone(), slot), Value::try_from(value).unwrap());
                    }
                }
                Some(Event::Failed(failed)) => return Err(failed.message),
                _ => (),
            }
        }
        Ok(published)
    }

    /// Where to put a model file so that the stage finds it.
    pub fn place(&self, folder: &str, name: &str) -> PathBuf {
        let folder = self.folder.path().join(folder);
        std::fs::create_dir_all(&folder).unwrap();
        folder.join(name)
    }

    /// Writes a file of one of the stage's model folders.
    pub fn save(&self, folder: &str, file: &str, tensors: &HashMap<String, candle_core::Tensor>) {
        candle_core::safetensors::save(tensors, self.place(folder, file)).unwrap();
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    pub async fn fetch(&self, value: &Value) -> Data {
        codec::fetch(value, &self.store).await.unwrap()
    }

    /// Runs a group and returns the latents of the named nodes, by their first outputs.
    pub async fn latents<const N: usize>(&self, steps: Vec<Step<'_>>, names: [&str; N]) -> [HostTensor; N] {
        let published = self.publish(steps).await.unwrap();
        let mut latents = Vec::new();
        for name in names {
            latents.push(self.latent(&published[&(name.to_owned(), 0)]).await);
        }
        latents.try_into().unwrap()
    }

    pub async fn latent(&self, value: &Value) -> HostTensor {
        match self.fetch(value).await {
            Data::Latent(latent) => latent.samples,
            other => panic!("expected a latent, got {}", other.kind()),
        }
    }
}

fn stage_node(Step(id, class, inputs): Step<'_>) -> StageNode {
    let binding = |give: Give<'_>| {
        let literal = |literal| Source::Value((&Value::Literal(literal)).into());
        let source = match give {
            Give::Int(value) => literal(Literal::Int(value)),
            Give::Float(value) => literal(Literal::Float(value)),
            Give::Bool(value) => literal(Literal::Bool(value)),
            Give::Text(value) => literal(Literal::Text(value.into())),
            Give::Link(node, slot) => Source::Local(LocalLink { node_id: node.into(), slot }),
            Give::Value(value) => Source::Value((&value).into()),
        };
        InputBinding { source: Some(source) }
    };
    let inputs = inputs.into_iter().map(|(name, give)| (name.to_owned(), binding(give))).collect();
    let named = id.starts_with(char::is_uppercase);
    let slots: &[u32] = match class {
        "SamplerCustom" | "SamplerCustomAdvanced" => &[0, 1],
        _ => &[0],
    };
    let publish = if named { slots.to_vec() } else { Vec::new() };
    StageNode { node_id: id.into(), class: class.into(), inputs, publish, ..Default::default() }
}

/// The loader, two prompts (`cat`, `dog`), an empty negative one (`none`) and an empty latent, `width` by 64 pixels.
pub fn basics<'a>(width: i128) -> Vec<Step<'a>> {
    let prompt = |id, text| {
        Step(id, "CLIPTextEncode", vec![("text", Give::Text(text)), ("clip", Give::Link("model", 1))])
    };
    vec![
        Step("model", "CheckpointLoaderSimple", vec![("ckpt_name", Give::Text(CHECKPOINT))]),
        prompt("cat", "a photo of a cat"),
        prompt("dog", "a (drawing:1.3) of a dog"),
        prompt("none", ""),
        Step(
            "empty",
            "EmptyLatentImage",
            vec![("width", Give::Int(width)), ("height", Give::Int(64)), ("batch_size", Give::Int(1))],
        ),
    ]
}

/// A KSampler of three steps.
pub fn ksampler<'a>(
    id: &'a str,
    model: &'a str,
    positive: &'a str,
    cfg: f64,
    (sampler, scheduler): (&'a str, &'a str),
) -> Step<'a> {
    let inputs = vec![
        ("model", Give::Link(model, 0)),
        ("seed", Give::Int(42)),
        ("steps", Give::Int(3)),
        ("cfg", Give::Float(cfg)),
        ("sampler_name", Give::Text(sampler)),
        ("scheduler", Give::Text(scheduler)),
        ("positive", Give::Link(positive, 0)),
        ("negative", Give::Link("none", 0)),
        ("latent_image", Give::Link("empty", 0)),
        ("denoise", Give::Float(1.0)),
    ];
    Step(id, "KSampler", inputs)
}

/// Largest difference over the largest value.
pub fn relative(a: &HostTensor, b: &HostTensor) -> f32 {
    assert_eq!(a.shape(), b.shape());
    let largest = b.data().iter().fold(0f32, |m, v| m.max(v.abs()));
    a.data().iter().zip(b.data()).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max) / largest
}
