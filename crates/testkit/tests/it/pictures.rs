//! Pixels and text chunks of PNG files.

use std::path::PathBuf;

/// The 8-bit RGB values of a picture.
pub fn pixels(png: &[u8]) -> (u32, u32, Vec<u8>) {
    let image =
        image::load_from_memory(png).expect("the stack writes pictures that others can read").to_rgb8();
    (image.width(), image.height(), image.into_raw())
}

/// A reference picture; see its README.
pub fn reference(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The largest difference between two pictures of the same size, in levels of 255.
pub fn largest_difference(a: &[u8], b: &[u8]) -> u8 {
    let (a, b) = (pixels(a), pixels(b));
    assert_eq!((a.0, a.1), (b.0, b.1), "sizes");
    a.2.iter().zip(&b.2).map(|(x, y)| x.abs_diff(*y)).max().unwrap_or(0)
}

/// The text of a `tEXt` chunk.
pub fn text_chunk(png: &[u8], keyword: &str) -> Option<String> {
    let mut rest = png.get(8..)?;
    while rest.len() >= 12 {
        let length = u32::from_be_bytes(rest[..4].try_into().ok()?) as usize;
        let data = rest.get(8..8 + length)?;
        if &rest[4..8] == b"tEXt"
            && let Some(text) = data.strip_prefix(keyword.as_bytes()).and_then(|d| d.strip_prefix(b"\0"))
        {
            return String::from_utf8(text.to_vec()).ok();
        }
        rest = rest.get(12 + length..)?;
    }
    None
}
