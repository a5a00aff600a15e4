//! Compares the spec of every node of this stage with ComfyUI's.

use super::nodes;
use comfy_graph::{CatalogNode, object_info::object_info};
use serde_json::{Map, Value, json};

const FIXTURE: &str = include_str!("../../tests/fixtures/object_info.json");

/// Options that a person or a workflow notices. Step 1 is what a page assumes anyway.
const OPTIONS: [&str; 8] =
    ["default", "min", "max", "step", "round", "control_after_generate", "multiline", "dynamicPrompts"];

/// Where a spec differs on purpose, and why.
const ALLOWED: [(&str, &str); 2] = [
    ("CLIPLoader.input.required.type", "only the kinds of encoder that this stage can run are offered"),
    ("DualCLIPLoader.input.required.type", "only the pairs of encoders that this stage can run are offered"),
];

/// Brings numbers to one form, so that `0` is `0.0`.
fn number(value: &Value) -> Value {
    match value.as_f64() {
        // Seeds go beyond what a float holds exactly.
        Some(float) if value.as_u64().is_none_or(|whole| whole < 1 << 53) => json!(float),
        _ => value.clone(),
    }
}

/// Brings an input to the form of the fixture, without what a page assumes anyway.
fn input(config: &Value) -> Value {
    let (kind, given) = (&config[0], &config[1]);
    let mut options = Map::new();
    for name in OPTIONS {
        let Some(value) = given.get(name) else { continue };
        let assumed = match name {
            "step" => kind == "INT" && *value == json!(1),
            "default" => kind == "BOOLEAN" && *value == json!(false),
            "control_after_generate" | "multiline" | "dynamicPrompts" => *value == json!(false),
            _ => false,
        };
        if !assumed {
            options.insert(name.into(), number(value));
        }
    }
    let first_choice = kind.get(0);
    if first_choice.is_some() && options.get("default") == first_choice {
        options.remove("default");
    }
    json!([kind, options])
}

fn ours(node: &CatalogNode) -> Value {
    let info = object_info(node);
    let files: Vec<&str> = node
        .spec
        .inputs
        .iter()
        .filter(|input| {
            matches!(&input.widget, Some(comfy_graph::spec::Widget::Combo { folder: Some(_), .. }))
        })
        .map(|input| input.name.as_str())
        .collect();
    let group = |group: &str| {
        let inputs = info["input"].get(group).and_then(Value::as_object).cloned().unwrap_or_default();
        let each = |(name, config): (String, Value)| {
            let config = if files.contains(&name.as_str()) { json!(["FILES"]) } else { config };
            (name, input(&config))
        };
        Value::Object(inputs.into_iter().map(each).collect())
    };
    let order = |group: &str| info["input_order"].get(group).cloned().unwrap_or(json!([]));
    json!({
        "input": {"required": group("required"), "optional": group("optional")},
        "input_order": {"required": order("required"), "optional": order("optional")},
        "output": info["output"],
        "output_name": info["output_name"],
        "output_is_list": info["output_is_list"],
        "category": info["category"],
        "output_node": info["output_node"],
        "deprecated": node.spec.deprecated,
        "experimental": node.spec.experimental,
    })
}

/// Lists the places where two values differ.
fn differences(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let value = |map: &Map<String, Value>| map.get(name).cloned().unwrap_or_default();
                differences(&format!("{path}.{name}"), &value(a), &value(b), found);
            }
        }
        (a, b) if a == b => (),
        (a, b) => found.push(format!("{path}: {a} here, {b} there")),
    }
}

#[test]
fn every_spec_is_comfyuis() {
    let theirs: Value = serde_json::from_str(FIXTURE).unwrap();
    let mut found = Vec::new();
    for node in nodes() {
        let spec = node.spec();
        let class = spec.class.clone();
        let Some(golden) = theirs.get(&class) else {
            found.push(format!("{class}: not a class of ComfyUI"));
            continue;
        };
        let mut golden = golden.clone();
        for group in ["required", "optional"] {
            for config in golden["input"][group].as_object_mut().unwrap().values_mut() {
                *config = input(config);
            }
        }
        let node = CatalogNode { spec, stage: String::new(), stage_fingerprint: String::new() };
        differences(&class, &ours(&node), &golden, &mut found);
    }
    for (place, _reason) in ALLOWED {
        let count = found.len();
        found.retain(|difference| !difference.starts_with(place));
        assert!(found.len() < count, "{place} does not differ any more");
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn texts_are_there() {
    for node in nodes() {
        let spec = node.spec();
        assert!(!spec.display_name.is_empty() && !spec.description.is_empty(), "{}", spec.class);
        assert!(spec.version > 0, "{}", spec.class);
    }
}
