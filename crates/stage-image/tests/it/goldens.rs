//! Every recorded call of an image or mask node gives what ComfyUI gave.

use comfy_stage::{Data, codec};
use comfy_testkit::goldens::{differences, read};

use crate::{Stage, bind, node};

/// f32 arithmetic in another order.
const TOLERANCE: f32 = 1e-5;

#[tokio::test]
async fn nodes_give_comfyuis_numbers() {
    let mut stage = Stage::start().await;
    let manifest = include_str!("../fixtures/image_nodes.json");
    let goldens = read(manifest, include_bytes!("../fixtures/image_nodes.safetensors")).unwrap();
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
    assert!(goldens.len() >= 157, "{} cases", goldens.len());
    assert!(found.is_empty(), "{} of {} cases:\n{}", found.len(), goldens.len(), found.join("\n"));
}
