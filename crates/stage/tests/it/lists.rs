//! Lists and missing values on links, through a stage that is called over gRPC.

use comfy_artifacts::Store;
use comfy_graph::{ComboOption, InputSpec, Literal, NodeSpec, OutputSpec, Value};
use comfy_proto::graph as graph_pb;
use comfy_proto::stage as pb;
use comfy_proto::stage::run_stage_response::Event;
use comfy_proto::stage::stage_runner_service_client::StageRunnerServiceClient;
use comfy_stage::{Ctx, Data, Inputs, Node, NodeError, Outputs, StageServer, StageState};
use serde_json::json;
use std::sync::Arc;

struct State;

impl StageState for State {
    fn name(&self) -> &str {
        "lists"
    }

    fn fingerprint(&self) -> String {
        String::new()
    }

    fn options(&self, _folder: &str) -> Option<Vec<ComboOption>> {
        None
    }
}

fn int(value: i128) -> Data {
    Data::Literal(Literal::Int(value))
}

fn spec(class: &str, inputs: Vec<InputSpec>, outputs: Vec<OutputSpec>) -> NodeSpec {
    NodeSpec { class: class.into(), inputs, outputs, ..NodeSpec::default() }
}

/// Gives the numbers below `count` as a list.
struct Range;

impl Node<State> for Range {
    fn spec(&self) -> NodeSpec {
        spec("Range", vec![InputSpec::int("count", 1, (0, 100), 1)], vec![OutputSpec::of("INT").list()])
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, State>) -> Result<Outputs, NodeError> {
        let count = inputs.int("count")?;
        Ok(Outputs::one(Data::List((0..count).map(int).collect())))
    }
}

/// `a * 10 + b`, and says on which element it ran.
struct Join;

impl Node<State> for Join {
    fn spec(&self) -> NodeSpec {
        let inputs = vec![InputSpec::socket("a", "INT"), InputSpec::socket("b", "INT")];
        spec("Join", inputs, vec![OutputSpec::of("INT")])
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, State>) -> Result<Outputs, NodeError> {
        let value = inputs.int("a")? * 10 + inputs.int("b")?;
        Ok(Outputs {
            slots: vec![int(value)],
            ui: Some(json!({"saved": [ctx.save_key().node]})),
            ..Outputs::default()
        })
    }
}

/// The sum of a whole list.
struct Sum;

impl Node<State> for Sum {
    fn spec(&self) -> NodeSpec {
        let spec = spec("Sum", vec![InputSpec::socket("values", "INT")], vec![OutputSpec::of("INT")]);
        NodeSpec { input_is_list: true, ..spec }
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, State>) -> Result<Outputs, NodeError> {
        let number = |data: &Data| match data {
            Data::Literal(Literal::Int(value)) => *value,
            _ => 0,
        };
        Ok(Outputs::one(int(inputs.list("values")?.iter().map(number).sum())))
    }
}

/// Has no value to give for odd numbers.
struct OnlyEven;

impl Node<State> for OnlyEven {
    fn spec(&self) -> NodeSpec {
        spec("OnlyEven", vec![InputSpec::socket("a", "INT")], vec![OutputSpec::of("INT")])
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, State>) -> Result<Outputs, NodeError> {
        let a = inputs.int("a")?;
        Ok(Outputs::one(if a % 2 == 0 { int(a) } else { Data::Blocked(Some(format!("{a} is odd"))) }))
    }
}

static NODES: &[&dyn Node<State>] = &[&Range, &Join, &Sum, &OnlyEven];

fn node(id: &str, class: &str, inputs: &[(&str, pb::input_binding::Source)]) -> pb::StageNode {
    let binding = |source: &pb::input_binding::Source| pb::InputBinding { source: Some(source.clone()) };
    pb::StageNode {
        node_id: id.into(),
        class: class.into(),
        inputs: inputs.iter().map(|(name, source)| ((*name).into(), binding(source))).collect(),
        publish: vec![0],
        ..Default::default()
    }
}

fn value(value: Value) -> pb::input_binding::Source {
    pb::input_binding::Source::Value((&value).into())
}

fn local(node: &str) -> pb::input_binding::Source {
    pb::input_binding::Source::Local(pb::LocalLink { node_id: node.into(), slot: 0 })
}

fn number(value: i128) -> Value {
    Value::Literal(Literal::Int(value))
}

/// Runs nodes as one group and tells what was said: `id text` per event, in order.
async fn run(nodes: Vec<pb::StageNode>) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let server = StageServer::new(Arc::new(State), Store::open(dir.path()).unwrap(), NODES, 1);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(server.serve(listener, std::future::pending()));
    let mut client = StageRunnerServiceClient::connect(address).await.unwrap();
    let request = pb::RunStageRequest { job_id: "job".into(), nodes, ..Default::default() };
    let mut stream = client.run_stage(request).await.unwrap().into_inner();
    let mut said = Vec::new();
    while let Ok(Some(answer)) = stream.message().await {
        let text = match answer.event.unwrap() {
            Event::Done(done) => {
                assert_eq!(done.peak_bytes > 0, cfg!(target_os = "linux"));
                format!("= {} {}", shown(done.outputs[&0].clone()), done.ui_json)
            }
            Event::Blocked(blocked) => format!("blocked: {}", blocked.message),
            Event::Failed(failed) => format!("failed: {}", failed.message),
            _ => continue,
        };
        said.push(format!("{} {}", answer.node_id, text.trim_end()));
    }
    said
}

fn shown(value: graph_pb::Value) -> String {
    fn text(value: Value) -> String {
        match value {
            Value::Literal(Literal::Int(int)) => int.to_string(),
            Value::Blocked(message) => format!("nothing({})", message.unwrap_or_default()),
            Value::List(values) => {
                format!("[{}]", values.into_iter().map(text).collect::<Vec<_>>().join(" "))
            }
            other => format!("{other:?}"),
        }
    }
    text(Value::try_from(value).unwrap())
}

#[tokio::test]
async fn a_node_runs_once_per_element_and_a_list_node_once() {
    let said = run(vec![
        node("1", "Range", &[("count", value(number(3)))]),
        node("2", "Join", &[("a", local("1")), ("b", value(Value::List(vec![number(5), number(6)])))]),
        node("3", "Sum", &[("values", local("2"))]),
        node("4", "Sum", &[("values", value(number(7)))]),
        node("5", "Range", &[("count", value(Value::List(vec![number(2), number(1)])))]),
    ])
    .await;
    let expected =
        ["1 = [0 1 2]", r#"2 = [5 16 26] {"saved":["2","2@1","2@2"]}"#, "3 = 47", "4 = 7", "5 = [0 1 0]"];
    assert_eq!(said, expected);
}

#[tokio::test]
async fn a_list_of_one_is_its_element_and_an_empty_list_ends_single_nodes() {
    let said = run(vec![
        node("1", "Range", &[("count", value(number(1)))]),
        node("2", "Range", &[("count", value(number(0)))]),
        node("3", "Sum", &[("values", local("2"))]),
        node("4", "Join", &[("a", local("1")), ("b", local("2"))]),
    ])
    .await;
    let expected =
        ["1 = 0", "2 = []", "3 = 0", "4 failed: input `b` is an empty list, there is nothing to run on"];
    assert_eq!(said, expected);
}

#[tokio::test]
async fn what_has_no_value_is_not_run_and_is_told_once() {
    let said = run(vec![
        node("1", "Range", &[("count", value(number(4)))]),
        node("2", "OnlyEven", &[("a", local("1"))]),
        node("3", "Join", &[("a", local("2")), ("b", value(number(1)))]),
        node("4", "Join", &[("a", local("3")), ("b", value(number(2)))]),
        node("5", "Sum", &[("values", local("3"))]),
    ])
    .await;
    let expected = [
        "1 = [0 1 2 3]",
        "2 = [0 nothing(1 is odd) 2 nothing(3 is odd)]",
        "3 blocked: 1 is odd",
        "3 blocked: 3 is odd",
        r#"3 = [1 nothing() 21 nothing()] {"saved":["3","3@2"]}"#,
        r#"4 = [12 nothing() 212 nothing()] {"saved":["4","4@2"]}"#,
        "5 = nothing()",
    ];
    assert_eq!(said, expected);
}
