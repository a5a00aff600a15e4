//! Control networks from their loaders to the sampler.

use crate::stage::{Give, Stage, Step, basics, ksampler, relative};
use comfy_artifacts::HostTensor;
use comfy_graph::Value;
use comfy_stage::{Data, codec};
use comfy_testkit::random_checkpoint as files;

const EULER: (&str, &str) = ("euler", "normal");

/// A picture as another stage hands it over.
async fn picture(stage: &Stage) -> Value {
    let data = (0..64 * 64 * 3).map(|i| (i % 97) as f32 / 96.0).collect();
    let image = Data::Image(HostTensor::new(vec![1, 64, 64, 3], data).unwrap());
    codec::publish(&image, stage.store()).await.unwrap()
}

fn load<'a>(id: &'a str, file: &'a str) -> Step<'a> {
    Step(id, "ControlNetLoader", vec![("control_net_name", Give::Text(file))])
}

fn apply<'a>(id: &'a str, network: &'a str, image: &Value, strength: f64, range: (f64, f64)) -> Step<'a> {
    apply_to(id, ("cat", 0), ("none", 0), network, image, (strength, range))
}

fn apply_to<'a>(
    id: &'a str,
    positive: (&'a str, u32),
    negative: (&'a str, u32),
    network: &'a str,
    image: &Value,
    (strength, (start, end)): (f64, (f64, f64)),
) -> Step<'a> {
    let inputs = vec![
        ("positive", Give::Link(positive.0, positive.1)),
        ("negative", Give::Link(negative.0, negative.1)),
        ("control_net", Give::Link(network, 0)),
        ("image", Give::Value(image.clone())),
        ("strength", Give::Float(strength)),
        ("start_percent", Give::Float(start)),
        ("end_percent", Give::Float(end)),
    ];
    Step(id, "ControlNetApplyAdvanced", inputs)
}

/// A sampler that follows both outputs of a node.
fn sample<'a>(id: &'a str, steered: &'a str) -> Step<'a> {
    with_negative(ksampler(id, "model", steered, 7.0, EULER), Give::Link(steered, 1))
}

fn with_negative<'a>(Step(id, class, mut inputs): Step<'a>, negative: Give<'a>) -> Step<'a> {
    inputs.retain(|(name, _)| *name != "negative");
    inputs.push(("negative", negative));
    Step(id, class, inputs)
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_steer_the_sampler() {
    let stage = Stage::start().await;
    stage.write_control("canny.safetensors", &files::CONTROL_SD1);
    stage.write_control("canny_shuffle.safetensors", &files::CONTROL_SD1);
    stage.write_control("lora.safetensors", &files::CONTROL_LORA);
    stage.write_control("t2i.safetensors", &files::T2I_SD1);
    let image = picture(&stage).await;
    let always = (0.0, 1.0);
    let mut steps = basics(64);
    steps.push(ksampler("Plain", "model", "cat", 7.0, EULER));
    for (network, file) in [
        ("canny", "canny.safetensors"),
        ("shuffle", "canny_shuffle.safetensors"),
        ("lora", "lora.safetensors"),
        ("t2i", "t2i.safetensors"),
    ] {
        steps.push(load(network, file));
    }
    let runs = [
        ("full", "Full", "canny", 1.0, always),
        ("nothing", "Nothing", "canny", 0.0, always),
        ("never", "Never", "canny", 1.0, (1.0, 1.0)),
        ("early", "Early", "canny", 1.0, (0.0, 0.3)),
        ("mean", "Mean", "shuffle", 1.0, always),
        ("low_rank", "LowRank", "lora", 1.0, always),
        ("adapter", "Adapter", "t2i", 1.0, always),
    ];
    for (id, name, network, strength, range) in runs {
        steps.push(apply(id, network, &image, strength, range));
        steps.push(sample(name, id));
    }
    // One after the other, and the same the other way round.
    steps.push(apply_to("then", ("full", 0), ("full", 1), "t2i", &image, (1.0, always)));
    steps.push(sample("Then", "then"));
    steps.push(apply_to("before", ("adapter", 0), ("adapter", 1), "canny", &image, (1.0, always)));
    steps.push(sample("Before", "before"));
    let names =
        ["Plain", "Full", "Nothing", "Never", "Early", "Mean", "LowRank", "Adapter", "Then", "Before"];
    let [plain, full, nothing, never, early, mean, low_rank, adapter, then, before] =
        stage.latents(steps, names).await;
    assert_eq!(nothing, plain);
    assert_eq!(never, plain);
    let different = [&plain, &full, &early, &mean, &low_rank, &adapter, &then];
    for (i, a) in different.iter().enumerate() {
        assert!(a.data().iter().all(|value| value.is_finite()), "{i}");
        for (j, b) in different.iter().enumerate().skip(i + 1) {
            assert!(relative(a, b) > 1e-3, "{i} {j}");
        }
    }
    assert!(relative(&before, &then) < 1e-4);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_node_steers_the_other_side_too() {
    let stage = Stage::start().await;
    stage.write_control("canny.safetensors", &files::CONTROL_SD1);
    let image = picture(&stage).await;
    let mut steps = basics(64);
    steps.push(load("canny", "canny.safetensors"));
    steps.push(apply("both", "canny", &image, 0.8, (0.0, 1.0)));
    steps.push(sample("Both", "both"));
    let one = vec![
        ("conditioning", Give::Link("cat", 0)),
        ("control_net", Give::Link("canny", 0)),
        ("image", Give::Value(image.clone())),
        ("strength", Give::Float(0.8)),
    ];
    steps.push(Step("one", "ControlNetApply", one));
    steps.push(ksampler("One", "model", "one", 7.0, EULER));
    // The newer node's positive side alone leaves the negative side as it is.
    steps.push(ksampler("Half", "model", "both", 7.0, EULER));
    let kind = vec![("control_net", Give::Link("canny", 0)), ("type", Give::Text("tile"))];
    steps.push(Step("told", "SetUnionControlNetType", kind));
    steps.push(apply("told_both", "told", &image, 0.8, (0.0, 1.0)));
    steps.push(sample("Told", "told_both"));
    let [both, one, half, told] = stage.latents(steps, ["Both", "One", "Half", "Told"]).await;
    assert_eq!(one, both);
    assert_eq!(told, both);
    assert!(relative(&half, &both) > 1e-3);
}

#[tokio::test(flavor = "multi_thread")]
async fn steered_prompts_cross_stages_and_reach_custom_samplers() {
    let stage = Stage::start().await;
    stage.write_control("canny.safetensors", &files::CONTROL_SD1);
    let image = picture(&stage).await;
    let mut first = basics(64);
    first.push(load("canny", "canny.safetensors"));
    first.push(apply("Steered", "canny", &image, 1.0, (0.0, 0.6)));
    first.push(ksampler("Whole", "model", "Steered", 7.0, EULER));
    let published = stage.publish(first).await.unwrap();
    let steered = published[&("Steered".to_owned(), 0)].clone();
    let mut second = basics(64);
    second.push(Step("sampler", "KSamplerSelect", vec![("sampler_name", Give::Text("euler"))]));
    let levels = vec![
        ("model", Give::Link("model", 0)),
        ("scheduler", Give::Text("normal")),
        ("steps", Give::Int(3)),
        ("denoise", Give::Float(1.0)),
    ];
    second.push(Step("sigmas", "BasicScheduler", levels));
    let custom = vec![
        ("model", Give::Link("model", 0)),
        ("add_noise", Give::Bool(true)),
        ("noise_seed", Give::Int(42)),
        ("cfg", Give::Float(7.0)),
        ("positive", Give::Value(steered)),
        ("negative", Give::Link("none", 0)),
        ("sampler", Give::Link("sampler", 0)),
        ("sigmas", Give::Link("sigmas", 0)),
        ("latent_image", Give::Link("empty", 0)),
    ];
    second.push(Step("Custom", "SamplerCustom", custom));
    let [custom] = stage.latents(second, ["Custom"]).await;
    assert_eq!(custom, stage.latent(&published[&("Whole".to_owned(), 0)]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_named() {
    let stage = Stage::start().await;
    stage.write_control("xl.safetensors", &files::CONTROL_SDXL);
    stage.write_control("difference.safetensors", &files::CONTROL_DIFFERENCE);
    let image = picture(&stage).await;
    let run = async |loader: Step<'_>| {
        let mut steps = basics(64);
        steps.push(loader);
        steps.push(apply("steered", "network", &image, 1.0, (0.0, 1.0)));
        steps.push(sample("Sampled", "steered"));
        stage.publish(steps).await
    };
    let error = run(load("network", "xl.safetensors")).await.unwrap_err();
    assert!(error.contains("`xl.safetensors`") && error.contains("another kind of model"), "{error}");
    let error = run(load("network", "difference.safetensors")).await.unwrap_err();
    assert!(error.contains("`DiffControlNetLoader`"), "{error}");
    let error = run(load("network", "none.safetensors")).await.unwrap_err();
    assert!(error.contains("`none.safetensors`") && error.contains("`xl.safetensors`"), "{error}");
    let inputs =
        vec![("model", Give::Link("model", 0)), ("control_net_name", Give::Text("difference.safetensors"))];
    run(Step("network", "DiffControlNetLoader", inputs)).await.unwrap();
    let mut steps = basics(64);
    steps.push(apply("steered", "model", &image, 1.0, (0.0, 1.0)));
    let error = stage.publish(steps).await.unwrap_err();
    assert!(error.contains("control network"), "{error}");
}
