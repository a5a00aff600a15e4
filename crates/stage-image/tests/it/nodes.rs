//! Specs as ComfyUI has them, loading, scaling, inverting.

use comfy_graph::ErrorCode;
use comfy_imaging::Channels;
use comfy_stage::Data;
use comfy_testkit::specs::differences_from_comfyui;

use crate::{Stage, link, literal, node, png};

/// Where a spec differs on purpose, and why.
const ALLOWED: &[(&str, &str)] = &[
    ("PrimitiveInt.input.required.value", "a number field always says its default"),
    ("PrimitiveFloat.input.required.value", "a number field always says its default and its step"),
    ("StringSubstring.input.required.start", "a number field always says its default and its limits"),
    ("StringSubstring.input.required.end", "a number field always says its default and its limits"),
];

/// Classes that later versions of ComfyUI have.
const NEWER: [&str; 2] = ["ComfySwitchNode", "ImageCompare"];

#[tokio::test]
async fn specs_are_those_of_comfyui() {
    let specs = Stage::start().await.specs().await;
    for spec in &specs {
        assert!(!spec.description.is_empty() && !spec.display_name.is_empty(), "{}", spec.class);
    }
    let specs = specs.into_iter().filter(|spec| !NEWER.contains(&spec.class.as_str()));
    let found = differences_from_comfyui(specs, include_str!("../fixtures/object_info.json"), ALLOWED);
    assert!(found.is_empty(), "{}", found.join("\n"));
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
