//! Cache keys: blind to names and order, sensitive to everything that changes a result.

use crate::specs::{catalog, catalog_of, file, specs, text_to_image, valid};
use comfy_graph::{
    CacheKey, Catalog, ComboOption, Input, InputSpec, Literal, NodeId, NodeSpec, ValidGraph, cache_keys,
};
use indexmap::IndexMap;
use proptest::prelude::*;
use serde_json::{Value, json};

fn keys(graph: &ValidGraph) -> IndexMap<NodeId, Option<CacheKey>> {
    cache_keys(graph)
}

#[track_caller]
fn key_of(graph: &ValidGraph, id: &str) -> Option<CacheKey> {
    keys(graph)[&NodeId::from(id)].clone()
}

fn renamed(json: &Value, prefix: &str) -> Value {
    let id = |id: &str| format!("{prefix}{id}");
    let node = |node: &Value| {
        let mut node = node.clone();
        for value in node["inputs"].as_object_mut().unwrap().values_mut() {
            if let Some(link) = value.as_array_mut() {
                link[0] = json!(id(link[0].as_str().unwrap()));
            }
        }
        node
    };
    json.as_object().unwrap().iter().map(|(key, value)| (id(key), node(value))).collect()
}

fn reversed(json: &Value) -> Value {
    let reverse = |object: &Value| -> Value {
        object.as_object().unwrap().iter().rev().map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    let node = |(key, node): (&String, &Value)| {
        let mut node = node.clone();
        node["inputs"] = reverse(&node["inputs"]);
        (key.clone(), node)
    };
    json.as_object().unwrap().iter().rev().map(node).collect()
}

#[test]
fn names_and_order_do_not_matter() {
    let catalog = catalog();
    let json = text_to_image();
    let expected = keys(&valid(&catalog, &json));
    let moved = keys(&valid(&catalog, &reversed(&renamed(&json, "x"))));
    assert_eq!(expected.len(), 7);
    for (id, key) in expected {
        assert!(key.is_some(), "{id}");
        assert_eq!(moved[&NodeId(format!("x{id}"))], key, "{id}");
    }
}

#[test]
fn every_literal_matters_downstream_only() {
    let catalog = catalog();
    let graph = valid(&catalog, &text_to_image());
    let before = keys(&graph);
    let mut changes = 0;
    for (id, node) in &graph.nodes {
        for (name, input) in &node.inputs {
            let Input::Literal(literal) = input else { continue };
            let changed = match literal {
                Literal::Bool(value) => Literal::Bool(!value),
                Literal::Int(value) => Literal::Int(value + 1),
                Literal::Float(value) => Literal::Float(value.next_up()),
                Literal::Text(value) => Literal::Text(format!("{value} ")),
            };
            let mut other = graph.clone();
            other.nodes[id].inputs[name] = Input::Literal(changed);
            let after = keys(&other);
            for (node, key) in &after {
                let is_downstream = node == id || depends_on(&graph, node, id);
                assert_eq!(*key != before[node], is_downstream, "{id}.{name} seen by {node}");
            }
            changes += 1;
        }
    }
    assert_eq!(changes, 13);
}

fn depends_on(graph: &ValidGraph, node: &NodeId, on: &NodeId) -> bool {
    graph.nodes[node].links().any(|link| link.node == *on || depends_on(graph, &link.node, on))
}

#[test]
fn class_slot_file_version_and_stage_matter() {
    let base = key_of(&valid(&catalog(), &text_to_image()), "9");
    let with = |edit: &dyn Fn(&mut NodeSpec), stage: &str| {
        let mut specs = specs();
        specs.iter_mut().for_each(edit);
        let mut catalog = Catalog::default();
        catalog.add_stage("sampler", stage, specs);
        key_of(&valid(&catalog, &text_to_image()), "9")
    };
    assert_eq!(with(&|_| (), "cpu f32"), base);
    assert_ne!(with(&|_| (), "cpu f16"), base);
    assert_ne!(with(&|spec| spec.version += u32::from(spec.class == "VAEDecode"), "cpu f32"), base);
    let other_file = |spec: &mut NodeSpec| {
        if spec.class == "CheckpointLoaderSimple" {
            spec.inputs = vec![file("ckpt_name", "checkpoints", &["tiny_sd1_random.safetensors"])];
            if let Some(comfy_graph::Widget::Combo { options, .. }) = &mut spec.inputs[0].widget {
                options[0].fingerprint = Some("replaced file".into());
            }
        }
    };
    assert_ne!(with(&other_file, "cpu f32"), base);
    let mut swapped = text_to_image();
    swapped["3"]["inputs"]["positive"] = json!(["7", 0]);
    assert_ne!(key_of(&valid(&catalog(), &swapped), "9"), base);
}

#[test]
fn files_that_a_prompt_names_matter() {
    let key = |prompt: &str, files: &[(&str, &str)]| {
        let mut specs = specs();
        let encode = specs.iter_mut().find(|spec| spec.class == "CLIPTextEncode").unwrap();
        let text = encode.inputs.iter_mut().find(|input| input.name == "text").unwrap();
        *text = InputSpec::prompt("text").mentioning("embedding:", "embeddings");
        let Some(comfy_graph::Widget::Text { mentions: Some(mentions), .. }) = &mut text.widget else {
            panic!()
        };
        let option = |(name, version): &(&str, &str)| ComboOption {
            value: (*name).into(),
            fingerprint: Some((*version).into()),
        };
        mentions.files = files.iter().map(option).collect();
        let mut graph = text_to_image();
        graph["6"]["inputs"]["text"] = json!(prompt);
        key_of(&valid(&catalog_of(specs), &graph), "6")
    };
    let named = "a (embedding:sub/style:1.2)";
    let base = key(named, &[("sub/style.pt", "1"), ("other.pt", "1")]);
    assert_eq!(key(named, &[("sub/style.pt", "1"), ("other.pt", "2")]), base);
    assert_ne!(key(named, &[("sub/style.pt", "2"), ("other.pt", "1")]), base);
    // A file that was missing when the prompt was encoded.
    assert_ne!(key(named, &[("other.pt", "1")]), base);
    assert_eq!(key("a cat", &[("sub/style.pt", "1")]), key("a cat", &[]));
}

#[test]
fn what_cannot_be_known_is_never_reused() {
    let check = |edit: &dyn Fn(&mut NodeSpec)| {
        let mut specs = specs();
        specs.iter_mut().filter(|spec| spec.class == "CheckpointLoaderSimple").for_each(edit);
        let keys = keys(&valid(&catalog_of(specs), &text_to_image()));
        for (id, key) in keys {
            assert_eq!(key.is_some(), id.as_str() == "5", "{id}");
        }
    };
    check(&|spec| spec.not_cacheable = true);
    check(&|spec| {
        let Some(comfy_graph::Widget::Combo { options, open, .. }) = &mut spec.inputs[0].widget else {
            panic!()
        };
        options.clear();
        *open = true;
    });
    check(&|spec| {
        let Some(comfy_graph::Widget::Combo { options, .. }) = &mut spec.inputs[0].widget else { panic!() };
        options.iter_mut().for_each(|option| option.fingerprint = None);
    });
}

#[test]
fn keys_of_the_same_work_agree_across_number_forms() {
    let catalog = catalog();
    let mut json = text_to_image();
    let expected = keys(&valid(&catalog, &json));
    json["3"]["inputs"]["cfg"] = json!("8.0");
    json["3"]["inputs"]["steps"] = json!(3.0);
    assert_eq!(keys(&valid(&catalog, &json)), expected);
}

#[test]
fn a_key_is_a_hex_text_in_json() {
    let key = key_of(&valid(&catalog(), &text_to_image()), "3").unwrap();
    let json = serde_json::to_value(&key).unwrap();
    assert_eq!(json, json!(key.as_str()));
    assert_eq!(key.to_string().len(), 64);
    assert_eq!(serde_json::from_value::<CacheKey>(json).unwrap(), key);
}

proptest! {
    #[test]
    fn texts_and_seeds_never_collide(a in ".{0,12}", b in ".{0,12}", seeds in any::<(u64, u64)>()) {
        let catalog = catalog();
        let with = |text: &str, seed: u64| {
            let mut json = text_to_image();
            json["6"]["inputs"]["text"] = json!(text);
            json["3"]["inputs"]["seed"] = json!(seed);
            key_of(&valid(&catalog, &json), "9")
        };
        let same = a == b && seeds.0 == seeds.1;
        prop_assert_eq!(with(&a, seeds.0) == with(&b, seeds.1), same);
    }
}
