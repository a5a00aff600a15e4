//! Tiles, small autoencoders, image encoders, and prompts that are shown pictures.

use crate::scattered::{self, fixture};
use crate::stage::{Give, Stage, Step, basics, ksampler, relative};
use candle_core::{DType, Device, Tensor};
use comfy_artifacts::HostTensor;
use comfy_graph::Value;
use comfy_stage::{ClipVisionOutput, Data, codec};
use std::collections::HashMap;

const EULER: (&str, &str) = ("euler", "normal");

type Tensors = HashMap<String, Tensor>;

fn goldens() -> Tensors {
    candle_core::safetensors::load(fixture("vision.safetensors"), &Device::Cpu).unwrap()
}

fn host(tensor: &Tensor) -> HostTensor {
    let values: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
    HostTensor::new(tensor.dims().to_vec(), values).unwrap()
}

/// `[B,3,H,W]` in -1..=1 as a picture on a link.
fn picture(tensor: &Tensor, scale: f64, shift: f64) -> Data {
    let tensor = tensor.affine(scale, shift).unwrap().permute((0, 2, 3, 1)).unwrap();
    Data::Image(host(&tensor.contiguous().unwrap()))
}

async fn value(stage: &Stage, data: Data) -> Give<'static> {
    Give::Value(codec::publish(&data, stage.store()).await.unwrap())
}

async fn image(stage: &Stage, published: &HashMap<(String, u32), Value>, name: &str) -> HostTensor {
    match stage.fetch(&published[&(name.to_owned(), 0)]).await {
        Data::Image(image) => image,
        other => panic!("expected a picture, got {}", other.kind()),
    }
}

fn tiled<'a>(id: &'a str, class: &'a str, input: (&'a str, Give<'a>), tile: i128, overlap: i128) -> Step<'a> {
    let inputs = vec![
        input,
        ("vae", Give::Link("model", 2)),
        ("tile_size", Give::Int(tile)),
        ("overlap", Give::Int(overlap)),
        ("temporal_size", Give::Int(64)),
        ("temporal_overlap", Give::Int(8)),
    ];
    Step(id, class, inputs)
}

#[tokio::test(flavor = "multi_thread")]
async fn tiles_give_what_the_whole_gives_and_more_where_they_end() {
    let stage = Stage::start().await;
    let wave = (0..3 * 64 * 160).map(|i| ((i * i % 97) as f32) / 96.0).collect();
    let wave = Data::Image(HostTensor::new(vec![1, 64, 160, 3], wave).unwrap());
    let wave = codec::publish(&wave, stage.store()).await.unwrap();
    let pixels = || Give::Value(wave.clone());
    let mut steps = basics(160);
    steps.push(Step("Whole", "VAEEncode", vec![("pixels", pixels()), ("vae", Give::Link("model", 2))]));
    // The narrowest cut has half the width, so one tile is the whole.
    steps.push(tiled("One", "VAEEncodeTiled", ("pixels", pixels()), 320, 64));
    steps.push(tiled("Many", "VAEEncodeTiled", ("pixels", pixels()), 64, 16));
    let latent = |name| ("samples", Give::Link(name, 0));
    steps.push(Step("Picture", "VAEDecode", vec![latent("Whole"), ("vae", Give::Link("model", 2))]));
    steps.push(tiled("OnePicture", "VAEDecodeTiled", latent("Whole"), 320, 64));
    steps.push(tiled("ManyPicture", "VAEDecodeTiled", latent("Whole"), 64, 64));
    let published = stage.publish(steps).await.unwrap();
    let latent = |name: &str| published[&(name.to_owned(), 0)].clone();
    let whole = stage.latent(&latent("Whole")).await;
    assert_eq!(whole.shape(), [1, 4, 8, 20]);
    assert!(relative(&stage.latent(&latent("One")).await, &whole) < 1e-6);
    let cut = relative(&stage.latent(&latent("Many")).await, &whole);
    assert!(cut > 1e-4 && cut < 1.0, "{cut}");
    let whole = image(&stage, &published, "Picture").await;
    assert!(relative(&image(&stage, &published, "OnePicture").await, &whole) < 1e-6);
    let cut = relative(&image(&stage, &published, "ManyPicture").await, &whole);
    assert!(cut > 1e-4 && cut < 1.0, "{cut}");

    let mut steps = basics(160);
    steps.push(tiled("Many", "VAEEncodeTiled", ("pixels", pixels()), 64, 32));
    let error = stage.publish(steps).await.unwrap_err();
    assert!(error.contains("`overlap` is 32 pixels"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_autoencoder_is_loaded_from_its_halves() {
    let (stage, goldens) = (Stage::start().await, goldens());
    let load = || Step("vae", "VAELoader", vec![("vae_name", Give::Text("taesd"))]);
    let error = stage.publish(vec![load()]).await.unwrap_err();
    assert!(error.contains("taesd_encoder.safetensors"), "{error}");
    for half in ["taesd_encoder", "taesd_decoder"] {
        let file = format!("{half}.safetensors");
        stage.save("vae_approx", &file, &scattered::weights("vision.json", half, 1.3));
    }
    let pixels = value(&stage, picture(&goldens["taesd.picture"], 0.5, 0.5)).await;
    let latent = Data::Latent(comfy_stage::Latent::new(host(&goldens["taesd.latent"])));
    let samples = value(&stage, latent).await;
    let steps = vec![
        load(),
        Step("Encoded", "VAEEncode", vec![("pixels", pixels), ("vae", Give::Link("vae", 0))]),
        Step("Decoded", "VAEDecode", vec![("samples", samples), ("vae", Give::Link("vae", 0))]),
    ];
    let published = stage.publish(steps).await.unwrap();
    let encoded = stage.latent(&published[&("Encoded".to_owned(), 0)]).await;
    assert!(relative(&encoded, &host(&goldens["taesd.encoded"])) < 1e-5);
    let decoded = image(&stage, &published, "Decoded").await;
    let expected = goldens["taesd.decoded"].affine(0.5, 0.5).unwrap().clamp(0f32, 1f32).unwrap();
    let expected = expected.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap();
    assert!(relative(&decoded, &host(&expected)) < 1e-5);
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_are_looked_at() {
    let (stage, goldens) = (Stage::start().await, goldens());
    stage.save("clip_vision", "vit.safetensors", &scattered::weights("vision.json", "vision", 1.3));
    let steps = vec![
        Step("vision", "CLIPVisionLoader", vec![("clip_name", Give::Text("vit.safetensors"))]),
        Step(
            "Seen",
            "CLIPVisionEncode",
            vec![
                ("clip_vision", Give::Link("vision", 0)),
                ("image", value(&stage, picture(&goldens["image"], 1.0, 0.0)).await),
                ("crop", Give::Text("center")),
            ],
        ),
    ];
    let published = stage.publish(steps).await.unwrap();
    let Data::ClipVisionOutput(seen) = stage.fetch(&published[&("Seen".to_owned(), 0)]).await else {
        panic!("expected what an image encoder saw");
    };
    // A pixel that rounds to the other side changes little.
    for (found, name) in [
        (&seen.last_hidden_state, "last_hidden_state"),
        (&seen.penultimate_hidden_states, "penultimate_hidden_states"),
        (&seen.image_embeds, "image_embeds"),
    ] {
        let distance = relative(found, &host(&goldens[&format!("vision.{name}")]));
        assert!(distance < 2e-3, "{name}: {distance}");
    }
}

fn seen(last_hidden_state: &Tensor, image_embeds: &Tensor) -> Data {
    Data::ClipVisionOutput(ClipVisionOutput {
        last_hidden_state: host(last_hidden_state),
        penultimate_hidden_states: host(last_hidden_state),
        image_embeds: host(image_embeds),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_style_is_added_behind_the_prompt() {
    let (stage, goldens) = (Stage::start().await, goldens());
    stage.save("style_models", "style.safetensors", &scattered::weights("vision.json", "style", 1.3));
    let pictures = seen(&goldens["style.seen"], &goldens["unclip.embeds"]);
    let pictures = codec::publish(&pictures, stage.store()).await.unwrap();
    let apply = |id, strength, kind| {
        let inputs = vec![
            ("conditioning", Give::Link("cat", 0)),
            ("style_model", Give::Link("style", 0)),
            ("clip_vision_output", Give::Value(pictures.clone())),
            ("strength", Give::Float(strength)),
            ("strength_type", Give::Text(kind)),
        ];
        Step(id, "StyleModelApply", inputs)
    };
    let mut steps = basics(64);
    let file = vec![("style_model_name", Give::Text("style.safetensors"))];
    steps.push(Step("style", "StyleModelLoader", file));
    steps.extend([apply("Half", 0.5, "multiply"), apply("Bias", 0.5, "attn_bias")]);
    let published = stage.publish(steps).await.unwrap();
    for (name, strength) in [("Half", 0.5), ("Bias", 1.0)] {
        let Data::Conditioning(entries) = stage.fetch(&published[&(name.to_owned(), 0)]).await else {
            panic!("expected a conditioning");
        };
        assert_eq!(entries[0].embedding.shape(), [1, 77 + 16, 64]);
        let added = HostTensor::new(vec![2, 8, 64], entries[0].embedding.data()[77 * 64..].to_vec()).unwrap();
        let expected = host(&goldens["style.tokens"].affine(strength, 0.0).unwrap());
        assert!(relative(&added, &expected) < 1e-5, "{name}");
    }
}

/// A miniature of Stable Diffusion 2 with what unCLIP has besides.
fn write_unclip(stage: &Stage) {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("sd2.safetensors");
    comfy_testkit::random_checkpoint::TINY_SD2.write(&path).unwrap();
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    let time = tensors["model.diffusion_model.time_embed.2.weight"].dim(0).unwrap();
    let embed = goldens()["unclip.embeds"].dim(1).unwrap();
    let wave = |shape: &[usize]| {
        let count = shape.iter().product::<usize>();
        let values: Vec<f32> = (0..count).map(|i| (i as f32 * 0.7).sin() * 0.3).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    };
    for (name, shape) in [
        ("0.0.weight", &[time, 2 * embed][..]),
        ("0.0.bias", &[time]),
        ("0.2.weight", &[time, time]),
        ("0.2.bias", &[time]),
    ] {
        tensors.insert(format!("model.diffusion_model.label_emb.{name}"), wave(shape));
    }
    // Enough of the image encoder to tell how wide its embeddings are.
    let proj = Tensor::zeros((8, embed), DType::F32, &Device::Cpu).unwrap();
    tensors.insert("embedder.model.visual.proj".into(), proj);
    stage.save("checkpoints", "unclip.safetensors", &tensors);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_draws_variations_of_what_it_is_shown() {
    let (stage, goldens) = (Stage::start().await, goldens());
    write_unclip(&stage);
    let pictures = seen(&goldens["style.seen"], &goldens["unclip.embeds"]);
    let pictures = codec::publish(&pictures, stage.store()).await.unwrap();
    let show = |id, strength| {
        let inputs = vec![
            ("conditioning", Give::Link("cat", 0)),
            ("clip_vision_output", Give::Value(pictures.clone())),
            ("strength", Give::Float(strength)),
            ("noise_augmentation", Give::Float(0.1)),
        ];
        Step(id, "unCLIPConditioning", inputs)
    };
    // A model that takes no pictures ignores them.
    for (checkpoint, same) in [("unclip.safetensors", false), (crate::stage::CHECKPOINT, true)] {
        let mut steps = basics(64);
        let file = vec![("ckpt_name", Give::Text(checkpoint))];
        steps[0] = Step("model", "unCLIPCheckpointLoader", file);
        let file = vec![("ckpt_name", Give::Text(checkpoint))];
        steps.push(Step("without_text", "ImageOnlyCheckpointLoader", file));
        steps.extend([show("shown", 1.0), show("hidden", 0.0)]);
        steps.push(ksampler("Again", "without_text", "shown", 4.0, EULER));
        for (id, prompt) in [("Plain", "cat"), ("Shown", "shown"), ("Hidden", "hidden")] {
            steps.push(ksampler(id, "model", prompt, 4.0, EULER));
        }
        let [plain, shown, again, hidden] = stage.latents(steps, ["Plain", "Shown", "Again", "Hidden"]).await;
        assert!(plain.data().iter().all(|value| value.is_finite()));
        assert_eq!((shown == plain, hidden == plain, again == shown), (same, true, true), "{checkpoint}");
    }
}
