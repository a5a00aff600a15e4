//! Validation against answers recorded from ComfyUI, then what is ours.

use crate::specs::{catalog, text_to_image};
use comfy_graph::validate::{MAX_DEPENDENT_OUTPUTS, Validation, validate};
use comfy_graph::{NodeId, workflow};
use serde_json::{Value, json};

fn run(prompt: &Value, targets: &[&str]) -> Validation {
    let catalog = catalog();
    let targets: Vec<NodeId> = targets.iter().map(|&id| id.into()).collect();
    validate(&workflow::read(prompt, &catalog).unwrap(), &catalog, &targets)
}

/// As ComfyUI answers it, with the errors of each node in a fixed order.
fn answer(validation: &Validation) -> Value {
    sorted(json!({"error": validation.error, "node_errors": validation.node_errors}))
}

fn sorted(mut answer: Value) -> Value {
    for node in answer["node_errors"].as_object_mut().unwrap().values_mut() {
        node["errors"].as_array_mut().unwrap().sort_by_key(|error| error.to_string());
    }
    answer
}

/// Where we answer otherwise on purpose: the status, and what we find.
fn difference(note: &str) -> Option<(u32, &'static [(&'static str, &'static str)])> {
    match note {
        "node_without_inputs" => {
            Some((400, &[("8", "required_input_missing"), ("8", "required_input_missing")]))
        }
        "two-node cycle, types ok" => {
            Some((400, &[("20", "exception_during_validation"), ("21", "exception_during_validation")]))
        }
        "nan_string_for_float" => Some((400, &[("3", "invalid_input_type")])),
        _ => None,
    }
}

fn kinds(validation: &Validation) -> Vec<(&str, &str)> {
    let of_node = |(id, node): (_, _)| {
        let (id, node): (&NodeId, &comfy_graph::NodeErrors) = (id, node);
        node.errors.iter().map(|error| (id.as_str(), &*error.kind)).collect::<Vec<_>>()
    };
    let mut kinds: Vec<_> = validation.node_errors.iter().flat_map(of_node).collect();
    kinds.sort_unstable();
    kinds
}

#[test]
fn recorded_prompts_get_the_recorded_answers() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("../fixtures/validation.json")).unwrap();
    assert_eq!(cases.len(), 38);
    for case in cases {
        let note = case["note"].as_str().unwrap();
        let validation = run(&case["prompt"], &[]);
        let status = if validation.graph.is_some() { 200 } else { 400 };
        assert_eq!(validation.error.is_some(), status == 400, "{note}");
        if let Some((expected_status, expected)) = difference(note) {
            assert_eq!((status, &kinds(&validation)[..]), (expected_status, expected), "{note}");
            continue;
        }
        assert_eq!(json!(status), case["status"], "{note}: {validation:#?}");
        assert_eq!(answer(&validation), sorted(case["answer"].clone()), "{note}");
    }
}

#[track_caller]
fn check_order(prompt: &Value, targets: &[&str], expected: &str) {
    let graph = run(prompt, targets).graph.unwrap();
    let order: Vec<&str> = graph.nodes.keys().map(NodeId::as_str).collect();
    assert_eq!(order.join(" "), expected);
    for (place, node) in graph.nodes.values().enumerate() {
        for link in node.links() {
            assert!(graph.nodes.get_index_of(&link.node).unwrap() < place);
        }
    }
}

#[test]
fn nodes_are_ordered_as_comfyui_runs_them() {
    check_order(&text_to_image(), &[], "4 5 7 6 3 8 9");
    let cases: Vec<Value> = serde_json::from_str(include_str!("../fixtures/validation.json")).unwrap();
    let with_order = cases.iter().find(|case| case["note"].as_str().unwrap().starts_with("node k")).unwrap();
    check_order(&with_order["prompt"], &[], "b s1 a m z");
    check_order(&with_order["prompt"], &["s1"], "b s1");
}

#[test]
fn inputs_are_converted_and_follow_the_spec() {
    let mut prompt = text_to_image();
    prompt["3"]["inputs"]["seed"] = json!(u64::MAX);
    prompt["3"]["inputs"]["steps"] = json!("4");
    let graph = run(&prompt, &[]).graph.unwrap();
    let sampler = &graph.nodes[&NodeId::from("3")];
    assert_eq!(
        serde_json::to_value(&sampler.inputs).unwrap(),
        json!({
            "model": {"link": {"node": "4", "slot": 0}},
            "seed": {"literal": u64::MAX},
            "steps": {"literal": 4},
            "cfg": {"literal": 8.0},
            "sampler_name": {"literal": "euler"},
            "scheduler": {"literal": "normal"},
            "positive": {"link": {"node": "6", "slot": 0}},
            "negative": {"link": {"node": "7", "slot": 0}},
            "latent_image": {"link": {"node": "5", "slot": 0}},
            "denoise": {"literal": 1.0},
        })
    );
    assert_eq!(sampler.inputs.keys().next().unwrap(), "model");
    assert_eq!((&*sampler.stage, &sampler.output_types[..]), ("sampler", &["LATENT".to_owned()][..]));
    assert_eq!(graph.outputs, [NodeId::from("9")]);
}

#[test]
fn targets_must_be_output_nodes() {
    for (targets, problem) in [(["nope"], "does not exist"), (["8"], "is not an output node")] {
        let error = run(&text_to_image(), &targets).error.unwrap();
        assert_eq!(error.kind, "invalid_prompt");
        assert!(error.message.contains(problem), "{}", error.message);
    }
}

/// Two outputs: `9` decodes with a fault in `3`, `20` is sound.
#[test]
fn a_bad_output_is_dropped_and_named_as_dependent() {
    let mut prompt = text_to_image();
    prompt["3"]["inputs"]["steps"] = json!(0);
    prompt["20"] = json!({"class_type": "PreviewImage", "inputs": {"images": ["21", 0]}});
    prompt["21"] =
        json!({"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}});
    prompt["22"] = json!({"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}});
    let validation = run(&prompt, &[]);
    assert_eq!(validation.graph.unwrap().outputs, [NodeId::from("20")]);
    let (id, errors) = validation.node_errors.first().unwrap();
    assert_eq!((id.as_str(), validation.node_errors.len()), ("3", 1));
    assert_eq!(errors.dependent_outputs, [NodeId::from("9"), NodeId::from("22")]);
}

#[track_caller]
fn check_kinds(edit: impl Fn(&mut Value), expected: &[(&str, &str)]) {
    let mut prompt = text_to_image();
    edit(&mut prompt);
    let validation = run(&prompt, &[]);
    assert_eq!(kinds(&validation), expected, "{validation:#?}");
}

#[test]
fn links_are_checked() {
    let set = |node: &'static str, input: &'static str, value: Value| {
        move |prompt: &mut Value| prompt[node]["inputs"][input] = value.clone()
    };
    check_kinds(set("9", "images", json!(["99", 0])), &[("9", "exception_during_validation")]);
    check_kinds(set("9", "images", json!(["8", 1])), &[("9", "exception_during_validation")]);
    check_kinds(set("8", "samples", json!(["3", -1])), &[("8", "exception_during_inner_validation")]);
    check_kinds(set("8", "samples", json!(["3", "0"])), &[("8", "exception_during_inner_validation")]);
    check_kinds(set("8", "samples", json!([3, 0])), &[("8", "exception_during_inner_validation")]);
    check_kinds(set("8", "samples", json!("3")), &[("8", "bad_linked_input")]);
    check_kinds(set("8", "samples", json!([])), &[("8", "bad_linked_input")]);
    check_kinds(set("8", "samples", json!(["4", 2])), &[("8", "return_type_mismatch")]);
    check_kinds(set("6", "text", json!({"__value__": ["4", 1]})), &[]);
}

#[test]
fn a_cycle_is_named_on_its_nodes_only() {
    let upscale = |from: &str| json!({"class_type": "LatentUpscaleBy", "inputs": {"samples": [from, 0], "upscale_method": "area", "scale_by": 1}});
    let mut prompt = text_to_image();
    prompt["a"] = upscale("b");
    prompt["b"] = upscale("c");
    prompt["c"] = upscale("a");
    prompt["d"] = upscale("c");
    prompt["8"]["inputs"]["samples"] = json!(["d", 0]);
    let validation = run(&prompt, &[]);
    let kind = "exception_during_validation";
    assert_eq!(kinds(&validation), [("a", kind), ("b", kind), ("c", kind)]);
    let errors = &validation.node_errors[&NodeId::from("b")];
    assert_eq!(errors.dependent_outputs, [NodeId::from("9")]);
    assert!(errors.errors[0].details.contains("a, b, c"), "{}", errors.errors[0].details);
    prompt["d"] = upscale("d");
    assert_eq!(kinds(&run(&prompt, &[])), [("d", kind)]);
}

#[test]
fn every_unknown_class_is_named() {
    let error =
        run(&json!({"1": {"class_type": "A"}, "2": {"class_type": "B"}, "3": {}}), &[]).error.unwrap();
    assert_eq!(error.message, "Cannot execute because node A does not exist.");
    assert_eq!(
        error.details,
        "Node ID '#1'\nNode ID '#2': node B does not exist\nNode ID '#3': a node is missing the class_type property"
    );
}

/// A chain as long as a workflow may be, with an output and a fault at every node.
#[test]
fn long_chains_do_not_overflow_the_stack() {
    let count = 20_000;
    let mut prompt = serde_json::Map::new();
    let mut before = json!(["none", 0]);
    for index in 0..count {
        let id = format!("n{index}");
        let node = json!({"class_type": "ImageInvert", "inputs": {"image": before}});
        before = json!([id, 0]);
        prompt.insert(
            format!("out{index}"),
            json!({"class_type": "PreviewImage", "inputs": {"images": [id, 0]}}),
        );
        prompt.insert(id, node);
    }
    let mut prompt = Value::Object(prompt);
    let broken = run(&prompt, &[]);
    assert_eq!(broken.node_errors.len(), 1);
    assert_eq!(broken.node_errors[0].dependent_outputs.len(), MAX_DEPENDENT_OUTPUTS);
    prompt["n0"] = json!({"class_type": "LoadImage", "inputs": {"image": "example.png"}});
    assert_eq!(run(&prompt, &[]).graph.unwrap().nodes.len(), 2 * count);
    prompt["n0"] = json!({"class_type": "ImageInvert", "inputs": {"image": before}});
    assert_eq!(run(&prompt, &[]).node_errors.len(), count);
}
