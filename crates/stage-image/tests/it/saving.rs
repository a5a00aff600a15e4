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
