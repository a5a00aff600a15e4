//! Where, when and how prompts count.

use crate::stage::{Give, Stage, Step, basics, ksampler};
use comfy_artifacts::HostTensor;
use comfy_stage::{Conditioning, Data, codec};

const EULER: (&str, &str) = ("euler", "normal");

fn area<'a>(id: &'a str, prompt: &'a str, x: i128) -> Step<'a> {
    let inputs = vec![
        ("conditioning", Give::Link(prompt, 0)),
        ("width", Give::Int(64)),
        ("height", Give::Int(64)),
        ("x", Give::Int(x)),
        ("y", Give::Int(0)),
        ("strength", Give::Float(1.0)),
    ];
    Step(id, "ConditioningSetArea", inputs)
}

fn combine<'a>(id: &'a str, first: &'a str, second: &'a str) -> Step<'a> {
    let inputs = vec![("conditioning_1", Give::Link(first, 0)), ("conditioning_2", Give::Link(second, 0))];
    Step(id, "ConditioningCombine", inputs)
}

fn columns(latent: &HostTensor, range: std::ops::Range<usize>) -> Vec<f32> {
    let width = *latent.shape().last().unwrap();
    latent.data().chunks(width).flat_map(|row| row[range.clone()].to_vec()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn areas_draw_apart() {
    let stage = Stage::start().await;
    let mut steps = basics(128);
    steps.extend([area("left_cat", "cat", 0), area("right_cat", "cat", 64), area("right_dog", "dog", 64)]);
    steps.push(combine("same", "left_cat", "right_cat"));
    steps.push(combine("other", "left_cat", "right_dog"));
    for (one, two, prompt) in [("One1", "One7", "same"), ("Two1", "Two7", "other")] {
        steps.push(ksampler(one, "model", prompt, 1.0, EULER));
        steps.push(ksampler(two, "model", prompt, 7.0, EULER));
    }
    let [same, other, same_guided, other_guided] =
        stage.latents(steps, ["One1", "Two1", "One7", "Two7"]).await;
    assert_eq!(same.shape(), [1, 4, 8, 16]);
    // Without guidance the halves do not see each other.
    assert_eq!(columns(&same, 0..8), columns(&other, 0..8));
    assert_ne!(columns(&same, 8..16), columns(&other, 8..16));
    // The negative prompt sees the whole picture, so with guidance they do.
    assert_ne!(columns(&same_guided, 8..16), columns(&other_guided, 8..16));
    assert!(other_guided.data().iter().all(|v| v.is_finite()));
}

#[tokio::test(flavor = "multi_thread")]
async fn saying_everywhere_and_always_changes_nothing() {
    let stage = Stage::start().await;
    // Masks come from another stage.
    let white = Data::Mask(HostTensor::full(vec![1, 64, 64], 1.0));
    let white = codec::publish(&white, stage.store()).await.unwrap();
    let mut steps = basics(64);
    let mask = vec![
        ("conditioning", Give::Link("cat", 0)),
        ("mask", Give::Value(white)),
        ("strength", Give::Float(1.0)),
        ("set_cond_area", Give::Text("default")),
    ];
    steps.push(Step("masked", "ConditioningSetMask", mask));
    let range = |end| {
        vec![("conditioning", Give::Link("cat", 0)), ("start", Give::Float(0.0)), ("end", Give::Float(end))]
    };
    steps.push(Step("ranged", "ConditioningSetTimestepRange", range(1.0)));
    steps.push(Step("early", "ConditioningSetTimestepRange", range(0.4)));
    let strength = vec![("conditioning", Give::Link("cat", 0)), ("strength", Give::Float(1.0))];
    steps.push(Step("strong", "ConditioningSetAreaStrength", strength));
    for (id, prompt) in [
        ("Plain", "cat"),
        ("Masked", "masked"),
        ("Ranged", "ranged"),
        ("Strong", "strong"),
        ("Early", "early"),
    ] {
        steps.push(ksampler(id, "model", prompt, 7.0, EULER));
    }
    let [plain, masked, ranged, strong, early] =
        stage.latents(steps, ["Plain", "Masked", "Ranged", "Strong", "Early"]).await;
    assert_eq!(masked, plain);
    assert_eq!(ranged, plain);
    assert_eq!(strong, plain);
    assert_ne!(early, plain);
}

async fn conditioning(stage: &Stage, class: &str, inputs: Vec<(&str, Give<'_>)>) -> [Conditioning; 3] {
    let mut steps = basics(64);
    steps.push(Step("Changed", class, inputs));
    // Other nodes of the group publish what they were given.
    for (id, prompt) in [("Cat", "cat"), ("Dog", "dog")] {
        let inputs = vec![("conditioning", Give::Link(prompt, 0)), ("strength", Give::Float(1.0))];
        steps.push(Step(id, "ConditioningSetAreaStrength", inputs));
    }
    let published = stage.publish(steps).await.unwrap();
    let mut found = Vec::new();
    for name in ["Changed", "Cat", "Dog"] {
        match stage.fetch(&published[&(name.to_owned(), 0)]).await {
            Data::Conditioning(entries) => found.push(entries),
            other => panic!("expected a conditioning, got {}", other.kind()),
        }
    }
    found.try_into().unwrap()
}

fn pair<'a>() -> Vec<(&'a str, Give<'a>)> {
    vec![("conditioning_to", Give::Link("cat", 0)), ("conditioning_from", Give::Link("dog", 0))]
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_are_joined_and_mixed() {
    let stage = Stage::start().await;
    let [joined, cat, dog] = conditioning(&stage, "ConditioningConcat", pair()).await;
    assert_eq!(joined[0].embedding.shape(), [1, 154, 64]);
    let both = [cat[0].embedding.data(), dog[0].embedding.data()].concat();
    assert_eq!(joined[0].embedding.data(), both);
    assert_eq!(joined[0].pooled, cat[0].pooled);
    let mut inputs = pair();
    inputs.push(("conditioning_to_strength", Give::Float(0.25)));
    let [mixed, cat, dog] = conditioning(&stage, "ConditioningAverage", inputs).await;
    let check = |mixed: &HostTensor, cat: &HostTensor, dog: &HostTensor| {
        for ((got, cat), dog) in mixed.data().iter().zip(cat.data()).zip(dog.data()) {
            assert!((got - (0.25 * cat + 0.75 * dog)).abs() < 1e-5);
        }
    };
    check(&mixed[0].embedding, &cat[0].embedding, &dog[0].embedding);
    let pooled = |c: &Conditioning| c[0].pooled.clone().unwrap();
    check(&pooled(&mixed), &pooled(&cat), &pooled(&dog));
    let zero = vec![("conditioning", Give::Link("cat", 0))];
    let [zero, cat, _] = conditioning(&stage, "ConditioningZeroOut", zero).await;
    assert_eq!(zero[0].embedding, HostTensor::full(cat[0].embedding.shape().to_vec(), 0.0));
    assert!(pooled(&zero).data().iter().all(|v| *v == 0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_area_outside_is_named() {
    let stage = Stage::start().await;
    let mut steps = basics(64);
    steps.push(area("outside", "cat", 128));
    steps.push(ksampler("Bad", "model", "outside", 1.0, EULER));
    let error = stage.publish(steps).await.unwrap_err();
    assert!(error.contains("area"), "{error}");
}
