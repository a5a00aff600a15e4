//! Every recorded call of an image or mask node gives what ComfyUI gave.

use comfy_stage::{Data, codec};
use comfy_testkit::goldens::{differences, read};

use crate::{Stage, bind, node};

/// f32 arithmetic in another order.
const TOLERANCE: f32 = 1e-5;

#[tokio::test]
async fn nodes_give_comfyuis_numbers() {
    let recorded = include_bytes!("../fixtures/image_nodes.safetensors");
    assert_eq!(check(include_str!("../fixtures/image_nodes.json"), recorded).await, 157);
}

#[tokio::test]
async fn nodes_give_the_numbers_of_comfyuis_libraries() {
    let computed = include_bytes!("../fixtures/torch_nodes.safetensors");
    assert_eq!(check(include_str!("../fixtures/torch_nodes.json"), computed).await, 55);
}

#[tokio::test]
async fn sizes_of_every_kind_give_the_numbers_of_torch_and_pillow() {
    let computed = include_bytes!("../fixtures/resize_nodes.safetensors");
    assert_eq!(check(include_str!("../fixtures/resize_nodes.json"), computed).await, 49);
}

/// Runs every case and returns how many there were.
async fn check(manifest: &str, tensors: &[u8]) -> usize {
    let mut stage = Stage::start().await;
    let goldens = read(manifest, tensors).unwrap();
    let mut found = Vec::new();
    for golden in &goldens {
        let mut inputs = Vec::new();
        for (name, data) in &golden.inputs {
            inputs.push((name.as_str(), bind(codec::publish(data, &stage.store).await.unwrap())));
        }
        let spec = stage.spec(&golden.node).await;
        let slots: Vec<u32> = (0..spec.outputs.len() as u32).collect();
        let ran = stage.run(&golden.name, vec![node("1", &golden.node, &slots, inputs)]).await;
        if let Some((code, message)) = ran.failure {
            found.push(format!("{}: {code:?} {message}", golden.name));
            continue;
        }
        let mut outputs: Vec<Data> = Vec::new();
        for slot in slots {
            outputs.push(stage.output(&ran, "1", slot).await);
        }
        found.extend(differences(golden, &outputs, TOLERANCE));
    }
    assert!(found.is_empty(), "{} of {} cases:\n{}", found.len(), goldens.len(), found.join("\n"));
    goldens.len()
}
