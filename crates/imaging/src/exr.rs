//! Samples of 32 bits to the bytes of an OpenEXR file.
//!
//! ImageMagick is not used here: it would round samples to 16 bits and know nothing of primaries. A file of uncompressed
//! lines is little more than its header.
//!
//! # Source
//! "OpenEXR File Layout" of the OpenEXR documentation; chromaticities of ITU-R BT.709 and BT.2020.

use crate::error::{ImagingError, Result};
use crate::pixels::{Channels, PixelView};

/// The colours that full red, green and blue stand for; the white is D65.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Primaries {
    Rec709,
    Rec2020,
}

impl Primaries {
    /// Red, green, blue and white, as x and y of CIE 1931.
    fn chromaticities(self) -> [f32; 8] {
        match self {
            Self::Rec709 => [0.64, 0.33, 0.3, 0.6, 0.15, 0.06, 0.3127, 0.329],
            Self::Rec2020 => [0.708, 0.292, 0.17, 0.797, 0.131, 0.046, 0.3127, 0.329],
        }
    }
}

const MAGIC: [u8; 4] = [0x76, 0x2f, 0x31, 0x01];
const VERSION: u32 = 2;
/// Says that names may be longer than 31 bytes.
const LONG_NAMES: u32 = 0x400;
const SHORT_NAME_BYTES: usize = 31;
const LONG_NAME_BYTES: usize = 255;

/// Encodes linear samples exactly: 32-bit floats, one line after the other, uncompressed. Gray is stored as `Y`.
///
/// Texts become attributes of the header, under their keys.
///
/// # Errors
/// [`ImagingError::InvalidArgument`] for a text key that is no attribute name of its own, [`ImagingError::TooLarge`]
/// for a side, a line or a text whose length does not fit the format.
pub fn encode_exr(
    pixels: PixelView<'_, f32>,
    texts: &[(&str, &str)],
    primaries: Primaries,
) -> Result<Vec<u8>> {
    // Names in the order of the alphabet, which is the order of planes in the file.
    let planes: &[(&str, usize)] = match pixels.channels() {
        Channels::Gray => &[("Y", 0)],
        Channels::Rgb => &[("B", 2), ("G", 1), ("R", 0)],
        Channels::Rgba => &[("A", 3), ("B", 2), ("G", 1), ("R", 0)],
    };
    let (width, height) = (pixels.width(), pixels.height());
    let line_bytes = int("line", width * planes.len() * size_of::<f32>())?;
    let mut out = header((width, height), planes, primaries)?.with_texts(texts)?;
    // The table says where each line begins in the file.
    let lines_at = out.len() + height * size_of::<u64>();
    let line_len = 2 * size_of::<i32>() + line_bytes as usize;
    (0..height).for_each(|y| out.extend(((lines_at + y * line_len) as u64).to_le_bytes()));
    for (y, line) in (0i32..).zip(pixels.data().chunks_exact(width * planes.len())) {
        out.extend(y.to_le_bytes());
        out.extend(line_bytes.to_le_bytes());
        for (_, channel) in planes {
            let samples = line.iter().skip(*channel).step_by(planes.len());
            out.extend(samples.flat_map(|sample| sample.to_le_bytes()));
        }
    }
    Ok(out)
}

fn int(what: &'static str, value: usize) -> Result<i32> {
    let too_large = |_| ImagingError::TooLarge { what, found: value as u64, limit: i32::MAX as u64 };
    i32::try_from(value).map_err(too_large)
}

/// The attributes of a file that is being written.
#[derive(Default)]
struct Header {
    names: Vec<String>,
    bytes: Vec<u8>,
}

fn header((width, height): (usize, usize), planes: &[(&str, usize)], primaries: Primaries) -> Result<Header> {
    /// `FLOAT` among the pixel types.
    const FLOAT: u32 = 2;
    let mut channels = Vec::new();
    for (name, _) in planes {
        channels.extend(name.bytes());
        channels.push(0);
        // Type, four bytes for hints to encoders, and no subsampling.
        channels.extend([FLOAT, 0, 1, 1].iter().flat_map(|word| word.to_le_bytes()));
    }
    channels.push(0);
    let corner = [0, 0, int("width", width)? - 1, int("height", height)? - 1];
    let window: Vec<u8> = corner.iter().flat_map(|value| value.to_le_bytes()).collect();
    let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let mut header = Header::default();
    header.push("channels", "chlist", &channels)?;
    header.push("chromaticities", "chromaticities", &floats(&primaries.chromaticities()))?;
    header.push("compression", "compression", &[0])?;
    header.push("dataWindow", "box2i", &window)?;
    header.push("displayWindow", "box2i", &window)?;
    header.push("lineOrder", "lineOrder", &[0])?;
    header.push("pixelAspectRatio", "float", &floats(&[1.0]))?;
    header.push("screenWindowCenter", "v2f", &floats(&[0.0, 0.0]))?;
    header.push("screenWindowWidth", "float", &floats(&[1.0]))?;
    Ok(header)
}

impl Header {
    fn push(&mut self, name: &str, kind: &str, value: &[u8]) -> Result<()> {
        let fits = (1..=LONG_NAME_BYTES).contains(&name.len()) && !name.contains('\0');
        if !fits || self.names.iter().any(|other| other == name) {
            return Err(ImagingError::InvalidArgument {
                name: "text key",
                found: name.to_owned(),
                expected: "1 to 255 bytes, none of them zero, and no attribute that the file has already",
            });
        }
        for text in [name, kind] {
            self.bytes.extend(text.bytes());
            self.bytes.push(0);
        }
        self.bytes.extend(int("text", value.len())?.to_le_bytes());
        self.bytes.extend(value);
        self.names.push(name.to_owned());
        Ok(())
    }

    /// The start of the file up to the end of the attributes.
    fn with_texts(mut self, texts: &[(&str, &str)]) -> Result<Vec<u8>> {
        for (key, value) in texts {
            self.push(key, "string", value.as_bytes())?;
        }
        let is_long = self.names.iter().any(|name| name.len() > SHORT_NAME_BYTES);
        let version = if is_long { VERSION | LONG_NAMES } else { VERSION };
        Ok([&MAGIC[..], &version.to_le_bytes(), &self.bytes, &[0]].concat())
    }
}
