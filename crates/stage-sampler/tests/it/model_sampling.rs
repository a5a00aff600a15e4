//! Changes to how a model is sampled.

use crate::stage::{Give, Stage, Step, basics, ksampler, relative};

const EULER: (&str, &str) = ("euler", "normal");

fn discrete<'a>(id: &'a str, sampling: &'a str, zsnr: bool) -> Step<'a> {
    let inputs = vec![
        ("model", Give::Link("model", 0)),
        ("sampling", Give::Text(sampling)),
        ("zsnr", Give::Bool(zsnr)),
    ];
    Step(id, "ModelSamplingDiscrete", inputs)
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_change_the_run() {
    let stage = Stage::start().await;
    // Two places in the middle of the network, or attention would have nothing to choose from.
    let mut steps = basics(128);
    steps.extend([
        discrete("eps", "eps", false),
        discrete("v", "v_prediction", true),
        discrete("lcm", "lcm", false),
    ]);
    let rescale =
        |multiplier| vec![("model", Give::Link("model", 0)), ("multiplier", Give::Float(multiplier))];
    steps.push(Step("same_contrast", "RescaleCFG", rescale(0.0)));
    steps.push(Step("less_contrast", "RescaleCFG", rescale(0.7)));
    let free_u = |(b1, b2, s1, s2)| {
        let values = [("b1", b1), ("b2", b2), ("s1", s1), ("s2", s2)];
        let values = values.map(|(name, value)| (name, Give::Float(value)));
        [("model", Give::Link("model", 0))].into_iter().chain(values).collect::<Vec<_>>()
    };
    steps.push(Step("free", "FreeU", free_u((1.1, 1.2, 0.9, 0.2))));
    steps.push(Step("free_2", "FreeU_V2", free_u((1.3, 1.4, 0.9, 0.2))));
    steps.push(Step("free_same", "FreeU_V2", free_u((1.0, 1.0, 1.0, 1.0))));
    let numbers = |values: &[(&'static str, f64)]| {
        let values = values.iter().map(|(name, value)| (*name, Give::Float(*value)));
        [("model", Give::Link("model", 0))].into_iter().chain(values).collect::<Vec<_>>()
    };
    let attention = |scale| numbers(&[("scale", scale)]);
    steps.push(Step("perturbed", "PerturbedAttentionGuidance", attention(3.0)));
    steps.push(Step("perturbed_same", "PerturbedAttentionGuidance", attention(0.0)));
    steps.push(Step("blurred", "SelfAttentionGuidance", numbers(&[("scale", 0.5), ("blur_sigma", 2.0)])));
    let runs = [
        ("Plain", "model"),
        ("Perturbed", "perturbed"),
        ("PerturbedSame", "perturbed_same"),
        ("Blurred", "blurred"),
        ("Eps", "eps"),
        ("V", "v"),
        ("Lcm", "lcm"),
        ("Same", "same_contrast"),
        ("Less", "less_contrast"),
        ("Free", "free"),
        ("Free2", "free_2"),
        ("FreeSame", "free_same"),
    ];
    for (id, model) in runs {
        steps.push(ksampler(id, model, "cat", 7.0, EULER));
    }
    let [plain, perturbed, perturbed_same, blurred, eps, v, lcm, same, less, free, free_2, free_same] =
        stage.latents(steps, runs.map(|(id, _)| id)).await;
    assert_eq!(eps, plain);
    assert_eq!(perturbed_same, plain);
    assert!(relative(&same, &plain) < 1e-3);
    assert!(relative(&free_same, &plain) < 1e-3);
    let changed = [
        ("v", v),
        ("lcm", lcm),
        ("less", less),
        ("free", free),
        ("free 2", free_2),
        ("perturbed", perturbed),
        ("blurred", blurred),
    ];
    for (name, changed) in changed {
        assert!(changed.data().iter().all(|value| value.is_finite()), "{name}");
        assert!(relative(&changed, &plain) > 1e-3, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guidance_can_be_changed() {
    let stage = Stage::start().await;
    let mut steps = basics(64);
    let changed = |values: &[(&'static str, f64)]| {
        let values = values.iter().map(|(name, value)| (*name, Give::Float(*value)));
        [("model", Give::Link("model", 0))].into_iter().chain(values).collect::<Vec<_>>()
    };
    let projected = [("eta", 0.0), ("norm_threshold", 2.0), ("momentum", -0.5)];
    let mut waves = changed(&[("scale_low", 1.0), ("scale_high", 2.0)]);
    waves.push(("freq_cutoff", Give::Int(2)));
    let nodes = [
        ("scaled", "Epsilon Scaling", changed(&[("scaling_factor", 1.2)])),
        ("projected", "APG", changed(&projected)),
        ("waves", "FreSca", waves),
        ("zero_star", "CFGZeroStar", changed(&[])),
        ("tangential", "TCFG", changed(&[])),
        ("direction", "Mahiro", changed(&[])),
        ("curve", "LatentOperationTonemapReinhard", vec![("multiplier", Give::Float(0.5))]),
        (
            "tamed",
            "LatentApplyOperationCFG",
            vec![("model", Give::Link("model", 0)), ("operation", Give::Link("curve", 0))],
        ),
    ];
    steps.extend(nodes.map(|(id, class, inputs)| Step(id, class, inputs)));
    let runs = [
        ("Plain", "model"),
        ("Scaled", "scaled"),
        ("Projected", "projected"),
        ("Waves", "waves"),
        ("ZeroStar", "zero_star"),
        ("Tangential", "tangential"),
        ("Direction", "direction"),
        ("Tamed", "tamed"),
    ];
    steps.extend(runs.map(|(id, model)| ksampler(id, model, "cat", 7.0, EULER)));
    let latents = stage.latents(steps, runs.map(|(id, _)| id)).await;
    for (i, (name, _)) in runs.iter().enumerate().skip(1) {
        assert!(latents[i].data().iter().all(|value| value.is_finite()), "{name}");
        let apart = relative(&latents[i], &latents[0]);
        assert!(apart > 1e-4, "{name}: {apart:e}");
    }
}

fn shrunk<'a>(id: &'a str, block: i128, range: (f64, f64)) -> Step<'a> {
    let inputs = vec![
        ("model", Give::Link("model", 0)),
        ("block_number", Give::Int(block)),
        ("downscale_factor", Give::Float(2.0)),
        ("start_percent", Give::Float(range.0)),
        ("end_percent", Give::Float(range.1)),
        ("downscale_after_skip", Give::Bool(true)),
        ("downscale_method", Give::Text("bicubic")),
        ("upscale_method", Give::Text("bislerp")),
    ];
    Step(id, "PatchModelAddDownscale", inputs)
}

#[tokio::test(flavor = "multi_thread")]
async fn features_are_shrunk_during_a_part_of_the_run() {
    let stage = Stage::start().await;
    let mut steps = basics(64);
    steps.push(shrunk("early", 3, (0.0, 0.35)));
    steps.push(shrunk("always", 3, (0.0, 1.0)));
    steps.push(shrunk("never", 3, (1.0, 1.0)));
    steps.push(shrunk("nowhere", 32, (0.0, 1.0)));
    let runs = [
        ("Plain", "model"),
        ("Early", "early"),
        ("Always", "always"),
        ("Never", "never"),
        ("Nowhere", "nowhere"),
    ];
    steps.extend(runs.map(|(id, model)| ksampler(id, model, "cat", 7.0, EULER)));
    let [plain, early, always, never, nowhere] = stage.latents(steps, runs.map(|(id, _)| id)).await;
    assert_eq!(never, plain);
    assert_eq!(nowhere, plain);
    for (name, a, b) in [("early", &early, &plain), ("always", &always, &plain), ("longer", &always, &early)]
    {
        assert!(relative(a, b) > 1e-3, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn levels_follow_the_model() {
    let stage = Stage::start().await;
    let mut steps = basics(64);
    steps.push(discrete("stretched", "v_prediction", true));
    let continuous = vec![
        ("model", Give::Link("model", 0)),
        ("sampling", Give::Text("edm")),
        ("sigma_max", Give::Float(80.0)),
        ("sigma_min", Give::Float(0.002)),
    ];
    steps.push(Step("continuous", "ModelSamplingContinuousEDM", continuous));
    let runs = [("Plain", "model"), ("Stretched", "stretched"), ("Continuous", "continuous")];
    for (id, model) in runs {
        let inputs = vec![
            ("model", Give::Link(model, 0)),
            ("sampling_percent", Give::Float(0.0)),
            ("return_actual_sigma", Give::Bool(true)),
        ];
        steps.push(Step(id, "SamplingPercentToSigma", inputs));
    }
    let published = stage.publish(steps).await.unwrap();
    for ((id, _), want) in runs.into_iter().zip([14.614642, 4518.7637, 80.0]) {
        let comfy_graph::Value::Literal(comfy_graph::Literal::Float(got)) = published[&(id.to_owned(), 0)]
        else {
            panic!("a level is a number");
        };
        assert!((got / want - 1.0).abs() < 1e-6, "{id}: {got}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sampled_is_named() {
    let stage = Stage::start().await;
    let mut steps = basics(64);
    steps.push(discrete("Bad", "cosmos", false));
    let error = stage.publish(steps).await.unwrap_err();
    assert!(error.contains("`cosmos`") && error.contains("`v_prediction`"), "{error}");
}
