//! SaveImage and PreviewImage: names, content, texts, and running again after a crash.

use comfy_graph::ErrorCode;
use comfy_imaging::{Limits, decode, read_png_text};
use serde_json::{Value, json};

use crate::{Ran, Stage, literal, node};

fn files(ran: &Ran, node: &str) -> Value {
    assert!(ran.failure.is_none(), "{:?}", ran.failure);
    serde_json::from_str::<Value>(&ran.outputs[node].ui_json).unwrap()["images"].clone()
}

fn count(stage: &Stage, folder: &str) -> usize {
    std::fs::read_dir(stage.path(folder)).unwrap().count()
}

#[tokio::test]
async fn saved_files_have_comfyui_names_pixels_and_texts() {
    let mut stage = Stage::start().await;
    let samples = vec![0.0, 0.5, 1.0, 0.999, 1.2, -0.1, 0.25, 0.75, 0.1, 0.2, 0.3, 0.4];
    let image = stage.image([2, 1, 2, 3], samples).await;
    let save = |prefix: &str| {
        vec![node(
            "9",
            "SaveImage",
            &[],
            vec![("images", image.clone()), ("filename_prefix", literal(prefix))],
        )]
    };

    let first = stage.run("job-1", save("ComfyUI")).await;
    let name = |number: u32| json!({"filename": format!("ComfyUI_{number:05}_.png"), "subfolder": "", "type": "output"});
    assert_eq!(files(&first, "9"), json!([name(1), name(2)]));
    let file = std::fs::read(stage.path("output/ComfyUI_00001_.png")).unwrap();
    let pixels = decode(&file, &Limits::default()).unwrap().frames.remove(0);
    let levels: Vec<u8> = pixels.rgb.iter().map(|sample| (sample * 255.0).round() as u8).collect();
    assert_eq!(levels, [0, 127, 255, 254, 255, 0]);
    assert!(pixels.alpha.is_none());
    let texts = [
        ("prompt", r#"{"3": {"class_type": "KSampler", "inputs": {"cfg": 7.0, "text": "\u00fc"}}}"#),
        ("workflow", r#"{"nodes": [], "\u00fc": 1}"#),
        ("more", "2"),
    ];
    let found = read_png_text(&file).unwrap();
    let found: Vec<_> = found.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(found, texts);

    // The same job again, as after a crash of the orchestrator: nothing is added.
    let again = stage.run("job-1", save("ComfyUI")).await;
    assert_eq!(files(&again, "9"), files(&first, "9"));
    assert_eq!(count(&stage, "output"), 2);
    let other = stage.run("job-2", save("ComfyUI")).await;
    assert_eq!(files(&other, "9"), json!([name(3), name(4)]));

    let nested = stage.run("job-3", save("a/%width%x%height%/x")).await;
    let expected = json!({"filename": "x_00001_.png", "subfolder": "a/2x1", "type": "output"});
    assert_eq!(files(&nested, "9")[0], expected);
    assert!(stage.path("output/a/2x1/x_00002_.png").is_file());

    let numbered = stage.run("job-4", save("b%batch_num%")).await;
    assert_eq!(files(&numbered, "9")[0]["filename"], "b0_00001_.png");
    assert_eq!(files(&numbered, "9")[1]["filename"], "b1_00001_.png");
}

#[tokio::test]
async fn previews_go_to_the_temporary_folder() {
    let mut stage = Stage::start().await;
    let image = stage.image([1, 2, 2, 3], vec![0.5; 12]).await;
    let ran = stage.run("job", vec![node("9", "PreviewImage", &[], vec![("images", image)])]).await;
    let files = files(&ran, "9");
    let name = files[0]["filename"].as_str().unwrap();
    let letters =
        name.strip_prefix("ComfyUI_temp_").and_then(|rest| rest.strip_suffix("_00001_.png")).unwrap();
    assert!(letters.len() == 5 && letters.bytes().all(|letter| letter.is_ascii_lowercase()), "{name}");
    assert_eq!((&files[0]["type"], &files[0]["subfolder"]), (&json!("temp"), &json!("")));
    assert!(stage.path("temp").join(name).is_file());
    assert_eq!(count(&stage, "output"), 0);
}

#[tokio::test]
async fn bad_names_and_shapes_are_refused() {
    let mut stage = Stage::start().await;
    let image = stage.image([1, 1, 1, 3], vec![0.5; 3]).await;
    let odd = stage.image([1, 1, 1, 2], vec![0.5; 2]).await;
    for (image, prefix) in [(&image, "../x"), (&image, "/etc/x"), (&image, "a\\b"), (&odd, "x")] {
        let inputs = vec![("images", image.clone()), ("filename_prefix", literal(prefix))];
        let ran = stage.run("job", vec![node("9", "SaveImage", &[], inputs)]).await;
        let (code, message) = ran.failure.expect(prefix);
        assert_eq!(code, ErrorCode::InvalidArgument, "{prefix}: {message}");
    }
    assert_eq!(count(&stage, "output"), 0);
}

#[tokio::test]
async fn animations_are_one_file_with_every_frame() {
    let mut stage = Stage::start().await;
    let samples: Vec<f32> = (0..3 * 4 * 6 * 3).map(|i| (i % 256) as f32 / 255.0).collect();
    let image = stage.image([3, 4, 6, 3], samples.clone()).await;
    let common = |prefix: &str| {
        vec![
            ("images", image.clone()),
            ("filename_prefix", literal(prefix)),
            ("fps", literal(comfy_graph::Literal::Float(8.0))),
        ]
    };
    let webp = [
        ("lossless", literal(comfy_graph::Literal::Bool(true))),
        ("quality", literal(80)),
        ("method", literal("fastest")),
    ];
    let webp = common("w").into_iter().chain(webp).collect();
    let ran = stage.run("job-1", vec![node("9", "SaveAnimatedWEBP", &[], webp)]).await;
    let named = files(&ran, "9");
    assert_eq!(named, json!([{"filename": "w_00001_.webp", "subfolder": "", "type": "output"}]));
    let bytes = std::fs::read(stage.path("output/w_00001_.webp")).unwrap();
    let picture = decode(&bytes, &Limits::default()).unwrap();
    let found: Vec<f32> = picture.frames.iter().flat_map(|frame| frame.rgb.clone()).collect();
    assert_eq!((picture.frames.len(), found), (3, samples.clone()));
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains(r#"prompt:{"3": {"class_type""#) && text.contains(r#"workflow:{"nodes": []"#));

    let png = common("p").into_iter().chain([("compress_level", literal(4))]).collect();
    let ran = stage.run("job-2", vec![node("9", "SaveAnimatedPNG", &[], png)]).await;
    let ui: Value = serde_json::from_str(&ran.outputs["9"].ui_json).unwrap();
    assert_eq!(ui["animated"], json!([true]));
    let bytes = std::fs::read(stage.path("output/p_00001_.png")).unwrap();
    let places = |kind: &[u8]| bytes.windows(kind.len()).filter(|window| *window == kind).count();
    assert_eq!((places(b"acTL"), places(b"fcTL"), places(b"fdAT"), places(b"comf")), (1, 3, 2, 3));
    // A reader that knows no animations sees the first frame.
    let first = decode(&bytes, &Limits::default()).unwrap().frames.remove(0);
    assert_eq!(first.rgb, samples[..4 * 6 * 3]);
}

#[tokio::test]
async fn latents_survive_their_file() {
    use comfy_artifacts::HostTensor;
    use comfy_stage::{Data, Latent, codec};
    let mut stage = Stage::start().await;
    let samples = HostTensor::new(vec![1, 4, 2, 3], (0..24).map(|i| i as f32 / 7.0 - 1.0).collect()).unwrap();
    let value = codec::publish(&Data::Latent(Latent::new(samples.clone())), &stage.store).await.unwrap();
    let inputs = vec![("samples", crate::bind(value)), ("filename_prefix", literal("latents/ComfyUI"))];
    let ran = stage.run("job", vec![node("9", "SaveLatent", &[], inputs)]).await;
    assert!(ran.failure.is_none(), "{:?}", ran.failure);
    let ui: Value = serde_json::from_str(&ran.outputs["9"].ui_json).unwrap();
    let name = json!({"filename": "ComfyUI_00001_.latent", "subfolder": "latents", "type": "output"});
    assert_eq!(ui, json!({"latents": [name]}));
    let bytes = std::fs::read(stage.path("output/latents/ComfyUI_00001_.latent")).unwrap();
    stage.input_file("x.latent", &bytes);
    stage.input_file("bad.latent", b"{}");
    assert!(stage.spec("LoadLatent").await.inputs[0].widget.as_ref().unwrap().default_literal().is_some());
    let load = |name: &str| vec![node("1", "LoadLatent", &[0], vec![("latent", literal(name))])];
    let ran = stage.run("job", load("x.latent")).await;
    let Data::Latent(latent) = stage.output(&ran, "1", 0).await else { panic!("no latent") };
    assert_eq!(latent.samples, samples);
    let (code, message) = stage.run("job", load("bad.latent")).await.failure.unwrap();
    assert!(code == ErrorCode::InvalidArgument && message.contains("not a latent"), "{message}");
}
