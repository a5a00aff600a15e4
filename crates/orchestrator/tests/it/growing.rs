//! Graphs that grow while they run: lazy inputs and nodes that expand, with a real stage.

use crate::harness::{Orchestrator, World, count};
use comfy_artifacts::Store;
use comfy_graph::{ComboOption, InputSpec, Literal, NodeSpec};
use comfy_stage::{
    Ctx, Data, ExpandedInput, ExpandedNode, Expansion, FnNode, Inputs, LazyNode, Node, Outputs, StageServer,
    StageState,
};
use serde_json::{Value, json};
use std::sync::Arc;

struct State;

impl StageState for State {
    fn name(&self) -> &str {
        "growing"
    }

    fn fingerprint(&self) -> String {
        "1".into()
    }

    fn options(&self, _folder: &str) -> Option<Vec<ComboOption>> {
        None
    }
}

type Context<'a> = Ctx<'a, State>;

fn int(value: i128) -> Data {
    Data::Literal(Literal::Int(value))
}

fn number(name: &str) -> InputSpec {
    InputSpec::int(name, 0, (-1000, 1000), 1)
}

fn spec(class: &str, inputs: Vec<InputSpec>) -> NodeSpec {
    NodeSpec::new(class, "test", inputs, &["INT"])
}

/// The number itself, through a node that can be seen to run.
static GIVE: FnNode<State> = FnNode {
    spec: || spec("Give", vec![number("value")]),
    run: |inputs: &Inputs, _: &Context<'_>| Ok(Outputs::one(int(inputs.int("value")?))),
};

/// `on_true` or `on_false`.
static CHOOSE: LazyNode<State> = LazyNode {
    spec: || {
        let either = |name| InputSpec::socket(name, "INT").lazy();
        spec("Choose", vec![InputSpec::boolean("yes", false), either("on_true"), either("on_false")])
    },
    wants: |inputs: &Inputs| Ok(vec![if inputs.boolean("yes")? { "on_true" } else { "on_false" }]),
    run: |inputs: &Inputs, _: &Context<'_>| {
        let name = if inputs.boolean("yes")? { "on_true" } else { "on_false" };
        Ok(Outputs::one(int(inputs.int(name)?)))
    },
};

/// `value + count`, by putting nodes in its place that add one and count down.
static COUNT: FnNode<State> = FnNode {
    spec: || NodeSpec { expands: true, ..spec("Count", vec![number("value"), number("count")]) },
    run: |inputs: &Inputs, _: &Context<'_>| {
        let (value, count) = (inputs.int("value")?, inputs.int("count")?);
        if count == 0 {
            return Ok(Outputs::one(int(value)));
        }
        let node = |id: &str, class: &str, inputs: Vec<(&str, ExpandedInput)>| ExpandedNode {
            id: id.into(),
            class: class.into(),
            inputs: inputs.into_iter().map(|(name, input)| (name.to_owned(), input)).collect(),
        };
        let plain = |value| ExpandedInput::Value(int(value));
        let next = ExpandedInput::Link("next".into(), 0);
        let nodes = vec![
            node("next", "Give", vec![("value", plain(value + 1))]),
            node("rest", "Count", vec![("value", next), ("count", plain(count - 1))]),
        ];
        Ok(Outputs::expanded(Expansion { nodes, outputs: vec![ExpandedInput::Link("rest".into(), 0)] }))
    },
};

/// Shows a number.
static SHOW: FnNode<State> = FnNode {
    spec: || NodeSpec::new("Show", "test", vec![number("value")], &[]).ending(),
    run: |inputs: &Inputs, _: &Context<'_>| {
        Ok(Outputs::ui(json!({"text": [inputs.int("value")?.to_string()]})))
    },
};

static NODES: &[&dyn Node<State>] = &[&GIVE, &CHOOSE, &COUNT, &SHOW];

/// An orchestrator in front of a stage with these nodes.
async fn start(world: &World) -> Orchestrator {
    let store = Store::open(&world.dir.path().join("artifacts")).unwrap();
    let server = StageServer::new(Arc::new(State), store, NODES, 1);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(server.serve(listener, std::future::pending()));
    world.start_with(comfy_orchestrator::Config { stage_sampler_addr: url, ..world.config() }).await
}

/// Runs a workflow to its end; gives its events and what node `9` shows.
async fn run(orchestrator: &mut Orchestrator, workflow: &Value) -> (Vec<String>, Value) {
    let id = orchestrator.submit(workflow).await;
    let events = orchestrator.finish(&id).await;
    let job = orchestrator.job(&id).await;
    let shown = job.outputs.iter().find(|shown| shown.node_id == "9");
    let shown = shown.map_or(Value::Null, |shown| serde_json::from_str(&shown.ui_json).unwrap());
    (events, shown["text"][0].clone())
}

fn choice(yes: bool) -> Value {
    json!({
        "1": {"class_type": "Give", "inputs": {"value": 11}},
        "2": {"class_type": "Give", "inputs": {"value": 22}},
        "3": {"class_type": "Choose", "inputs": {"yes": yes, "on_true": ["1", 0], "on_false": ["2", 0]}},
        "9": {"class_type": "Show", "inputs": {"value": ["3", 0]}},
    })
}

#[tokio::test]
async fn only_the_chosen_branch_runs() {
    let world = World::new();
    let mut orchestrator = start(&world).await;
    let (events, shown) = run(&mut orchestrator, &choice(true)).await;
    assert_eq!(shown, "11");
    let expected = [
        "queued",
        "started",
        "cached ",
        "start 3",
        "start 1",
        "done 1",
        "start 3",
        "done 3",
        "start 9",
        "done 9",
        "succeeded",
    ];
    assert_eq!(events, expected);
    let (events, shown) = run(&mut orchestrator, &choice(false)).await;
    assert_eq!((shown, count(&events, "done 2")), (json!("22"), 1));
    assert!(events.contains(&"cached 1".into()), "{events:?}");
    let (events, _) = run(&mut orchestrator, &choice(true)).await;
    assert_eq!(events, ["queued", "started", "cached 2,1,3,9", "succeeded"]);
}

fn counting(count: i64) -> Value {
    json!({
        "1": {"class_type": "Give", "inputs": {"value": 5}},
        "2": {"class_type": "Count", "inputs": {"value": ["1", 0], "count": count}},
        "9": {"class_type": "Show", "inputs": {"value": ["2", 0]}},
    })
}

#[tokio::test]
async fn a_node_that_expands_again_and_again_gives_its_last_value() {
    let world = World::new();
    let mut orchestrator = start(&world).await;
    let (events, shown) = run(&mut orchestrator, &counting(3)).await;
    assert_eq!(shown, "8", "{events:?}");
    assert_eq!(count(&events, "succeeded"), 1);
    for id in ["2~next", "2~rest~next", "2~rest~rest~next", "2~rest~rest~rest", "2~rest", "2", "9"] {
        assert_eq!(
            events.iter().filter(|event| **event == format!("done {id}")).count(),
            1,
            "{id}: {events:?}"
        );
    }
    // One more round: the inner nodes that are as before are not run again.
    let (events, shown) = run(&mut orchestrator, &counting(4)).await;
    assert_eq!(shown, "9");
    assert_eq!(count(&events, "start 2~next"), 0, "{events:?}");
    let (events, _) = run(&mut orchestrator, &counting(3)).await;
    assert_eq!(count(&events, "start"), 1, "only `started`: {events:?}");
}
