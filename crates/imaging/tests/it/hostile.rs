//! Files that want harm: each is an error, none a panic, none takes much memory.

use comfy_imaging::{ImagingError, Limits, decode, read_png_text};

use crate::{Random, fixture};

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut out = (data.len() as u32).to_be_bytes().to_vec();
    out.extend(kind);
    out.extend(data);
    let checksum = crc(&out[4..]);
    out.extend(checksum.to_be_bytes());
    out
}

/// The checksum of PNG, bit by bit, apart from the one in the crate.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 },
        )
    })
}

fn png(width: u32, height: u32, packed: &[u8]) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes()[..], &[8, 2, 0, 0, 0]].concat();
    [SIGNATURE, &chunk(b"IHDR", &header), &chunk(b"IDAT", packed), &chunk(b"IEND", b"")].concat()
}

fn error(bytes: &[u8]) -> ImagingError {
    decode(bytes, &Limits::default()).expect_err("a hostile file was read")
}

/// The most memory this process ever held, in MiB.
fn peak_memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn huge_headers_are_refused_unread() {
    let blank = [0x78, 0x9c, 0x03, 0x00, 0x00, 0x00, 0x00, 0x01];
    for (width, height) in
        [(100_000, 100_000), (16_385, 1), (1, 16_385), (9_000, 9_000), (0x7fff_ffff, 0x7fff_ffff)]
    {
        let found = error(&png(width, height, &blank));
        assert!(matches!(found, ImagingError::TooLarge { .. }), "{width}x{height}: {found}");
    }
    // Inside the limits, but the data cannot hold it.
    assert!(matches!(error(&png(8_000, 8_000, &blank)), ImagingError::Malformed { .. }));
    for (width, height) in [(0, 4), (4, 0), (0x8000_0000, 1)] {
        assert!(matches!(error(&png(width, height, &blank)), ImagingError::Malformed { .. }));
    }
    let mut jpeg = fixture("rgb.jpg");
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xff, 0xff, 0xff]);
    assert!(matches!(error(&jpeg), ImagingError::TooLarge { .. }));
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x1f, 0x00, 0x1f, 0x00]);
    assert!(matches!(error(&jpeg), ImagingError::Malformed { .. }));
    let mut webp = fixture("animated.webp");
    webp[24..30].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    assert!(matches!(error(&webp), ImagingError::TooLarge { .. }));
    // A small canvas around a picture that says it is larger.
    webp[24..30].copy_from_slice(&[1, 0, 0, 1, 0, 0]);
    assert!(matches!(error(&webp), ImagingError::Malformed { .. }));
    assert!(peak_memory_mib() < 512, "{} MiB", peak_memory_mib());
}

#[test]
fn other_formats_are_refused_by_name() {
    for (bytes, name) in [
        (&b""[..], "an empty file"),
        (b"GIF89a\x01\x00\x01\x00", "a GIF file"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "an SVG file"),
        (b"<?xml version='1.0'?>\n<svg width='1'/>", "an SVG file"),
        (b"<?xml version='1.0'?><image><read filename='/etc/passwd'/></image>", "an XML or HTML file"),
        (b"push graphic-context\nviewbox 0 0 1 1", "an MVG file"),
        (b"%!PS\nshowpage", "a PostScript file"),
        (b"%PDF-1.4", "a PDF file"),
        (b"\x89PN", "an unknown kind of file"),
        (b"RIFF\x10\x00\x00\x00WAVE", "an unknown kind of file"),
        (b"ephemeral:/etc/passwd", "an unknown kind of file"),
    ] {
        let found = error(bytes);
        assert_eq!(found, ImagingError::UnsupportedFormat { found: name });
        assert!(found.to_string().contains("PNG, JPEG and WebP"), "{found}");
    }
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let length = random.below(600);
        let bytes: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
        error(&bytes);
        for magic in [SIGNATURE, b"\xff\xd8\xff\xe0", b"RIFF\xff\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00"] {
            error(&[magic, &bytes].concat());
        }
    }
}

#[test]
fn files_cut_anywhere_are_refused() {
    for name in
        ["rgb.png", "palette_alpha.png", "rgb.jpg", "progressive.jpg", "lossless.webp", "animated.webp"]
    {
        let whole = fixture(name);
        assert!(decode(&whole, &Limits::default()).is_ok(), "{name}");
        for length in 0..whole.len() {
            let found = decode(&whole[..length], &Limits::default());
            assert!(found.is_err(), "{name} cut to {length} of {} bytes was read", whole.len());
        }
    }
}

#[test]
fn png_whose_data_stops_early_is_refused() {
    // The container is whole and its checksums are right, only the packed pixels are cut.
    let whole = fixture("rgb.png");
    let start = whole.windows(4).position(|kind| kind == b"IDAT").unwrap();
    let length = u32::from_be_bytes(whole[start - 4..start].try_into().unwrap()) as usize;
    let packed = &whole[start + 4..start + 4 + length];
    assert!(decode(&png(13, 9, packed), &Limits::default()).is_ok());
    for kept in [0, 1, length / 4, length / 2, length - 8] {
        let found = decode(&png(13, 9, &packed[..kept]), &Limits::default());
        assert!(found.is_err(), "{kept} of {length} packed bytes were read");
    }
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let mut packed = packed.to_vec();
        let position = random.below(length);
        packed[position] ^= 1 << random.below(8);
        // Damage that still unpacks to enough rows may pass; it must not harm.
        if let Ok(image) = decode(&png(13, 9, &packed), &Limits::default()) {
            assert_eq!(image.frames[0].rgb.len(), 13 * 9 * 3);
        }
    }
}

#[test]
fn flipped_bits_never_harm() {
    for name in ["rgb.png", "palette_alpha.png", "rgba_16bit.png", "orientation_6.png"] {
        let whole = fixture(name);
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut bytes = whole.clone();
            let position = random.below(bytes.len());
            bytes[position] ^= 1 << random.below(8);
            assert!(
                decode(&bytes, &Limits::default()).is_err(),
                "{name}: bit flip at {position} was not seen"
            );
            assert!(
                read_png_text(&bytes).is_err(),
                "{name}: bit flip at {position} was not seen by the text reader"
            );
        }
    }
    // JPEG and WebP have no checksums: damage may pass as other pixels, of the size that the header says.
    for name in [
        "rgb.jpg",
        "progressive.jpg",
        "cmyk.jpg",
        "orientation_6.jpg",
        "lossless.webp",
        "lossy.webp",
        "animated.webp",
    ] {
        let whole = fixture(name);
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut bytes = whole.clone();
            let position = random.below(bytes.len());
            bytes[position] ^= 1 << random.below(8);
            if let Ok(image) = decode(&bytes, &Limits::default()) {
                let samples = image.width * image.height * 3;
                assert!(image.frames.iter().all(|frame| frame.rgb.len() == samples), "{name}");
            }
        }
    }
    assert!(peak_memory_mib() < 512, "{} MiB", peak_memory_mib());
}

#[test]
fn compressed_texts_are_bounded() {
    // 64 MiB of zeros in about 64 KiB.
    let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..64 {
        std::io::Write::write_all(&mut packer, &vec![b' '; 1 << 20]).unwrap();
    }
    let packed = packer.finish().unwrap();
    let bomb =
        [SIGNATURE, &chunk(b"zTXt", &[b"key\0\0", &packed[..]].concat()), &chunk(b"IEND", b"")].concat();
    assert!(matches!(read_png_text(&bomb), Err(ImagingError::Malformed { .. })));
    for (kind, data) in [
        (b"tEXt", &b"no separator"[..]),
        (b"zTXt", b"key\0\x01abc"),
        (b"zTXt", b"key\0\0not packed"),
        (b"iTXt", b"key\0\0"),
        (b"iTXt", b"key\0\0\0\0\0\xff\xfe"),
    ] {
        let file = [SIGNATURE, &chunk(kind, data), &chunk(b"IEND", b"")].concat();
        assert!(read_png_text(&file).is_err(), "{data:?}");
    }
}
