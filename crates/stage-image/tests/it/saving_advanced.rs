//! SaveImageAdvanced: every format, read back by decoders that are not ours.

use comfy_graph::ErrorCode;
use comfy_imaging::read_png_text;
use comfy_proto::stage as pb;
use comfy_stage::Data;
use serde_json::{Value, json};

use crate::{Ran, Stage, literal, node};

const PROMPT: &str = r#"{"3": {"class_type": "KSampler", "inputs": {"cfg": 7.0, "text": "\u00fc"}}}"#;

/// Saves pictures in a format and returns the run with the first file.
async fn save(
    stage: &mut Stage,
    images: &pb::InputBinding,
    (format, depth, space): (&str, &str, &str),
) -> (Ran, Vec<u8>) {
    let inputs = vec![
        ("images", images.clone()),
        ("filename_prefix", literal("x")),
        ("format", literal(format)),
        ("format.bit_depth", literal(depth)),
        ("format.input_color_space", literal(space)),
    ];
    let job = format!("{format} {depth} {space}");
    let ran = stage.run(&job, vec![node("9", "SaveImageAdvanced", &[0], inputs)]).await;
    assert!(ran.failure.is_none(), "{:?}", ran.failure);
    let ui: Value = serde_json::from_str(&ran.outputs["9"].ui_json).unwrap();
    let name = ui["images"][0]["filename"].as_str().unwrap();
    assert_eq!(ui["images"][0], json!({"filename": name, "subfolder": "", "type": "output"}));
    let file = std::fs::read(stage.path("output").join(name)).unwrap();
    (ran, file)
}

#[tokio::test]
async fn png_files_keep_all_the_bits_that_they_have() {
    let mut stage = Stage::start().await;
    // Two pictures; the first has a level of its own in each sample, and what is out of range.
    let mut samples: Vec<f32> = (0..12).map(|level| level as f32 * 5000.5 / 65535.0).collect();
    samples.extend([0.5, 1.2, -0.1, 1.0, 0.0, 0.25, 0.75, 0.1, 0.9, 0.3, 0.6, 0.2]);
    let images = stage.image([2, 2, 2, 3], samples.clone()).await;

    let (ran, file) = save(&mut stage, &images, ("png", "16-bit", "sRGB")).await;
    let picture = image::load_from_memory(&file).unwrap();
    assert_eq!(picture.color(), image::ColorType::Rgb16);
    let expected: Vec<u16> = (0..12).map(|level| (f64::from(level) * 5000.5) as u16).collect();
    let found = picture.as_rgb16().unwrap().as_raw().clone();
    // A product in f32 may fall to either side of a whole number.
    assert!(found.iter().zip(&expected).all(|(a, b)| a.abs_diff(*b) <= 1), "{found:?}");
    let texts = read_png_text(&file).unwrap();
    assert_eq!((texts[0].0.as_str(), texts[0].1.as_str()), ("prompt", PROMPT));
    let Data::Image(passed) = stage.output(&ran, "9", 0).await else { panic!("no image") };
    assert_eq!((passed.shape(), passed.data()), (&[2, 2, 2, 3][..], &samples[..]));
    let second = std::fs::read(stage.path("output/x_00002.png")).unwrap();
    let second = image::load_from_memory(&second).unwrap();
    assert_eq!(second.as_rgb16().unwrap().as_raw()[..5], [32767, 65535, 0, 65535, 0]);

    let (_, file) = save(&mut stage, &images, ("png", "8-bit", "sRGB")).await;
    let picture = image::load_from_memory(&file).unwrap();
    assert_eq!(picture.color(), image::ColorType::Rgb8);
    assert_eq!(picture.as_rgb8().unwrap().as_raw()[..3], [0, 19, 38]);

    for (channels, expected) in [(1, image::ColorType::L16), (4, image::ColorType::Rgba16)] {
        let images = stage.image([1, 1, 2, channels], vec![0.5; 2 * channels]).await;
        let (_, file) = save(&mut stage, &images, ("png", "16-bit", "sRGB")).await;
        let picture = image::load_from_memory(&file).unwrap();
        assert_eq!(picture.color(), expected);
        let levels = picture.as_bytes().as_chunks::<2>().0.iter().map(|level| u16::from_ne_bytes(*level));
        assert_eq!(levels.collect::<Vec<_>>(), vec![32767; 2 * channels]);
    }
}

/// The planes of an EXR file by name, with its attributes of text and its primaries.
struct Exr {
    planes: Vec<(String, Vec<f32>)>,
    prompt: String,
    red_x: f32,
}

fn read_exr(file: &[u8]) -> Exr {
    use exr::prelude::*;
    let image = read()
        .no_deep_data()
        .largest_resolution_level()
        .all_channels()
        .first_valid_layer()
        .all_attributes()
        .pedantic()
        .from_buffered(std::io::Cursor::new(file))
        .unwrap();
    let plane = |channel: &AnyChannel<FlatSamples>| {
        let FlatSamples::F32(samples) = &channel.sample_data else { panic!("no 32-bit floats") };
        (channel.name.to_string(), samples.clone())
    };
    let texts = image.attributes.other.iter().chain(&image.layer_data.attributes.other);
    let prompt = texts.filter(|(name, _)| **name == *"prompt").find_map(|(_, value)| match value {
        AttributeValue::Text(text) => Some(text.to_string()),
        _ => None,
    });
    Exr {
        planes: image.layer_data.channel_data.list.iter().map(plane).collect(),
        prompt: prompt.unwrap(),
        red_x: image.attributes.chromaticities.unwrap().red.x(),
    }
}

#[tokio::test]
async fn exr_files_hold_linear_light() {
    let mut stage = Stage::start().await;
    let signal = [0.02, 0.25, 0.5, 0.75, 1.0];
    // Worked out in 64 bits from IEC 61966-2-1 and from table 5 of BT.2100.
    let srgb = [0.001_547_987_6, 0.050_876_09, 0.214_041_14, 0.522_521_55, 1.0];
    let hlg = [0.000_133_333, 0.020_833_33, 0.083_333_33, 0.264_962_56, 1.0];
    let gray = stage.image([1, 1, 5, 1], signal.to_vec()).await;
    for (space, expected, red_x) in [("sRGB", srgb, 0.64), ("HDR", hlg, 0.708), ("linear", signal, 0.64)] {
        let (_, file) = save(&mut stage, &gray, ("exr", "32-bit float", space)).await;
        let exr = read_exr(&file);
        assert_eq!((exr.prompt.as_str(), exr.red_x), (PROMPT, red_x), "{space}");
        let [(name, samples)] = &exr.planes[..] else { panic!("{space}: {} planes", exr.planes.len()) };
        assert_eq!(name, "Y");
        let is_near = |(found, expected): (&f32, &f32)| (found - expected).abs() <= 2e-6;
        assert!(samples.iter().zip(&expected).all(is_near), "{space}: {samples:?}");
    }
    // Alpha stays as it is, and linear light is exact whatever its size.
    let samples = vec![0.5, 0.25, 0.02, 0.5, 1.0, 0.75, 0.5, 0.25];
    let images = stage.image([1, 2, 1, 4], samples).await;
    let exr = read_exr(&save(&mut stage, &images, ("exr", "32-bit float", "sRGB")).await.1);
    let names: Vec<&str> = exr.planes.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["A", "B", "G", "R"]);
    assert_eq!(exr.planes[0].1, [0.5, 0.25]);
    assert!((exr.planes[1].1[0] - srgb[0]).abs() < 1e-6 && (exr.planes[3].1[0] - srgb[2]).abs() < 1e-6);
    let wide = vec![-3.5, 0.1, 7e4, 1e-9, 2.0, 0.3];
    let images = stage.image([1, 1, 2, 3], wide).await;
    let exr = read_exr(&save(&mut stage, &images, ("exr", "32-bit float", "linear")).await.1);
    assert_eq!(exr.planes[0].1, [7e4, 0.3]);
    assert_eq!(exr.planes[2].1, [-3.5, 1e-9]);
}

#[tokio::test]
async fn a_format_that_cannot_be_written_says_which_can() {
    let mut stage = Stage::start().await;
    let images = stage.image([1, 1, 1, 3], vec![0.5; 3]).await;
    for (format, depth, space) in
        [("avif", "auto", "sRGB"), ("png", "32-bit float", "sRGB"), ("png", "8-bit", "HDR")]
    {
        let inputs = vec![
            ("images", images.clone()),
            ("filename_prefix", literal("x")),
            ("format", literal(format)),
            ("format.bit_depth", literal(depth)),
            ("format.input_color_space", literal(space)),
        ];
        let (code, message) =
            stage.run("job", vec![node("9", "SaveImageAdvanced", &[], inputs)]).await.failure.expect(format);
        assert_eq!(code, ErrorCode::InvalidArgument);
        assert!(message.contains("expected `png` of `8-bit` or `16-bit`"), "{message}");
    }
}
