//! Sampling from parts against the sampler that does it all.

use crate::stage::{Give, Stage, Step, basics, ksampler, relative};

/// The sampler and the noise levels of a run, as nodes `sampler` and `sigmas`.
fn choose<'a>(sampler: &'a str, scheduler: &'a str) -> [Step<'a>; 2] {
    [
        Step("sampler", "KSamplerSelect", vec![("sampler_name", Give::Text(sampler))]),
        Step(
            "sigmas",
            "BasicScheduler",
            vec![
                ("model", Give::Link("model", 0)),
                ("scheduler", Give::Text(scheduler)),
                ("steps", Give::Int(3)),
                ("denoise", Give::Float(1.0)),
            ],
        ),
    ]
}

fn sampler_custom<'a>(id: &'a str, noise: bool, sigmas: (&'a str, u32), latent: &'a str) -> Step<'a> {
    let inputs = vec![
        ("model", Give::Link("model", 0)),
        ("add_noise", Give::Bool(noise)),
        ("noise_seed", Give::Int(42)),
        ("cfg", Give::Float(7.0)),
        ("positive", Give::Link("cat", 0)),
        ("negative", Give::Link("none", 0)),
        ("sampler", Give::Link("sampler", 0)),
        ("sigmas", Give::Link(sigmas.0, sigmas.1)),
        ("latent_image", Give::Link(latent, 0)),
    ];
    Step(id, "SamplerCustom", inputs)
}

fn cfg_guider<'a>(id: &'a str) -> Step<'a> {
    let inputs = vec![
        ("model", Give::Link("model", 0)),
        ("positive", Give::Link("cat", 0)),
        ("negative", Give::Link("none", 0)),
        ("cfg", Give::Float(7.0)),
    ];
    Step(id, "CFGGuider", inputs)
}

fn advanced<'a>(id: &'a str, noise: Give<'a>, guider: Give<'a>) -> Step<'a> {
    let inputs = vec![
        ("noise", noise),
        ("guider", guider),
        ("sampler", Give::Link("sampler", 0)),
        ("sigmas", Give::Link("sigmas", 0)),
        ("latent_image", Give::Link("empty", 0)),
    ];
    Step(id, "SamplerCustomAdvanced", inputs)
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_make_the_same_latent_to_the_bit() {
    let stage = Stage::start().await;
    for (sampler, scheduler) in
        [("euler", "normal"), ("dpmpp_2m_sde", "karras"), ("euler_ancestral", "simple")]
    {
        let mut steps = basics(64);
        steps.push(ksampler("Whole", "model", "cat", 7.0, (sampler, scheduler)));
        steps.extend(choose(sampler, scheduler));
        steps.push(sampler_custom("Custom", true, ("sigmas", 0), "empty"));
        steps.push(Step("noise", "RandomNoise", vec![("noise_seed", Give::Int(42))]));
        steps.push(cfg_guider("guider"));
        steps.push(advanced("Advanced", Give::Link("noise", 0), Give::Link("guider", 0)));
        let [whole, custom, advanced] = stage.latents(steps, ["Whole", "Custom", "Advanced"]).await;
        assert!(whole.data().iter().all(|v| v.is_finite()) && whole.data().iter().any(|v| v.abs() > 0.1));
        assert_eq!(custom, whole, "SamplerCustom, {sampler}");
        assert_eq!(advanced, whole, "SamplerCustomAdvanced, {sampler}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guiders_and_noise_cross_stages() {
    let stage = Stage::start().await;
    let mut first = basics(64);
    first.push(ksampler("Whole", "model", "cat", 7.0, ("euler", "normal")));
    first.push(cfg_guider("Guider"));
    first.push(Step("Noise", "RandomNoise", vec![("noise_seed", Give::Int(42))]));
    let published = stage.publish(first).await.unwrap();
    let value = |name: &str| Give::Value(published[&(name.to_owned(), 0)].clone());
    let mut second = basics(64);
    second.extend(choose("euler", "normal"));
    second.push(advanced("Advanced", value("Noise"), value("Guider")));
    let [advanced] = stage.latents(second, ["Advanced"]).await;
    assert_eq!(advanced, stage.latent(&published[&("Whole".to_owned(), 0)]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn split_levels_make_a_whole_run() {
    let stage = Stage::start().await;
    let mut steps = basics(64);
    steps.extend(choose("euler", "normal"));
    steps.push(sampler_custom("Whole", true, ("sigmas", 0), "empty"));
    let split = vec![("sigmas", Give::Link("sigmas", 0)), ("step", Give::Int(1))];
    steps.push(Step("split", "SplitSigmas", split));
    steps.push(sampler_custom("First", true, ("split", 0), "empty"));
    steps.push(sampler_custom("Second", false, ("split", 1), "First"));
    let published = stage.publish(steps).await.unwrap();
    let mut latents = Vec::new();
    for (name, slot) in [("Whole", 0), ("Whole", 1), ("First", 0), ("First", 1), ("Second", 0)] {
        latents.push(stage.latent(&published[&(name.to_owned(), slot)]).await);
    }
    let [whole, whole_denoised, first, first_denoised, second] = <[_; 5]>::try_from(latents).unwrap();
    assert!(relative(&second, &whole) < 1e-4);
    // The last step of Euler ends on its own estimate; halfway there is still noise between the two.
    assert!(relative(&whole_denoised, &whole) < 1e-4);
    assert!(relative(&first_denoised, &first) > 1e-3);
}

#[tokio::test(flavor = "multi_thread")]
async fn options_reach_the_samplers() {
    let stage = Stage::start().await;
    let float = |name, value| (name, Give::Float(value));
    let mut steps = basics(64);
    steps.extend(choose("euler", "normal"));
    steps.push(sampler_custom("Euler", true, ("sigmas", 0), "empty"));
    // Without noise the ancestral sampler is Euler's, and so is the first-order ordinary differential equation.
    let ancestral = vec![float("eta", 0.0), float("s_noise", 1.0)];
    let er_sde = vec![
        ("solver_type", Give::Text("ODE")),
        ("max_stage", Give::Int(1)),
        float("eta", 1.0),
        float("s_noise", 1.0),
    ];
    for (id, name, class, inputs) in [
        ("ancestral", "Ancestral", "SamplerEulerAncestral", ancestral),
        ("er_sde", "ErSde", "SamplerER_SDE", er_sde),
    ] {
        steps.push(Step(id, class, inputs));
        let Step(_, class, mut inputs) = sampler_custom(name, true, ("sigmas", 0), "empty");
        for (input, give) in &mut inputs {
            if *input == "sampler" {
                *give = Give::Link(id, 0);
            }
        }
        steps.push(Step(name, class, inputs));
    }
    let [euler, ancestral, er_sde] = stage.latents(steps, ["Euler", "Ancestral", "ErSde"]).await;
    assert!(relative(&ancestral, &euler) < 1e-4);
    assert!(relative(&er_sde, &euler) < 1e-4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_basic_guider_follows_one_prompt() {
    let stage = Stage::start().await;
    let mut steps = basics(64);
    steps.push(ksampler("Whole", "model", "cat", 1.0, ("euler", "normal")));
    steps.extend(choose("euler", "normal"));
    steps.push(Step("noise", "RandomNoise", vec![("noise_seed", Give::Int(42))]));
    let basic = vec![("model", Give::Link("model", 0)), ("conditioning", Give::Link("cat", 0))];
    steps.push(Step("guider", "BasicGuider", basic));
    steps.push(advanced("Basic", Give::Link("noise", 0), Give::Link("guider", 0)));
    let dual = vec![
        ("model", Give::Link("model", 0)),
        ("cond1", Give::Link("cat", 0)),
        ("cond2", Give::Link("dog", 0)),
        ("negative", Give::Link("none", 0)),
        ("cfg_conds", Give::Float(1.0)),
        ("cfg_cond2_negative", Give::Float(1.0)),
        ("style", Give::Text("regular")),
    ];
    steps.push(Step("dual", "DualCFGGuider", dual));
    steps.push(advanced("Dual", Give::Link("noise", 0), Give::Link("dual", 0)));
    let [whole, basic, dual] = stage.latents(steps, ["Whole", "Basic", "Dual"]).await;
    assert_eq!(basic, whole);
    assert_eq!(dual, whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_is_added_or_not() {
    let stage = Stage::start().await;
    let mut steps = basics(64);
    steps.extend(choose("euler", "normal"));
    let first = vec![("sigmas", Give::Link("sigmas", 0)), ("sigma", Give::Float(2.0))];
    steps.push(Step("first", "SetFirstSigma", first));
    for (noise, id, class, inputs) in [
        ("random", "Random", "RandomNoise", vec![("noise_seed", Give::Int(42))]),
        ("none_at_all", "None", "DisableNoise", vec![]),
    ] {
        steps.push(Step(noise, class, inputs));
        let inputs = vec![
            ("model", Give::Link("model", 0)),
            ("noise", Give::Link(noise, 0)),
            ("sigmas", Give::Link("first", 0)),
            ("latent_image", Give::Link("empty", 0)),
        ];
        steps.push(Step(id, "AddNoise", inputs));
    }
    let [random, none] = stage.latents(steps, ["Random", "None"]).await;
    assert!(none.data().iter().all(|v| *v == 0.0));
    let deviation = (random.data().iter().map(|v| v * v).sum::<f32>() / random.data().len() as f32).sqrt();
    assert!((deviation * 0.18215 / 2.0 - 1.0).abs() < 0.2, "{deviation}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_growing_sampler_grows_the_latent() {
    let stage = Stage::start().await;
    let mut steps = basics(64);
    steps.extend(choose("euler", "normal"));
    let growing = vec![
        ("scale_ratio", Give::Float(2.0)),
        ("scale_steps", Give::Int(-1)),
        ("upscale_method", Give::Text("bislerp")),
    ];
    steps.push(Step("growing", "SamplerLCMUpscale", growing));
    let Step(id, class, mut inputs) = sampler_custom("Grown", true, ("sigmas", 0), "empty");
    inputs.retain(|(name, _)| *name != "sampler");
    inputs.push(("sampler", Give::Link("growing", 0)));
    steps.push(Step(id, class, inputs));
    let [grown] = stage.latents(steps, ["Grown"]).await;
    assert_eq!(grown.shape(), [1, 4, 16, 16]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mixed_up_links_are_named() {
    let stage = Stage::start().await;
    let mut steps = basics(64);
    steps.extend(choose("euler", "normal"));
    steps.push(sampler_custom("Wrong", true, ("sampler", 0), "empty"));
    let error = stage.publish(steps).await.unwrap_err();
    assert!(error.contains("`sigmas`"), "{error}");
}
