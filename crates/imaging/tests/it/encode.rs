//! Written files: exact pixels, exact chunks, texts in order.

use comfy_imaging::{
    Channels, ImagingError, Limits, PixelView, decode, encode_jpeg, encode_png, encode_webp, read_png_text,
    to_levels_truncating,
};

/// All levels in every channel, in an order that differs between channels.
fn every_level(channels: Channels) -> Vec<u8> {
    (0..256)
        .flat_map(|pixel| (0..channels.count()).map(move |channel| (pixel * (2 * channel + 1)) as u8))
        .collect()
}

fn levels(samples: &[f32]) -> Vec<u8> {
    samples.iter().map(|sample| (sample * 255.0).round() as u8).collect()
}

fn chunk_kinds(png: &[u8]) -> Vec<String> {
    let mut kinds = Vec::new();
    let mut rest = &png[8..];
    while !rest.is_empty() {
        let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        kinds.push(String::from_utf8(rest[4..8].to_vec()).unwrap());
        rest = &rest[12 + length..];
    }
    kinds
}

#[test]
fn png_round_trip_is_exact_for_every_level() {
    for channels in [Channels::Gray, Channels::Rgb, Channels::Rgba] {
        let data = every_level(channels);
        let view = PixelView::new(16, 16, channels, &data).unwrap();
        for level in [0, 1, 4, 9] {
            let image = decode(&encode_png(view, &[], level).unwrap(), &Limits::default()).unwrap();
            let rgb = levels(&image.frames[0].rgb);
            let expected: Vec<u8> = data
                .chunks(channels.count())
                .flat_map(
                    |pixel| if pixel.len() == 1 { [pixel[0]; 3] } else { [pixel[0], pixel[1], pixel[2]] },
                )
                .collect();
            assert_eq!(rgb, expected, "{channels:?} level {level}");
            let alpha = image.frames[0].alpha.as_ref().map(|plane| levels(plane));
            let expected =
                (channels == Channels::Rgba).then(|| data.iter().skip(3).step_by(4).copied().collect());
            assert_eq!(alpha, expected, "{channels:?} level {level}");
        }
    }
}

#[test]
fn png_keeps_its_layout_whatever_the_content() {
    // Gray, black and white, and opaque pictures are where an encoder likes to choose a smaller layout.
    for (channels, colour_type) in [(Channels::Gray, 0), (Channels::Rgb, 2), (Channels::Rgba, 6)] {
        for data in [vec![0; 64 * channels.count()], vec![255; 64 * channels.count()]] {
            let png = encode_png(PixelView::new(8, 8, channels, &data).unwrap(), &[], 4).unwrap();
            assert_eq!(&png[16..29], [0, 0, 0, 8, 0, 0, 0, 8, 8, colour_type, 0, 0, 0], "{channels:?}");
            assert_eq!(chunk_kinds(&png), ["IHDR", "IDAT", "IEND"], "{channels:?}");
        }
    }
}

#[test]
fn png_texts_keep_order_and_characters() {
    let data = every_level(Channels::Rgb);
    let view = PixelView::new(16, 16, Channels::Rgb, &data).unwrap();
    let texts = [
        ("workflow", r#"{"nodes": [], "\u00fc": 1}"#),
        ("prompt", "{\"3\": {}}"),
        ("latin", "gr\u{fc}n"),
        ("other", "画像 \u{1f3a8}"),
        ("empty", ""),
    ];
    let png = encode_png(view, &texts, 4).unwrap();
    let read = read_png_text(&png).unwrap();
    let read: Vec<_> = read.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(read, texts);
    assert_eq!(chunk_kinds(&png), ["IHDR", "tEXt", "tEXt", "tEXt", "iTXt", "tEXt", "IDAT", "IEND"]);
    assert_eq!(png, encode_png(view, &texts, 4).unwrap(), "the same input gives the same file");
    assert!(decode(&png, &Limits::default()).is_ok());
}

#[test]
fn wrong_arguments_are_refused() {
    let data = [0_u8; 12];
    let view = PixelView::new(2, 2, Channels::Rgb, &data).unwrap();
    let long_key = "k".repeat(80);
    for result in [
        encode_png(view, &[], 10),
        encode_png(view, &[("", "x")], 4),
        encode_png(view, &[(&long_key, "x")], 4),
        encode_png(view, &[("画", "x")], 4),
        encode_png(view, &[("key", "a\0b")], 4),
        encode_jpeg(view, 0),
        encode_jpeg(view, 101),
        encode_webp(view, 0),
    ] {
        assert!(matches!(result, Err(ImagingError::InvalidArgument { .. })), "{result:?}");
    }
    let rgba = [0_u8; 16];
    assert!(encode_jpeg(PixelView::new(2, 2, Channels::Rgba, &rgba).unwrap(), 90).is_err());
    for (width, height) in [(2, 3), (usize::MAX, 2), (0, 2), (1, 2)] {
        assert!(PixelView::new(width, height, Channels::Rgb, &data).is_err(), "{width}x{height}");
    }
}

#[test]
fn lossy_formats_come_near() {
    let data: Vec<u8> =
        (0..32 * 32).flat_map(|pixel: usize| [(pixel % 32 * 7) as u8, (pixel / 32 * 7) as u8, 90]).collect();
    let view = PixelView::new(32, 32, Channels::Rgb, &data).unwrap();
    for (name, file) in [("jpeg", encode_jpeg(view, 95).unwrap()), ("webp", encode_webp(view, 95).unwrap())] {
        let image = decode(&file, &Limits::default()).unwrap();
        assert_eq!((image.width, image.height), (32, 32), "{name}");
        let far = levels(&image.frames[0].rgb).iter().zip(&data).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(far <= 24, "{name} is off by {far} levels");
    }
    let small = encode_jpeg(view, 20).unwrap().len();
    assert!(small < encode_jpeg(view, 95).unwrap().len(), "the quality is used");
    // Halved colour resolution, as Pillow's default: the first component is sampled 2x2.
    let jpeg = encode_jpeg(view, 95).unwrap();
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    assert_eq!(jpeg[frame + 11], 0x22);
}

#[test]
fn levels_are_cut_and_not_rounded() {
    let samples = [0.0, 0.5, 1.0, 0.003_906_25, 0.999, 0.999_99, 1.2, -0.1, f32::NAN, f32::INFINITY];
    assert_eq!(to_levels_truncating(&samples), [0, 127, 255, 0, 254, 254, 255, 0, 0, 255]);
    let exact: Vec<f32> = (0..=255_u8).map(|level| f32::from(level) / 255.0).collect();
    assert_eq!(to_levels_truncating(&exact), (0..=255).collect::<Vec<u8>>());
}
