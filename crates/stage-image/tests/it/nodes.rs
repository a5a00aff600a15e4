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
const NEWER: [&str; 5] =
    ["ComfySwitchNode", "ImageCompare", "ResizeImageMaskNode", "ResolutionSelector", "SaveImageAdvanced"];

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

#[tokio::test]
async fn masks_are_loaded_from_any_folder() {
    let mut stage = Stage::start().await;
    let file = png(2, 1, Channels::Rgba, &[255, 0, 51, 255, 0, 102, 0, 51]);
    stage.input_file("x.png", &file);
    for folder in ["input/sub", "output/a/b", "temp"] {
        std::fs::create_dir_all(stage.path(folder)).unwrap();
        std::fs::write(stage.path(folder).join("y.png"), &file).unwrap();
    }
    stage.input_file("plain.png", &png(2, 1, Channels::Rgb, &[9; 6]));
    for (name, channel, expected) in [
        ("x.png", "alpha", [0.0, 0.8]),
        ("x.png [input]", "red", [1.0, 0.0]),
        ("sub/y.png", "green", [0.0, 0.4]),
        ("a/b/y.png [output]", "blue", [0.2, 0.0]),
        ("y.png [temp]", "alpha", [0.0, 0.8]),
        ("plain.png", "alpha", [0.0, 0.0]),
    ] {
        let inputs = vec![("image", literal(name)), ("channel", literal(channel))];
        let ran = stage.run("job", vec![node("1", "LoadImageMask", &[0], inputs)]).await;
        let Data::Mask(mask) = stage.output(&ran, "1", 0).await else { panic!("no mask") };
        assert_eq!((mask.shape(), mask.data()), (&[1, 1, 2][..], &expected[..]), "{name} {channel}");
    }
    // What a camera took comes by the same way.
    let inputs = vec![("image", literal("y.png [temp]")), ("width", literal(0))];
    let ran = stage.run("job", vec![node("1", "WebcamCapture", &[0], inputs)]).await;
    let Data::Image(image) = stage.output(&ran, "1", 0).await else { panic!("no image") };
    assert_eq!(image.shape(), [1, 1, 2, 3]);
}

#[tokio::test]
async fn saved_pictures_are_offered_newest_first() {
    use comfy_graph::spec::Widget;
    let mut stage = Stage::start().await;
    for (name, age) in [("old.png", 60), ("new.png", 0), ("middle.png", 30), ("notes.txt", 0)] {
        let path = stage.path("output").join(name);
        std::fs::create_dir_all(stage.path("output")).unwrap();
        std::fs::write(&path, png(1, 1, Channels::Rgb, &[7; 3])).unwrap();
        let time = std::time::SystemTime::now() - std::time::Duration::from_secs(age);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    }
    let spec = stage.spec("LoadImageOutput").await;
    let Some(Widget::Combo { options, .. }) = &spec.inputs[0].widget else { panic!("no list") };
    let names: Vec<&str> = options.iter().map(|option| option.value.as_str()).collect();
    assert_eq!(names, ["new.png [output]", "middle.png [output]", "old.png [output]"]);
    let load = vec![node("1", "LoadImageOutput", &[0], vec![("image", literal(names[1]))])];
    let ran = stage.run("job", load).await;
    let Data::Image(image) = stage.output(&ran, "1", 0).await else { panic!("no image") };
    assert_eq!(image.shape(), [1, 1, 1, 3]);
}

#[tokio::test]
async fn what_does_not_fit_is_said() {
    let mut stage = Stage::start().await;
    let three = stage.image([3, 4, 4, 3], vec![0.5; 144]).await;
    let two = stage.image([2, 4, 4, 3], vec![0.5; 96]).await;
    let float = |value: f64| literal(comfy_graph::Literal::Float(value));
    let blend = vec![
        ("image1", three.clone()),
        ("image2", two),
        ("blend_factor", float(0.5)),
        ("blend_mode", literal("normal")),
    ];
    let blur = vec![("image", three.clone()), ("blur_radius", literal(4)), ("sigma", float(1.0))];
    let repeat = vec![("image", three.clone()), ("amount", literal(i128::from(u32::MAX)))];
    let empty = vec![
        ("width", literal(16_384)),
        ("height", literal(16_384)),
        ("batch_size", literal(4096)),
        ("color", literal(0)),
    ];
    let scale = vec![("image", three), ("upscale_method", literal("area")), ("scale_by", float(0.01))];
    for (class, inputs, part) in [
        ("ImageBlend", blend, "batch of 3"),
        ("ImageBlur", blur, "`radius` is `4`"),
        ("RepeatImageBatch", repeat, "limit"),
        ("EmptyImage", empty, "limit"),
        ("ImageScaleBy", scale, "at least 1x1"),
    ] {
        let (code, message) =
            stage.run("job", vec![node("1", class, &[], inputs)]).await.failure.expect(class);
        assert!(code == ErrorCode::InvalidArgument && message.contains(part), "{class}: {message}");
    }
}

#[tokio::test]
async fn switches_choose_and_comparisons_show_both() {
    let mut stage = Stage::start().await;
    let bool = |value| literal(comfy_graph::Literal::Bool(value));
    for (switch, expected) in [(false, "no"), (true, "yes")] {
        let inputs = vec![("switch", bool(switch)), ("on_false", literal("no")), ("on_true", literal("yes"))];
        let ran = stage.run("job", vec![node("1", "ComfySwitchNode", &[0], inputs)]).await;
        assert_eq!(stage.output(&ran, "1", 0).await, Data::Literal(expected.into()));
    }
    let alone = vec![node("1", "ComfySwitchNode", &[0], vec![("switch", bool(true))])];
    assert!(stage.run("job", alone).await.failure.unwrap().1.contains("`on_true`"));
    let (a, b) =
        (stage.image([1, 1, 1, 3], vec![0.1; 3]).await, stage.image([2, 1, 1, 3], vec![0.9; 6]).await);
    let nodes = vec![node("9", "ImageCompare", &[], vec![("image_a", a), ("image_b", b)])];
    let ran = stage.run("job", nodes.clone()).await;
    let shown =
        |ran: &crate::Ran| serde_json::from_str::<serde_json::Value>(&ran.outputs["9"].ui_json).unwrap();
    let ui = shown(&ran);
    assert_eq!((ui["a_images"].as_array().unwrap().len(), ui["b_images"].as_array().unwrap().len()), (1, 2));
    // Running it again adds no files.
    assert_eq!(shown(&stage.run("job", nodes).await), ui);
    assert_eq!(std::fs::read_dir(stage.path("temp")).unwrap().count(), 3);
}

#[tokio::test]
async fn pictures_are_dealt_out_anew() {
    let mut stage = Stage::start().await;
    let image = stage.image([5, 1, 1, 3], (0..15).map(|i| i as f32 / 15.0).collect()).await;
    let rebatch = |id: &str, image, size: i128| {
        node(id, "RebatchImages", &[0], vec![("images", image), ("batch_size", literal(size))])
    };
    // Measuring runs once per batch, and the second dealing sees the list as a whole.
    let sizes = node("2", "GetImageSize", &[2], vec![("image", link("1", 0))]);
    let ran = stage.run("job", vec![rebatch("1", image, 2), sizes, rebatch("3", link("1", 0), 4)]).await;
    let counts = |data: Data| -> Vec<usize> {
        let count = |data: &Data| match data {
            Data::Image(image) => image.shape()[0],
            Data::Literal(comfy_graph::Literal::Int(count)) => *count as usize,
            other => panic!("unexpected {}", other.kind()),
        };
        data.items().iter().map(count).collect()
    };
    assert_eq!(counts(stage.output(&ran, "1", 0).await), [2, 2, 1]);
    assert_eq!(counts(stage.output(&ran, "2", 2).await), [2, 2, 1]);
    assert_eq!(counts(stage.output(&ran, "3", 0).await), [4, 1]);
}
