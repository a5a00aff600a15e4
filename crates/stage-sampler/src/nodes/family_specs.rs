//! The specs of the nodes for single model families against ComfyUI's.

use super::nodes;
use comfy_graph::CatalogNode;
use comfy_graph::object_info::object_info;
use serde_json::Value;

/// Takes out what is our own wording.
fn without_words(info: &mut Value) {
    for group in info["input"].as_object_mut().expect("groups").values_mut() {
        for config in group.as_object_mut().expect("inputs").values_mut() {
            let config = config.as_array_mut().expect("a tuple");
            if let Some(options) = config.get_mut(1).and_then(Value::as_object_mut) {
                options.shift_remove("tooltip");
                if options.is_empty() {
                    config.truncate(1);
                }
            }
        }
    }
}

#[test]
fn specs_are_those_of_comfyui() {
    let text = include_str!("../../tests/fixtures/object_info_families.json");
    let recorded: Value = serde_json::from_str(text).expect("the fixture is JSON");
    for (class, expected) in recorded.as_object().expect("classes by name") {
        let spec = nodes().iter().map(|node| node.spec()).find(|spec| spec.class == *class);
        let spec = spec.unwrap_or_else(|| panic!("no node `{class}`"));
        let node = CatalogNode { spec, stage: "sampler".into(), stage_fingerprint: String::new() };
        let mut found = object_info(&node);
        without_words(&mut found);
        for (key, value) in expected.as_object().expect("keys") {
            // As text, because the page minds the order of inputs.
            assert_eq!(found[key].to_string(), value.to_string(), "{class} {key}");
        }
    }
}
