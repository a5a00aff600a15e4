//! The JSON of node specs against ComfyUI's.

use crate::specs::{catalog, catalog_of};
use comfy_graph::object_info::object_info;
use comfy_graph::{InputSpec, NodeSpec, OutputSpec};
use serde_json::{Value, json};

/// Takes out what ComfyUI writes although it is what a page assumes anyway.
fn without_defaults(mut info: Value) -> Value {
    for group in info["input"].as_object_mut().unwrap().values_mut() {
        for config in group.as_object_mut().unwrap().values_mut() {
            if config[0] == "INT" && config[1]["step"] == 1 {
                config[1].as_object_mut().unwrap().shift_remove("step");
            }
        }
    }
    info
}

#[test]
fn shapes_match_comfyui() {
    let recorded: Value = serde_json::from_str(include_str!("../fixtures/object_info.json")).unwrap();
    let catalog = catalog();
    for (class, expected) in recorded.as_object().unwrap() {
        let mut found = object_info(catalog.get(class).unwrap());
        assert_eq!(found.as_object_mut().unwrap().shift_remove("description"), Some(json!("")), "{class}");
        let mut expected = without_defaults(expected.clone());
        expected["python_module"] = json!("nodes");
        assert_eq!(found, expected, "{class}");
        let order =
            |info: &Value| info["input"]["required"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(order(&found), order(&expected), "{class}");
    }
}

#[test]
fn optional_keys_appear_when_set() {
    let spec = NodeSpec {
        class: "Odd".into(),
        description: "Does odd things.".into(),
        inputs: vec![
            InputSpec { force_input: true, ..InputSpec::text("text", "") },
            InputSpec { lazy: true, ..InputSpec::socket("image", "IMAGE") }.tooltip("maybe"),
            InputSpec::hidden("id", "UNIQUE_ID"),
        ],
        outputs: vec![
            OutputSpec { tooltip: Some("many".into()), is_list: true, ..OutputSpec::new("images", "IMAGE") },
            OutputSpec::of("MASK"),
        ],
        deprecated: true,
        experimental: true,
        ..NodeSpec::default()
    };
    let catalog = catalog_of(vec![spec]);
    let expected = json!({
        "input": {
            "required": {
                "text": ["STRING", {"forceInput": true}],
                "image": ["IMAGE", {"lazy": true, "tooltip": "maybe"}],
            },
            "hidden": {"id": "UNIQUE_ID"},
        },
        "input_order": {"required": ["text", "image"], "hidden": ["id"]},
        "output": ["IMAGE", "MASK"],
        "output_is_list": [true, false],
        "output_name": ["images", "MASK"],
        "name": "Odd",
        "display_name": "",
        "description": "Does odd things.",
        "python_module": "nodes",
        "category": "",
        "output_node": false,
        "output_tooltips": ["many", null],
        "deprecated": true,
        "experimental": true,
    });
    assert_eq!(object_info(catalog.get("Odd").unwrap()), expected);
}
