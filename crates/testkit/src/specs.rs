//! Compares node specs with those of ComfyUI.

use comfy_graph::spec::Widget;
use comfy_graph::{CatalogNode, NodeSpec, object_info::object_info};
use serde_json::{Map, Value, json};

/// Options that a person or a workflow notices. Step 1 is what a page assumes anyway.
const OPTIONS: [&str; 8] =
    ["default", "min", "max", "step", "round", "control_after_generate", "multiline", "dynamicPrompts"];

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
            "default" => {
                (kind == "BOOLEAN" && *value == json!(false)) || (kind == "STRING" && *value == json!(""))
            }
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
        .filter(|input| matches!(&input.widget, Some(Widget::Combo { folder: Some(_), .. })))
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

/// Lists where specs differ from the facts in `recorded`, apart from the places in `allowed`.
///
/// `recorded` is what `trim_object_info.py` leaves of ComfyUI's `/object_info`. An allowed place is the beginning of a
/// difference and its reason; one that does not differ any more is listed too.
pub fn differences_from_comfyui(
    specs: impl IntoIterator<Item = NodeSpec>,
    recorded: &str,
    allowed: &[(&str, &str)],
) -> Vec<String> {
    let theirs: Value = serde_json::from_str(recorded).expect("the record is JSON");
    let mut found = Vec::new();
    for spec in specs {
        let class = spec.class.clone();
        let Some(golden) = theirs.get(&class) else {
            found.push(format!("{class}: not a class of ComfyUI"));
            continue;
        };
        let mut golden = golden.clone();
        for group in ["required", "optional"] {
            for config in golden["input"][group].as_object_mut().expect("a group of inputs").values_mut() {
                *config = input(config);
            }
        }
        let node = CatalogNode { spec, stage: String::new(), stage_fingerprint: String::new() };
        differences(&class, &ours(&node), &golden, &mut found);
    }
    for (place, _reason) in allowed {
        let count = found.len();
        found.retain(|difference| !difference.starts_with(place));
        if found.len() == count {
            found.push(format!("{place} does not differ any more"));
        }
    }
    found
}
