//! Every kind of accepted file against the levels that ComfyUI reads.

use comfy_imaging::{Format, Limits, decode, probe};
use serde_json::Value;

use crate::fixture;

/// Checks a file against `expected.json`, allowing `tolerance` levels for lossy formats.
fn check(name: &str, tolerance: i64) {
    let expected: Value = serde_json::from_slice(&fixture("expected.json")).unwrap();
    let expected = &expected[name];
    let image = decode(&fixture(name), &Limits::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
    let size = [image.width as u64, image.height as u64];
    assert_eq!(size, ["width", "height"].map(|side| expected[side].as_u64().unwrap()), "{name}");
    let frames = expected["frames"].as_array().unwrap();
    assert_eq!(image.frames.len(), frames.len(), "{name}");
    for (index, (frame, expected)) in image.frames.iter().zip(frames).enumerate() {
        compare(&format!("{name} frame {index} rgb"), &frame.rgb, &expected["rgb"], tolerance);
        match &frame.alpha {
            Some(alpha) => compare(&format!("{name} alpha"), alpha, &expected["alpha"], 0),
            None => assert!(expected["alpha"].is_null(), "{name} lost its alpha"),
        }
    }
}

fn compare(what: &str, samples: &[f32], expected: &Value, tolerance: i64) {
    let expected = expected.as_array().unwrap_or_else(|| panic!("{what}: unexpected plane"));
    assert_eq!(samples.len(), expected.len(), "{what}");
    for (index, (sample, level)) in samples.iter().zip(expected).enumerate() {
        let level = level.as_i64().unwrap();
        let found = (sample * 255.0).round() as i64;
        assert_eq!(*sample, found as f32 / 255.0, "{what} [{index}] is no level of 8 bits");
        assert!((found - level).abs() <= tolerance, "{what} [{index}]: {found}, expected {level}");
    }
}

#[test]
fn png_of_every_layout() {
    for name in [
        "rgb.png",
        "rgba.png",
        "gray.png",
        "gray_alpha.png",
        "gray_1bit.png",
        "palette.png",
        "palette_alpha.png",
        "rgb_colour_key.png",
        "gray_gamma_1.png",
        "rgb_gamma_1.png",
        "rgb_16bit.png",
        "rgba_16bit.png",
        "gray_16bit.png",
    ] {
        check(name, 0);
    }
}

#[test]
fn jpeg_of_every_layout() {
    for name in ["rgb.jpg", "progressive.jpg", "gray.jpg", "cmyk.jpg"] {
        check(name, 1);
    }
}

#[test]
fn webp_still_and_animated() {
    for name in ["lossless.webp", "lossless_alpha.webp", "animated.webp"] {
        check(name, 0);
    }
    check("lossy.webp", 1);
}

#[test]
fn exif_orientation_turns_the_picture() {
    for orientation in 1..=8 {
        check(&format!("orientation_{orientation}.png"), 0);
    }
    check("orientation_6.jpg", 1);
    check("orientation_8.webp", 0);
}

#[test]
fn probe_reads_headers_without_decoding() {
    for (name, format, frames, has_alpha) in [
        ("rgb.png", Format::Png, 1, false),
        ("palette_alpha.png", Format::Png, 1, true),
        ("rgb_colour_key.png", Format::Png, 1, false),
        ("rgb.jpg", Format::Jpeg, 1, false),
        ("lossy.webp", Format::WebP, 1, false),
        ("lossless_alpha.webp", Format::WebP, 1, true),
        ("animated.webp", Format::WebP, 3, false),
    ] {
        let info = probe(&fixture(name), &Limits::default()).unwrap();
        let found = (info.format, info.width, info.height, info.frames, info.has_alpha);
        assert_eq!(found, (format, 13, 9, frames, has_alpha), "{name}");
    }
}
