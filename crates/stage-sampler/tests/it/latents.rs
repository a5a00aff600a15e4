//! Every recorded call of a latent node gives what ComfyUI gave.

use crate::stage::{Give, Stage, Step};
use comfy_artifacts::HostTensor;
use comfy_graph::Value;
use comfy_stage::{Data, Latent, codec};
use comfy_testkit::goldens::{differences, read};

/// f32 arithmetic in another order.
const TOLERANCE: f32 = 1e-5;

#[tokio::test(flavor = "multi_thread")]
async fn nodes_give_comfyuis_numbers() {
    let stage = Stage::start().await;
    let manifest = include_str!("../fixtures/latent_nodes.json");
    let goldens = read(manifest, include_bytes!("../fixtures/latent_nodes.safetensors")).unwrap();
    let mut found = Vec::new();
    for golden in &goldens {
        let mut inputs = Vec::new();
        for (name, data) in &golden.inputs {
            inputs.push((name.as_str(), Give::Value(codec::publish(data, stage.store()).await.unwrap())));
        }
        match stage.publish(vec![Step("Node", &golden.node, inputs)]).await {
            Ok(published) => {
                let output: Data = stage.fetch(&published[&("Node".to_owned(), 0)]).await;
                found.extend(differences(golden, &[output], TOLERANCE));
            }
            Err(message) => found.push(format!("{}: {message}", golden.name)),
        }
    }
    assert!(goldens.len() >= 46, "{} cases", goldens.len());
    assert!(found.is_empty(), "{} of {} cases:\n{}", found.len(), goldens.len(), found.join("\n"));
}

async fn latent(stage: &Stage, shape: [usize; 4]) -> Value {
    let count: usize = shape.iter().product();
    let samples = (0..count).map(|i| ((i * 37) % 101) as f32 / 25.0 - 2.0).collect();
    let mut latent = Latent::new(HostTensor::new(shape.to_vec(), samples).unwrap());
    latent.noise_mask = Some(HostTensor::full(vec![shape[0], 1, 16, 16], 0.5));
    codec::publish(&Data::Latent(latent), stage.store()).await.unwrap()
}

/// The one output of a node that is run alone.
async fn run(stage: &Stage, class: &str, inputs: Vec<(&str, Give<'_>)>) -> Result<Latent, String> {
    let published = stage.publish(vec![Step("Node", class, inputs)]).await?;
    match stage.fetch(&published[&("Node".to_owned(), 0)]).await {
        Data::Latent(latent) => Ok(latent),
        other => panic!("expected a latent, got {}", other.kind()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strips_are_cut_and_joined_again() {
    let stage = Stage::start().await;
    let whole = latent(&stage, [2, 4, 3, 5]).await;
    let Data::Latent(expected) = stage.fetch(&whole).await else { panic!("no latent") };
    for (axis, index) in [("x", 2), ("y", 1), ("t", 3), ("x", -3)] {
        let cut = |index: i128, amount: i128| {
            let latent = ("samples", Give::Value(whole.clone()));
            let place = [("index", Give::Int(index)), ("amount", Give::Int(amount))];
            [vec![latent, ("dim", Give::Text(axis))], Vec::from(place)].concat()
        };
        let place = if index < 0 { 5 + index } else { index };
        let joined = |first, second, dim| {
            let inputs = vec![
                ("samples1", Give::Link(first, 0)),
                ("samples2", Give::Link(second, 0)),
                ("dim", Give::Text(dim)),
            ];
            Step("Joined", "LatentConcat", inputs)
        };
        let turned = format!("-{axis}");
        for (first, second, dim) in [("head", "tail", axis), ("tail", "head", &turned)] {
            let parts =
                [Step("head", "LatentCut", cut(0, place)), Step("tail", "LatentCut", cut(index, 100))];
            let [found] = stage
                .latents(parts.into_iter().chain([joined(first, second, dim)]).collect(), ["Joined"])
                .await;
            assert_eq!(found, expected.samples, "{dim} {index}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_change_lengths_but_not_what_they_must_not() {
    let stage = Stage::start().await;
    let value = latent(&stage, [1, 4, 12, 12]).await;
    let Data::Latent(old) = stage.fetch(&value).await else { panic!("no latent") };
    let apply = |operation| {
        let inputs = vec![("samples", Give::Value(value.clone())), ("operation", Give::Link(operation, 0))];
        Step("Applied", "LatentApplyOperation", inputs)
    };
    let tonemap = Step("map", "LatentOperationTonemapReinhard", vec![("multiplier", Give::Float(1.0))]);
    let [mapped] = stage.latents(vec![tonemap, apply("map")], ["Applied"]).await;
    let pairs = mapped.data().iter().zip(old.samples.data());
    assert!(
        pairs.clone().all(|(new, old)| new.abs() <= old.abs() && new * old >= 0.0),
        "a value grew or turned"
    );
    assert!(pairs.clone().any(|(new, old)| new.abs() < old.abs() * 0.9));
    let sharpen = |alpha| {
        let inputs = vec![
            ("sharpen_radius", Give::Int(2)),
            ("sigma", Give::Float(1.0)),
            ("alpha", Give::Float(alpha)),
        ];
        Step("sharpen", "LatentOperationSharpen", inputs)
    };
    let [same] = stage.latents(vec![sharpen(0.0), apply("sharpen")], ["Applied"]).await;
    let worst = same.data().iter().zip(old.samples.data()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-5, "strength 0 changed {worst}");
    let [sharp] = stage.latents(vec![sharpen(0.5), apply("sharpen")], ["Applied"]).await;
    assert_ne!(sharp, same);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_keep_masks_and_places() {
    let stage = Stage::start().await;
    let three = latent(&stage, [3, 4, 2, 2]).await;
    let picked = vec![
        ("samples", Give::Value(three.clone())),
        ("batch_index", Give::Int(2)),
        ("length", Give::Int(9)),
    ];
    let last = run(&stage, "LatentFromBatch", picked).await.unwrap();
    assert_eq!((last.samples.shape()[0], last.batch_index), (1, Some(vec![2])));
    assert_eq!(last.noise_mask.unwrap().shape(), [1, 1, 16, 16]);
    let repeated = vec![("samples", Give::Value(three.clone())), ("amount", Give::Int(2))];
    let six = run(&stage, "RepeatLatentBatch", repeated).await.unwrap();
    assert_eq!((six.samples.shape()[0], six.noise_mask.unwrap().shape()[0]), (6, 6));
    let other = latent(&stage, [1, 3, 2, 2]).await;
    let wrong = vec![("samples1", Give::Value(three)), ("samples2", Give::Value(other))];
    assert!(run(&stage, "LatentAdd", wrong).await.unwrap_err().contains("channels"));
}
