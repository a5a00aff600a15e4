//! Converts UI workflows to API graphs by the nodes of an `/object_info` answer, ComfyUI's or ours.
//!
//! `convert OBJECT_INFO.json WORKFLOW.json...` writes one line of JSON for each workflow: its file, the classes that
//! the answer does not know, and the graph or the error. `scripts/check_templates.sh` uses it.

use comfy_graph::workflow::{is_ui_format, read};
use comfy_graph::{Catalog, ComboOption, InputGroup, InputSpec, NodeSpec, OutputSpec, Widget};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let info = arguments.next().ok_or("usage: convert OBJECT_INFO.json WORKFLOW.json...")?;
    let catalog = catalog(&read_json(&info)?);
    for file in arguments {
        let workflow = read_json(&file)?;
        if !is_ui_format(&workflow) {
            continue;
        }
        println!("{}", report(&file, &workflow, &catalog));
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
    let kind = config[0].as_str().unwrap_or("COMBO");
    InputSpec {
        name: name.into(),
        socket: kind.into(),
        force_input: options.get("forceInput").is_some_and(|value| value == true),
        widget: widget(kind, config, options),
        ..InputSpec::default()
    }
}

fn widget(kind: &str, config: &Value, options: &Map<String, Value>) -> Option<Widget> {
    let default = options.get("default").cloned().unwrap_or_default();
    let number = |key: &str| options.get(key).and_then(Value::as_f64);
    Some(match kind {
        "INT" => Widget::Int {
            default: default.as_i64().unwrap_or_default().into(),
            min: i128::MIN,
            max: i128::MAX,
            step: 1,
            control_after_generate: options.get("control_after_generate").is_some_and(|value| value == true),
            display: None,
        },
        "FLOAT" => Widget::Float {
            default: default.as_f64().unwrap_or_default(),
            min: number("min"),
            max: number("max"),
            step: 0.01,
            round: None,
            display: None,
        },
        "STRING" => Widget::Text {
            default: default.as_str().unwrap_or_default().into(),
            multiline: false,
            dynamic_prompts: false,
        },
        "BOOLEAN" => {
            Widget::Bool { default: default.as_bool().unwrap_or_default(), label_on: None, label_off: None }
        }
        "COMBO" => Widget::Combo {
            options: combo_options(config[0].as_array().or_else(|| options.get("options")?.as_array())),
            default: default.as_str().map(str::to_owned),
            folder: None,
            upload: options.keys().find_map(|key| key.strip_suffix("_upload")).map(str::to_owned),
            open: false,
        },
        _ => return None,
    })
}

fn combo_options(values: Option<&Vec<Value>>) -> Vec<ComboOption> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    values.into_iter().flatten().map(|value| ComboOption::from(text(value).as_str())).collect()
}
