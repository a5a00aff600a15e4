//! Files that add something to a network: hypernetworks and GLIGEN.

use crate::stage::{Give, Stage, Step, basics, ksampler, relative};
use candle_core::{Device, Tensor};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

const EULER: (&str, &str) = ("euler", "normal");

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../diffusion/tests/fixtures").join(name)
}

fn hypernetwork<'a>(id: &'a str, model: &'a str, strength: f64) -> Step<'a> {
    let inputs = vec![
        ("model", Give::Link(model, 0)),
        ("hypernetwork_name", Give::Text("small.safetensors")),
        ("strength", Give::Float(strength)),
    ];
    Step(id, "HypernetworkLoader", inputs)
}

#[tokio::test(flavor = "multi_thread")]
async fn hypernetworks_add_up() {
    let stage = Stage::start().await;
    std::fs::copy(fixture("hypernetwork.safetensors"), stage.place("hypernetworks", "small.safetensors"))
        .unwrap();
    let mut steps = basics(64);
    steps.push(hypernetwork("none_of_it", "model", 0.0));
    steps.push(hypernetwork("once", "model", 0.5));
    steps.push(hypernetwork("twice", "once", 0.5));
    let runs = [("Plain", "model"), ("Same", "none_of_it"), ("Once", "once"), ("Twice", "twice")];
    steps.extend(runs.map(|(id, model)| ksampler(id, model, "cat", 4.0, EULER)));
    let [plain, same, once, twice] = stage.latents(steps, runs.map(|(id, _)| id)).await;
    assert_eq!(same, plain);
    assert!(relative(&once, &plain) > 1e-3 && relative(&twice, &once) > 1e-3);

    let mut missing = basics(64);
    missing.push(Step(
        "Gone",
        "HypernetworkLoader",
        vec![
            ("model", Give::Link("model", 0)),
            ("hypernetwork_name", Give::Text("gone.pt")),
            ("strength", Give::Float(1.0)),
        ],
    ));
    let error = stage.publish(missing).await.unwrap_err();
    assert!(error.contains("`gone.pt`") && error.contains("`small.safetensors`"), "{error}");
}

/// Layers of the right shapes for the tiny checkpoint.
fn write_gligen(path: &Path) {
    let bytes = std::fs::read(fixture("gligen.safetensors")).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let described = &header.metadata().as_ref().unwrap()["layers"];
    let described: HashMap<String, serde_json::Value> = serde_json::from_str(described).unwrap();
    let tensors: HashMap<String, Tensor> = described
        .into_iter()
        .map(|(name, layer)| {
            let shape: Vec<usize> = serde_json::from_value(layer["shape"].clone()).unwrap();
            let number = |key: &str| layer[key].as_f64().unwrap();
            let (phase, spread) = (number("number"), number("spread"));
            // Without order, or the layers would see next to nothing of a box.
            let value = |i: usize| {
                let wave = (i as f64 * 12.9898 + phase * 78.233).sin() * 43_758.545_3;
                ((wave - wave.floor() - 0.5) * 3.4 * spread + number("mean")) as f32
            };
            let values: Vec<f32> = (0..shape.iter().product()).map(value).collect();
            (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
        })
        .collect();
    candle_core::safetensors::save(&tensors, path).unwrap();
}

fn grounded<'a>(id: &'a str, conditioning: &'a str, text: &'a str, x: i128) -> Step<'a> {
    let inputs = vec![
        ("conditioning_to", Give::Link(conditioning, 0)),
        ("clip", Give::Link("model", 1)),
        ("gligen_textbox_model", Give::Link("gligen", 0)),
        ("text", Give::Text(text)),
        ("width", Give::Int(32)),
        ("height", Give::Int(32)),
        ("x", Give::Int(x)),
        ("y", Give::Int(0)),
    ];
    Step(id, "GLIGENTextBoxApply", inputs)
}

#[tokio::test(flavor = "multi_thread")]
async fn boxes_change_the_picture() {
    let stage = Stage::start().await;
    write_gligen(&stage.place("gligen", "boxes.safetensors"));
    let mut steps = basics(64);
    steps.push(Step("gligen", "GLIGENLoader", vec![("gligen_name", Give::Text("boxes.safetensors"))]));
    steps.push(grounded("one", "cat", "a hat", 0));
    steps.push(grounded("elsewhere", "cat", "a hat", 32));
    steps.push(grounded("two", "one", "a shoe", 32));
    let runs = [("Plain", "cat"), ("One", "one"), ("Elsewhere", "elsewhere"), ("Two", "two")];
    steps.extend(runs.map(|(id, positive)| ksampler(id, "model", positive, 4.0, EULER)));
    let [plain, one, elsewhere, two] = stage.latents(steps, runs.map(|(id, _)| id)).await;
    for (name, a, b) in [("one", &one, &plain), ("elsewhere", &elsewhere, &one), ("two", &two, &one)] {
        let apart = relative(a, b);
        assert!(apart > 1e-5, "{name}: {apart:e}");
    }
}
