//! Reading workflows in either format.

use crate::specs::{catalog, text_to_image};
use comfy_graph::workflow::{WorkflowError, read};
use comfy_graph::{ApiGraph, Catalog, Input, Literal, NodeId, NodeSpec, PromptError};
use proptest::prelude::*;
use serde_json::{Value, json};

fn fixture(key: &str) -> Value {
    let all: Value = serde_json::from_str(include_str!("../fixtures/default_workflow.json")).unwrap();
    all[key].clone()
}

/// Compared as text, because the order of nodes and inputs counts too.
#[track_caller]
fn check_same(found: &ApiGraph, expected: &Value) {
    let normal = |json: &Value| {
        let mut text = serde_json::to_string_pretty(json).unwrap();
        text = text.replace("8.0,", "8,");
        text
    };
    assert_eq!(normal(&found.to_json()), normal(expected));
}

#[test]
fn the_posted_workflow_becomes_what_the_page_sent() {
    let found = read(&fixture("posted"), &catalog()).unwrap();
    check_same(&found, &fixture("api"));
}

#[test]
fn the_saved_workflow_becomes_what_the_page_sent() {
    let found = read(&fixture("saved"), &catalog()).unwrap();
    let mut expected = fixture("api");
    expected["3"]["inputs"]["seed"] = json!(932076623177244_u64);
    check_same(&found, &expected);
}

#[test]
fn the_api_format_passes_unchanged() {
    let api = text_to_image();
    let found = read(&api, &Catalog::default()).unwrap();
    check_same(&found, &api);
    check_same(&read(&json!({"prompt": api, "client_id": "x"}), &Catalog::default()).unwrap(), &api);
    let ui = fixture("posted");
    check_same(&read(&json!({"workflow": ui}), &catalog()).unwrap(), &api);
}

#[test]
fn a_node_may_be_called_prompt() {
    let graph = read(&json!({"prompt": {"class_type": "A"}, "workflow": {}}), &Catalog::default()).unwrap();
    let names: Vec<&str> = graph.nodes.keys().map(|id| id.as_str()).collect();
    assert_eq!(names, ["prompt", "workflow"]);
}

#[test]
fn what_is_no_workflow_is_refused() {
    let check = |json: Value, expected: &str| {
        let error = read(&json, &catalog()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        let prompt_error = PromptError::from(&error);
        assert_eq!((&*prompt_error.kind, prompt_error.details), ("invalid_prompt", error.to_string()));
    };
    check(json!(null), "found null");
    check(json!([]), "found a list");
    check(json!({"prompt": "x"}), "found a text");
    check(json!({"1": {"class_type": "A", "inputs": []}}), "node `1` of the workflow has `inputs`");
    check(json!({"nodes": [{}]}), "has no id");
    check(json!({"nodes": [5]}), "has no id");
    check(json!({"nodes": [{"id": 1}]}), "node `1` of the workflow has no type");
    check(json!({"nodes": [], "links": [[1, 2]]}), "link number 0");
    check(
        json!({"nodes": [{"id": 1, "type": "A"}, {"id": "1", "type": "A"}]}),
        "several nodes with the id `1`",
    );
    check(json!({"nodes": [{"id": "x".repeat(1000), "type": "A"}]}), "longer than 128 bytes");
    let many: serde_json::Map<String, Value> = (0..100_001).map(|id| (id.to_string(), json!({}))).collect();
    assert_eq!(read(&Value::Object(many), &catalog()), Err(WorkflowError::TooManyNodes));
}

#[test]
fn graphs_and_specs_survive_json() {
    let mut json = text_to_image();
    json["3"]["inputs"]["seed"] = json!(u64::MAX);
    let graph = crate::specs::valid(&catalog(), &json);
    let text = serde_json::to_string(&graph).unwrap();
    let again: comfy_graph::ValidGraph = serde_json::from_str(&text).unwrap();
    assert_eq!(again.nodes[&NodeId::from("3")].inputs["seed"], Input::Literal(Literal::Int(u64::MAX.into())));
    assert_eq!(again, graph);
    let catalog = catalog();
    let spec = &catalog.get("KSampler").unwrap().spec;
    let again: NodeSpec = serde_json::from_str(&serde_json::to_string(spec).unwrap()).unwrap();
    assert_eq!(again, *spec);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-30_i64..30).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9]{0,3}".prop_map(Value::from),
        Just(json!("KSampler")),
        Just(json!("Reroute")),
    ];
    // Keys that readers look for, so that the JSON gets somewhere.
    let key = proptest::sample::select(vec![
        "nodes",
        "links",
        "id",
        "type",
        "inputs",
        "outputs",
        "mode",
        "link",
        "widget",
        "widgets_values",
        "class_type",
        "prompt",
        "workflow",
        "definitions",
        "subgraphs",
        "properties",
        "proxyWidgets",
        "name",
        "inputNode",
        "outputNode",
        "origin_id",
        "origin_slot",
        "1",
        "__value__",
    ]);
    leaf.prop_recursive(6, 80, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::vec((key.clone(), inner), 0..6).prop_map(|entries| entries
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect()),
        ]
    })
}

/// A UI workflow whose nodes and links are well-formed and whose wiring is anything.
fn any_ui_workflow() -> impl Strategy<Value = Value> {
    let kind = proptest::sample::select(vec![
        "Reroute",
        "PrimitiveNode",
        "KSampler",
        "VAEDecode",
        "Unknown",
        "sub",
        "sub2",
        "Note",
        "SaveImage",
    ]);
    let link = proptest::option::of(0_u32..8);
    let input = (link, any::<bool>())
        .prop_map(|(link, widget)| json!({"name": "seed", "type": "*", "link": link, "widget": widget}));
    let node = (kind, 0_u32..6, proptest::collection::vec(input, 0..3), any_json()).prop_map(
        |(kind, mode, inputs, values)| json!({"type": kind, "mode": mode, "inputs": inputs, "widgets_values": values}),
    );
    let wire = (-1_i64..6, 0_u32..3, -1_i64..6, 0_u32..3);
    let sheet = (proptest::collection::vec(node, 1..6), proptest::collection::vec(wire, 0..8)).prop_map(
        |(mut nodes, wires)| {
            for (id, node) in nodes.iter_mut().enumerate() {
                node["id"] = json!(id);
            }
            let end = |id: i64, border: i64| if id < 0 { border } else { id };
            let link = |(index, (from, from_slot, to, to_slot)): (usize, (i64, u32, i64, u32))| {
                json!([index, end(from, -10), from_slot, end(to, -20), to_slot, "*"])
            };
            let links: Vec<Value> = wires.into_iter().enumerate().map(link).collect();
            json!({"nodes": nodes, "links": links, "inputNode": {"id": -10}, "outputNode": {"id": -20}})
        },
    );
    let sheet = sheet.boxed();
    (sheet.clone(), sheet.clone(), sheet).prop_map(|(mut root, mut one, mut two)| {
        one["id"] = json!("sub");
        two["id"] = json!("sub2");
        root["definitions"] = json!({"subgraphs": [one, two]});
        root
    })
}

proptest! {
    #[test]
    fn no_json_makes_the_reader_panic(json in any_json()) {
        let catalog = catalog();
        if let Ok(graph) = read(&json, &catalog) {
            let _ = comfy_graph::validate::validate(&graph, &catalog, &[]);
        }
    }

    #[test]
    fn what_is_read_reads_back_the_same(json in any_ui_workflow()) {
        let catalog = catalog();
        if let Ok(graph) = read(&json, &catalog) {
            prop_assert_eq!(&read(&graph.to_json(), &catalog).unwrap(), &graph);
            for node in graph.nodes.values() {
                prop_assert!(!matches!(node.class_type.as_deref(), Some("Reroute" | "PrimitiveNode" | "Note")));
                for value in node.inputs.values() {
                    let Some([id, _]) = value.as_array().map(|link| &link[..]) else { continue };
                    prop_assert!(graph.nodes.contains_key(&NodeId::from(id.as_str().unwrap())), "{}", value);
                }
            }
        }
    }
}
