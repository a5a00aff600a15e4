//! Specs as ComfyUI has them, loading, scaling, inverting.

use comfy_graph::object_info::object_info;
use comfy_graph::{CatalogNode, ErrorCode};
use comfy_imaging::Channels;
use comfy_stage::Data;
use serde_json::Value;

use crate::{Stage, link, literal, node, png};

/// Removes what is our own wording, and a step of one, which is said by leaving it out.
fn without_words(info: &mut Value) {
    info.as_object_mut().unwrap().remove("description");
    for group in info["input"].as_object_mut().unwrap().values_mut() {
        for config in group.as_object_mut().unwrap().values_mut() {
            if let Some(options) = config.get_mut(1).and_then(Value::as_object_mut) {
                options.remove("tooltip");
                if options.get("step") == Some(&serde_json::json!(1)) {
                    options.shift_remove("step");
                }
            }
        }
    }
}

#[tokio::test]
async fn specs_are_those_of_comfyui() {
    let mut stage = Stage::start().await;
    stage.input_file("example.png", &png(1, 1, Channels::Rgb, &[1, 2, 3]));
    stage.input_file("notes.txt", b"not offered");
    let text = include_str!("../fixtures/object_info.json");
    let expected: Value = serde_json::from_str(text).unwrap();
    let specs = stage.specs().await;
    for (class, expected) in expected.as_object().unwrap() {
        let spec =
            specs.iter().find(|spec| spec.class == *class).unwrap_or_else(|| panic!("no node `{class}`"));
        let node =
            CatalogNode { spec: spec.clone(), stage: "image".into(), stage_fingerprint: String::new() };
        let (mut found, mut expected) = (object_info(&node), expected.clone());
        without_words(&mut found);
        without_words(&mut expected);
        assert_eq!(found, expected, "{class}");
        // Object comparison ignores order, the page does not.
        assert_eq!(found["input"].to_string(), expected["input"].to_string(), "{class}");
    }
}

#[tokio::test]
async fn load_gives_colours_and_mask() {
    let mut stage = Stage::start().await;
    stage.input_file("alpha.png", &png(2, 1, Channels::Rgba, &[255, 0, 51, 255, 0, 102, 0, 51]));
    stage.input_file("plain.png", &png(2, 1, Channels::Rgb, &[255, 0, 51, 0, 102, 0]));
    let load = |name: &str| vec![node("1", "LoadImage", &[0, 1], vec![("image", literal(name))])];
    let colours = vec![1.0, 0.0, 0.2, 0.0, 0.4, 0.0];

    let ran = stage.run("a", load("alpha.png")).await;
    let Data::Image(image) = stage.output(&ran, "1", 0).await else { panic!("no image") };
    let Data::Mask(mask) = stage.output(&ran, "1", 1).await else { panic!("no mask") };
    assert_eq!((image.shape(), image.data()), (&[1, 1, 2, 3][..], &colours[..]));
    assert_eq!((mask.shape(), mask.data()), (&[1, 1, 2][..], &[0.0, 0.8][..]));

    let ran = stage.run("b", load("plain.png")).await;
    let Data::Image(image) = stage.output(&ran, "1", 0).await else { panic!("no image") };
    let Data::Mask(mask) = stage.output(&ran, "1", 1).await else { panic!("no mask") };
    assert_eq!(image.data(), colours);
    assert_eq!(mask.shape(), [1, 64, 64]);
    assert!(mask.data().iter().all(|sample| *sample == 0.0));
}

#[tokio::test]
async fn load_refuses_with_the_reason() {
    let mut stage = Stage::start().await;
    stage.input_file("evil.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>");
    stage.input_file("cut.png", &png(2, 1, Channels::Rgb, &[1; 6])[..50]);
    for (name, code, part) in [
        ("missing.png", ErrorCode::NotFound, "`missing.png`"),
        ("../evil.png", ErrorCode::InvalidArgument, "out of its folder"),
        ("evil.png", ErrorCode::InvalidArgument, "PNG, JPEG and WebP"),
        ("cut.png", ErrorCode::InvalidArgument, "cut short"),
    ] {
        let ran = stage.run("a", vec![node("1", "LoadImage", &[], vec![("image", literal(name))])]).await;
        let (found, message) = ran.failure.expect(name);
        assert!(found == code && message.contains(part), "{name}: {found:?} {message}");
    }
}

#[tokio::test]
async fn scale_and_invert_work_on_batches_and_in_a_chain() {
    let mut stage = Stage::start().await;
    let samples: Vec<f32> = (0..2 * 4 * 6 * 3).map(|index| (index % 11) as f32 / 10.0).collect();
    let image = stage.image([2, 4, 6, 3], samples.clone()).await;
    let scale = |id: &str, image, width: i128, height: i128| {
        let inputs = vec![
            ("image", image),
            ("upscale_method", literal("nearest-exact")),
            ("width", literal(width)),
            ("height", literal(height)),
            ("crop", literal("disabled")),
        ];
        node(id, "ImageScale", &[0], inputs)
    };
    let nodes = vec![
        scale("1", image.clone(), 12, 8),
        scale("2", link("1", 0), 6, 0),
        node("3", "ImageInvert", &[0], vec![("image", link("2", 0))]),
        scale("4", image, 0, 0),
    ];
    let ran = stage.run("a", nodes).await;
    let mut images = Vec::new();
    for id in ["1", "2", "3", "4"] {
        let Data::Image(image) = stage.output(&ran, id, 0).await else { panic!("no image") };
        images.push(image);
    }
    assert_eq!(images[0].shape(), [2, 8, 12, 3]);
    assert_eq!((images[1].shape(), images[1].data()), (&[2, 4, 6, 3][..], &samples[..]));
    let inverted: Vec<f32> = samples.iter().map(|sample| 1.0 - sample).collect();
    assert_eq!(images[2].data(), inverted);
    assert_eq!(images[3].data(), samples);
}
