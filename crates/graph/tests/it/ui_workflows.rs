//! What the page does to a graph before it runs it: widgets, reroutes, primitives, bypass, mute, subgraphs.

use crate::specs::catalog;
use comfy_graph::NodeId;
use comfy_graph::workflow::{WorkflowError, read};
use serde_json::{Value, json};

fn node(id: u32, kind: &str, inputs: Value, outputs: &[&str], values: Value) -> Value {
    let outputs: Vec<Value> = outputs.iter().map(|socket| json!({"name": socket, "type": socket})).collect();
    json!({"id": id, "type": kind, "mode": 0, "inputs": inputs, "outputs": outputs, "widgets_values": values})
}

fn linked(name: &str, socket: &str, link: u32) -> Value {
    json!({"name": name, "type": socket, "link": link})
}

fn converted(name: &str, socket: &str, link: Option<u32>) -> Value {
    json!({"name": name, "type": socket, "link": link, "widget": {"name": name}})
}

/// Reads the workflow and compares the inputs of some nodes.
#[track_caller]
fn check(nodes: Value, links: Value, expected: Value) {
    check_json(json!({"nodes": nodes, "links": links}), expected);
}

#[track_caller]
fn check_json(workflow: Value, expected: Value) {
    let graph = read(&workflow, &catalog()).unwrap();
    let found: Value = graph.nodes.iter().map(|(id, node)| (id.to_string(), json!(node.inputs))).collect();
    assert_eq!(found, expected);
}

/// Widget values of a single node.
#[track_caller]
fn check_widgets(kind: &str, values: Value, expected: Value) {
    check(json!([node(1, kind, json!([]), &[], values)]), json!([]), json!({"1": expected}));
}

#[test]
fn widget_values_go_to_inputs_in_spec_order() {
    let sampler = json!({
        "seed": 7, "steps": 3, "cfg": 8, "sampler_name": "lms", "scheduler": "karras", "denoise": 0.5,
    });
    for control in ["fixed", "increment", "decrement", "randomize"] {
        check_widgets("KSampler", json!([7, control, 3, 8, "lms", "karras", 0.5]), sampler.clone());
    }
    // The earliest pages saved only whether the seed changes.
    check_widgets("KSampler", json!([7, true, 3, 8, "lms", "karras", 0.5]), sampler.clone());
    check_widgets("KSampler", json!([7, 3, 8, "lms", "karras", 0.5]), sampler.clone());
    check_widgets("KSampler", json!([7, "fixed", 3, 8, "lms", "karras", 0.5, "surplus"]), sampler.clone());
    let short = json!({
        "seed": 7, "steps": 3, "cfg": 8.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0,
    });
    check_widgets("KSampler", json!([7, "fixed", 3]), short);
}

#[test]
fn widget_values_may_be_saved_by_name() {
    let named = json!({"width": 64, "batch_size": 2, "other": 1});
    let expected = json!({"width": 64, "height": 512, "batch_size": 2});
    check_widgets("EmptyLatentImage", named.clone(), expected.clone());
    let mut both = node(1, "EmptyLatentImage", json!([]), &[], json!([1, 2, 3]));
    both["widgets_values_named"] = named;
    check(json!([both]), json!([]), json!({"1": expected}));
}

#[test]
fn the_upload_button_is_no_input() {
    let expected = json!({"image": "a.png", "channel": "red"});
    check_widgets("LoadImageMask", json!(["a.png", "red", "image"]), expected.clone());
    check_widgets("LoadImageMask", json!(["a.png", "red"]), expected);
    check_widgets("LoadImage", json!(["a.png", "image"]), json!({"image": "a.png"}));
}

#[test]
fn lists_are_kept_from_looking_like_links() {
    let expected = json!({"text": {"__value__": ["4", 1]}});
    check_widgets("CLIPTextEncode", json!([["4", 1]]), expected);
}

#[test]
fn a_link_beats_a_widget_that_keeps_its_place() {
    let inputs = json!([converted("height", "INT", Some(1)), converted("batch_size", "INT", None)]);
    let nodes = json!([
        node(1, "EmptyLatentImage", inputs, &["LATENT"], json!([64, 99, 2])),
        node(2, "Unknown", json!([]), &["INT"], json!([5])),
    ]);
    let expected = json!({"1": {"width": 64, "height": ["2", 0], "batch_size": 2}, "2": {}});
    check(nodes, json!([[1, 2, 0, 1, 0, "INT"]]), expected);
}

#[test]
fn primitives_give_their_value_through_reroutes() {
    let nodes = json!([
        node(
            1,
            "EmptyLatentImage",
            json!([converted("width", "INT", Some(2))]),
            &["LATENT"],
            json!([64, 64, 1])
        ),
        node(2, "PrimitiveNode", json!([]), &["INT"], json!([128, "fixed"])),
        node(3, "Reroute", json!([linked("", "*", 1)]), &["*"], json!([])),
        node(4, "Note", json!([]), &[], json!(["text"])),
        node(5, "MarkdownNote", json!([]), &[], json!(["text"])),
    ]);
    let links = json!([[1, 2, 0, 3, 0, "INT"], [2, 3, 0, 1, 0, "INT"]]);
    check(nodes, links, json!({"1": {"width": 128, "height": 64, "batch_size": 1}}));
}

#[test]
fn links_may_be_objects_and_may_lead_nowhere() {
    let nodes = json!([
        node(
            1,
            "ImageBatch",
            json!([linked("image1", "IMAGE", 1), linked("image2", "IMAGE", 9)]),
            &["IMAGE"],
            json!([])
        ),
        node(2, "ImageInvert", json!([linked("image", "IMAGE", 3)]), &["IMAGE"], json!([])),
    ]);
    let link = |id: u32, from: u32, to: u32| json!({"id": id, "origin_id": from, "origin_slot": 0, "target_id": to, "target_slot": 0, "type": "IMAGE"});
    let links = json!([link(1, 2, 1), null, link(3, 77, 2)]);
    check(nodes, links, json!({"1": {"image1": ["2", 0]}, "2": {}}));
}

/// Two sources, a batch node in `mode`, and a consumer of its output.
fn around_batch(mode: u32) -> (Value, Value) {
    let mut batch = node(
        3,
        "ImageBatch",
        json!([linked("image1", "IMAGE", 1), linked("image2", "IMAGE", 2)]),
        &["IMAGE"],
        json!([]),
    );
    batch["mode"] = json!(mode);
    let nodes = json!([
        node(1, "LoadImage", json!([]), &["IMAGE", "MASK"], json!(["a.png"])),
        node(2, "LoadImage", json!([]), &["IMAGE", "MASK"], json!(["b.png"])),
        batch,
        node(4, "PreviewImage", json!([linked("images", "IMAGE", 3)]), &[], json!([])),
    ]);
    (nodes, json!([[1, 1, 0, 3, 0, "IMAGE"], [2, 2, 0, 3, 1, "IMAGE"], [3, 3, 0, 4, 0, "IMAGE"]]))
}

#[test]
fn muted_nodes_vanish_with_their_links() {
    let (nodes, links) = around_batch(2);
    check(nodes, links, json!({"1": {"image": "a.png"}, "2": {"image": "b.png"}, "4": {}}));
    let mut muted = node(2, "Unknown", json!([]), &["INT"], json!([]));
    muted["mode"] = json!(2);
    let inputs = json!([converted("width", "INT", Some(1))]);
    let nodes = json!([node(1, "EmptyLatentImage", inputs, &["LATENT"], json!([64, 64, 1])), muted]);
    check(nodes, json!([[1, 2, 0, 1, 0, "INT"]]), json!({"1": {"height": 64, "batch_size": 1}}));
}

#[test]
fn bypassed_nodes_pass_on_what_fits() {
    let (nodes, links) = around_batch(4);
    check(nodes, links, json!({"1": {"image": "a.png"}, "2": {"image": "b.png"}, "4": {"images": ["1", 0]}}));
    // The input of the same number has another type, so the first of the right type counts.
    let inputs = json!([linked("vae", "VAE", 1), linked("mask", "MASK", 2), linked("image", "IMAGE", 3)]);
    let mut bypassed = node(2, "Unknown", inputs, &["IMAGE"], json!([]));
    bypassed["mode"] = json!(4);
    let mut chained = node(3, "ImageInvert", json!([linked("image", "IMAGE", 4)]), &["IMAGE"], json!([]));
    chained["mode"] = json!(4);
    let nodes = json!([
        node(1, "LoadImage", json!([]), &["IMAGE", "MASK"], json!(["a.png"])),
        bypassed,
        chained,
        node(4, "PreviewImage", json!([linked("images", "IMAGE", 5)]), &[], json!([])),
    ]);
    let links = json!([
        [2, 1, 1, 2, 1, "MASK"],
        [3, 1, 0, 2, 2, "IMAGE"],
        [4, 2, 0, 3, 0, "IMAGE"],
        [5, 3, 0, 4, 0, "IMAGE"],
    ]);
    check(nodes, links, json!({"1": {"image": "a.png"}, "4": {"images": ["1", 0]}}));
}

#[test]
fn unknown_classes_are_kept_for_validation() {
    let mut unknown = node(1, "Mystery", json!([]), &[], json!({"a": 1}));
    unknown["title"] = json!("My title");
    let graph = read(&json!({"nodes": [unknown], "links": []}), &catalog()).unwrap();
    let expected =
        json!({"1": {"inputs": {"a": 1}, "class_type": "Mystery", "_meta": {"title": "My title"}}});
    assert_eq!(graph.to_json(), expected);
}

#[test]
fn circles_of_reroutes_are_refused() {
    let nodes = json!([
        node(1, "Reroute", json!([linked("", "*", 2)]), &["*"], json!([])),
        node(2, "Reroute", json!([linked("", "*", 1)]), &["*"], json!([])),
        node(3, "PreviewImage", json!([linked("images", "IMAGE", 3)]), &[], json!([])),
    ]);
    let links = json!([[1, 1, 0, 2, 0, "*"], [2, 2, 0, 1, 0, "*"], [3, 2, 0, 3, 0, "*"]]);
    let error = read(&json!({"nodes": nodes, "links": links}), &catalog()).unwrap_err();
    assert_eq!(error, WorkflowError::LinkCircle { node: "3".into(), input: "images".into() });
}

/// Scales a picture; inputs `picture` and `width`, output `scaled`. Its inner node is 5, its inner width 111.
fn scaler() -> Value {
    let inputs = json!([linked("image", "IMAGE", 1), converted("width", "INT", Some(2))]);
    let border = |name: &str, socket: &str| json!({"name": name, "type": socket});
    let link = |id: i64, from: (i64, i64), to: (i64, i64)| json!({"id": id, "origin_id": from.0, "origin_slot": from.1, "target_id": to.0, "target_slot": to.1, "type": "*"});
    json!({
        "id": "scaler",
        "inputNode": {"id": -10},
        "outputNode": {"id": -20},
        "inputs": [border("picture", "IMAGE"), border("width", "INT")],
        "outputs": [border("scaled", "IMAGE")],
        "nodes": [node(5, "ImageScale", inputs, &["IMAGE"], json!(["area", 111, 64, "disabled"]))],
        "links": [link(1, (-10, 0), (5, 0)), link(2, (-10, 1), (5, 1)), link(3, (5, 0), (-20, 0))],
    })
}

fn around_scaler(instance: Value) -> Value {
    json!({
        "nodes": [
            node(1, "LoadImage", json!([]), &["IMAGE", "MASK"], json!(["a.png"])),
            instance,
            node(3, "PreviewImage", json!([linked("images", "IMAGE", 2)]), &[], json!([])),
        ],
        "links": [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]],
        "definitions": {"subgraphs": [scaler()]},
    })
}

fn scaled(method: &str, width: u32) -> Value {
    let inner = json!({
        "upscale_method": method, "width": width, "height": 64, "crop": "disabled", "image": ["1", 0],
    });
    json!({"1": {"image": "a.png"}, "3": {"images": ["2:5", 0]}, "2:5": inner})
}

#[test]
fn subgraphs_are_laid_out() {
    let inputs = json!([linked("picture", "IMAGE", 1), converted("width", "INT", None)]);
    let with_value = node(2, "scaler", inputs.clone(), &["IMAGE"], json!([222]));
    check_json(around_scaler(with_value), scaled("area", 222));
    let without_value = node(2, "scaler", inputs.clone(), &["IMAGE"], json!([]));
    check_json(around_scaler(without_value), scaled("area", 111));
    let mut promoted = node(2, "scaler", inputs.clone(), &["IMAGE"], json!([333, "bilinear"]));
    promoted["properties"] = json!({"proxyWidgets": [["-1", "width"], ["5", "upscale_method"]]});
    check_json(around_scaler(promoted), scaled("bilinear", 333));
    let mut bypassed = node(2, "scaler", inputs, &["IMAGE"], json!([222]));
    bypassed["mode"] = json!(4);
    check_json(around_scaler(bypassed), json!({"1": {"image": "a.png"}, "3": {"images": ["1", 0]}}));
}

#[test]
fn instances_may_leave_inputs_out() {
    // Earlier pages saved only the inputs that are linked or were once, so a place in the list says nothing.
    let mut workflow = around_scaler(node(2, "scaler", json!([]), &["IMAGE"], json!([666])));
    let definition = &mut workflow["definitions"]["subgraphs"][0];
    definition["inputs"] = json!([{"name": "width", "type": "INT"}, {"name": "picture", "type": "IMAGE"}]);
    definition["links"][0]["origin_slot"] = json!(1);
    definition["links"][1]["origin_slot"] = json!(0);
    workflow["nodes"][1]["inputs"] = json!([linked("picture", "IMAGE", 1)]);
    check_json(workflow.clone(), scaled("area", 666));
    // An input that was renamed on the instance is known by its place.
    workflow["nodes"][1]["inputs"] = json!([linked("scale", "INT", 3), linked("picture", "IMAGE", 1)]);
    workflow["nodes"][0]["outputs"][1]["type"] = json!("INT");
    workflow["links"].as_array_mut().unwrap().push(json!([3, 1, 1, 2, 0, "INT"]));
    let graph = read(&workflow, &catalog()).unwrap();
    assert_eq!(graph.nodes[&NodeId::from("2:5")].inputs["width"], json!(["1", 1]));
}

#[test]
fn subgraphs_may_be_nested() {
    let inputs = json!([linked("picture", "IMAGE", 1), converted("width", "INT", Some(2))]);
    let mut outer = scaler();
    outer["id"] = json!("outer");
    outer["nodes"] = json!([node(5, "scaler", inputs, &["IMAGE"], json!([444]))]);
    let inputs = json!([linked("picture", "IMAGE", 1), converted("width", "INT", None)]);
    let mut workflow = around_scaler(node(2, "outer", inputs, &["IMAGE"], json!([555])));
    workflow["definitions"]["subgraphs"].as_array_mut().unwrap().push(outer);
    let graph = read(&workflow, &catalog()).unwrap();
    let inner = &graph.nodes[&NodeId::from("2:5:5")];
    assert_eq!((&inner.inputs["width"], &inner.inputs["image"]), (&json!(555), &json!(["1", 0])));
    assert_eq!(graph.nodes[&NodeId::from("3")].inputs["images"], json!(["2:5:5", 0]));
}

#[test]
fn subgraphs_that_never_end_are_refused() {
    let definition = |id: &str, inner: &str, copies: u32| {
        let nodes: Vec<Value> = (0..copies).map(|id| node(id, inner, json!([]), &[], json!([]))).collect();
        json!({"id": id, "nodes": nodes, "links": []})
    };
    let workflow = |subgraphs: Vec<Value>| json!({"nodes": [node(1, "s0", json!([]), &[], json!([]))], "links": [], "definitions": {"subgraphs": subgraphs}});
    let itself = workflow(vec![definition("s0", "s0", 1)]);
    assert_eq!(read(&itself, &catalog()), Err(WorkflowError::SubgraphTooDeep { id: "s0".into() }));
    // Each level doubles: 2^40 nodes from a few lines.
    let bomb = (0..40).map(|level| definition(&format!("s{level}"), &format!("s{}", level + 1), 2)).collect();
    assert_eq!(read(&workflow(bomb), &catalog()), Err(WorkflowError::TooManyNodes));
    let mut text_bomb = definition("s0", "CLIPTextEncode", 100);
    for node in text_bomb["nodes"].as_array_mut().unwrap() {
        node["widgets_values"] = json!(["x".repeat(10_000)]);
    }
    let mut workflow = workflow(vec![text_bomb]);
    workflow["nodes"] = (0..100).map(|id| node(id, "s0", json!([]), &[], json!([]))).collect();
    assert_eq!(read(&workflow, &catalog()), Err(WorkflowError::TooManyValues));
}

/// A chain of reroutes with a consumer at every link.
#[test]
fn long_chains_of_reroutes_are_followed() {
    let count = 10_000_u32;
    let mut nodes = vec![node(0, "LoadImage", json!([]), &["IMAGE", "MASK"], json!(["a.png"]))];
    let mut links = Vec::new();
    for id in 1..=count {
        links.push(json!([id, id - 1, 0, id, 0, "*"]));
        nodes.push(node(id, "Reroute", json!([linked("", "*", id)]), &["*"], json!([])));
        nodes.push(node(id + count, "PreviewImage", json!([linked("images", "*", id)]), &[], json!([])));
    }
    let graph = read(&json!({"nodes": nodes, "links": links}), &catalog()).unwrap();
    assert_eq!(graph.nodes.len(), 1 + count as usize);
    assert_eq!(graph.nodes[&NodeId((2 * count).to_string())].inputs["images"], json!(["0", 0]));
}
