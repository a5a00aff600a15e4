//! Converts UI workflows to API graphs by the nodes of an `/object_info` answer, ComfyUI's or ours.
//!
//! `convert OBJECT_INFO.json WORKFLOW.json...` writes one line of JSON for each workflow: its file, the classes that
//! the answer does not know, and the graph or the error. `scripts/check_templates.sh` uses it.

use comfy_graph::workflow::{is_ui_format, read};
use comfy_graph::{
    Catalog, DYNAMIC_COMBO, DynamicOption, InputGroup, InputSpec, NodeSpec, OutputSpec, Widget,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::error::Error;
use std::io::Write as _;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let info = arguments.next().ok_or("usage: convert OBJECT_INFO.json WORKFLOW.json...")?;
    let catalog = catalog(&read_json(&info)?);
    let mut out = std::io::stdout().lock();
    for file in arguments {
        let workflow = read_json(&file)?;
        if !is_ui_format(&workflow) {
            continue;
        }
        writeln!(out, "{}", report(&file, &workflow, &catalog))?;
    }
    Ok(())
}

fn read_json(file: &str) -> Result<Value, Box<dyn Error>> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    Ok(serde_json::from_str(&text).map_err(|error| format!("{file}: {error}"))?)
}

fn report(file: &str, workflow: &Value, catalog: &Catalog) -> Value {
    match read(workflow, catalog) {
        Ok(graph) => {
            let classes = graph.nodes.values().filter_map(|node| node.class_type.as_deref());
            let unknown: BTreeSet<&str> = classes.filter(|class| catalog.get(class).is_none()).collect();
            json!({"file": file, "unknown": unknown, "graph": graph.to_json()})
        }
        Err(error) => json!({"file": file, "error": error.to_string()}),
    }
}

fn catalog(info: &Value) -> Catalog {
    let nodes = info.as_object().into_iter().flatten();
    let mut catalog = Catalog::default();
    catalog.add_stage("file", "file", nodes.map(|(class, node)| spec(class, node)).collect());
    catalog
}

fn spec(class: &str, node: &Value) -> NodeSpec {
    let groups = [("required", InputGroup::Required), ("optional", InputGroup::Optional)];
    let inputs = groups.into_iter().flat_map(|(key, group)| {
        let order = node["input_order"][key].as_array().into_iter().flatten().filter_map(Value::as_str);
        order.map(move |name| InputSpec { group, ..input(name, &node["input"][key][name]) })
    });
    let outputs = node["output"].as_array().into_iter().flatten();
    NodeSpec {
        class: class.into(),
        display_name: node["display_name"].as_str().unwrap_or_default().into(),
        inputs: inputs.collect(),
        outputs: outputs.map(|socket| OutputSpec::of(socket.as_str().unwrap_or("COMBO"))).collect(),
        ..NodeSpec::default()
    }
}

fn input(name: &str, config: &Value) -> InputSpec {
    let none = Map::new();
    let options = config[1].as_object().unwrap_or(&none);
    let default = options.get("default").cloned().unwrap_or_default();
    let is_set = |key: &str| options.get(key).is_some_and(|value| value == true);
    let mut input = match config[0].as_str().unwrap_or("COMBO") {
        "INT" => InputSpec::int(name, default.as_i64().unwrap_or_default().into(), (i128::MIN, i128::MAX), 1),
        "FLOAT" => {
            let range = (f64::NEG_INFINITY, f64::INFINITY);
            InputSpec::exact_float(name, default.as_f64().unwrap_or_default(), range, 1.0)
        }
        "STRING" => InputSpec::text(name, default.as_str().unwrap_or_default()),
        "BOOLEAN" => InputSpec::boolean(name, default.as_bool().unwrap_or_default()),
        "COMBO" => {
            let values = config[0].as_array().or_else(|| options.get("options")?.as_array());
            let texts: Vec<String> = values.into_iter().flatten().map(text).collect();
            let choices: Vec<&str> = texts.iter().map(String::as_str).collect();
            let combo = InputSpec::combo(name, &choices);
            default.as_str().map_or(combo.clone(), |value| combo.choose(value))
        }
        DYNAMIC_COMBO => {
            let choices = options.get("options").and_then(Value::as_array).into_iter().flatten();
            let choice =
                |choice: &Value| DynamicOption::new(&text(&choice["key"]), nested(&choice["inputs"]));
            InputSpec::dynamic_combo(name, choices.map(choice).collect())
        }
        socket => InputSpec::socket(name, socket),
    };
    input.force_input = is_set("forceInput");
    match &mut input.widget {
        Some(Widget::Int { control_after_generate, .. }) => {
            *control_after_generate = is_set("control_after_generate");
        }
        Some(Widget::Combo { upload, .. }) => {
            *upload = options.keys().find_map(|key| key.strip_suffix("_upload")).map(str::to_owned);
        }
        _ => {}
    }
    input
}

/// The inputs that a choice brings; their order is that of the JSON.
fn nested(inputs_by_group: &Value) -> Vec<InputSpec> {
    let groups = [("required", InputGroup::Required), ("optional", InputGroup::Optional)];
    let inputs = groups.into_iter().flat_map(|(key, group)| {
        let members = inputs_by_group[key].as_object().into_iter().flatten();
        members.map(move |(name, config)| InputSpec { group, ..input(name, config) })
    });
    inputs.collect()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
