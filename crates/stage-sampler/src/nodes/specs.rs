//! Compares the spec of every node of this stage with ComfyUI's.

use super::nodes;
use comfy_testkit::specs::differences_from_comfyui;

const FIXTURE: &str = include_str!("../../tests/fixtures/object_info.json");

/// Where a spec differs on purpose, and why.
const ALLOWED: [(&str, &str); 2] = [
    ("CLIPLoader.input.required.type", "only the kinds of encoder that this stage can run are offered"),
    ("DualCLIPLoader.input.required.type", "only the pairs of encoders that this stage can run are offered"),
];

#[test]
fn every_spec_is_comfyuis() {
    let specs = nodes().iter().map(|node| node.spec());
    let found = differences_from_comfyui(specs, FIXTURE, &ALLOWED);
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
