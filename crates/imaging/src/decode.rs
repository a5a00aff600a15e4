//! Bytes of a picture file to samples in 0..=1.
//!
//! # Source
//! Same values as ComfyUI's `LoadImage`, which reads through Pillow: the EXIF orientation is applied, the colour
//! profile is not, gray and palette become RGB, samples of 16 bits keep their upper byte, CMYK becomes
//! `(255 - ink) * (255 - black) / 255`, and alpha is handed over beside the colours without being multiplied in.

use magick_rust::{ColorspaceType, MagickWand};

use crate::error::{ImagingError, Result};
use crate::header::{Depth, Format, ImageInfo, probe};
use crate::limits::Limits;
use crate::magick;

/// Rows that are fetched at once from a deep picture, whose samples cross as f64.
const DEEP_STRIP_ROWS: usize = 32;

/// A decoded file.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodedImage {
    pub format: Format,
    /// Width in pixels after orientation.
    pub width: usize,
    /// Height in pixels after orientation.
    pub height: usize,
    /// One frame, or those of an animation, all of the same size.
    pub frames: Vec<Frame>,
}

/// One picture of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Red, green and blue in 0..=1, `[height, width, 3]`.
    pub rgb: Vec<f32>,
    /// Opacity in 0..=1, `[height, width]`, if the file has an alpha channel. ComfyUI's mask is one minus this.
    pub alpha: Option<Vec<f32>>,
}

/// Decodes a PNG, JPEG or WebP file, after [`probe`] let it pass.
///
/// # Errors
/// Those of [`probe`], and [`ImagingError::Magick`] when the decoder finds the data broken.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<DecodedImage> {
    let info = probe(bytes, limits)?;
    let wand = magick::read(bytes, info.format.coder())?;
    let wand = if info.frames > 1 { whole_frames(wand)? } else { wand };
    if wand.get_number_images() != info.frames as usize {
        return Err(ImagingError::malformed(
            info.format,
            "has another number of frames than its header says",
        ));
    }
    let mut frames = Vec::with_capacity(info.frames as usize);
    let mut size = None;
    wand.reset_iterator();
    while wand.next_image() {
        let found = (wand.get_image_width(), wand.get_image_height());
        if found != (info.width as usize, info.height as usize) {
            return Err(ImagingError::malformed(info.format, "has another size than its header says"));
        }
        if !wand.auto_orient() {
            return Err(failed("turn the picture upright", &wand));
        }
        let turned = (wand.get_image_width(), wand.get_image_height());
        if *size.get_or_insert(turned) != turned {
            return Err(ImagingError::malformed(info.format, "has frames of different sizes"));
        }
        frames.push(frame(&wand, &info, turned)?);
    }
    let (width, height) = size.ok_or_else(|| ImagingError::malformed(info.format, "has no picture"))?;
    Ok(DecodedImage { format: info.format, width, height, frames })
}

/// Turns the stored parts of an animation into complete pictures.
fn whole_frames(mut wand: MagickWand) -> Result<MagickWand> {
    wand.coalesce().map_err(|error| ImagingError::magick("compose the frames", error.to_string()))
}

fn failed(action: &'static str, wand: &MagickWand) -> ImagingError {
    let message = wand.get_exception().map_or_else(|error| error.to_string(), |(text, _)| text);
    ImagingError::magick(action, message)
}

fn frame(wand: &MagickWand, info: &ImageInfo, (width, height): (usize, usize)) -> Result<Frame> {
    let is_cmyk = wand.get_image_colorspace() == ColorspaceType::CMYK;
    let map = match (is_cmyk, info.has_alpha) {
        (true, _) => "CMYK",
        (false, true) => "RGBA",
        (false, false) => "RGB",
    };
    let pixels = width * height;
    let mut frame = Frame {
        rgb: Vec::with_capacity(pixels * 3),
        alpha: info.has_alpha.then(|| Vec::with_capacity(pixels)),
    };
    let strip_rows = DEEP_STRIP_ROWS.min(height);
    for top in (0..height).step_by(strip_rows) {
        let rows = strip_rows.min(height - top);
        let levels = match info.depth {
            Depth::Eight => wand.export_image_pixels(0, top as isize, width, rows, map),
            Depth::Sixteen => wand
                .export_image_pixels_double(0, top as isize, width, rows, map)
                .map(|samples| samples.into_iter().map(upper_byte).collect()),
        };
        let levels = levels.ok_or_else(|| failed("hand over the pixels", wand))?;
        for pixel in levels.chunks_exact(map.len()) {
            push_pixel(&mut frame, pixel, is_cmyk);
        }
    }
    Ok(frame)
}

fn upper_byte(sample: f64) -> u8 {
    ((sample * 65535.0).round() as u16 >> 8) as u8
}

fn push_pixel(frame: &mut Frame, pixel: &[u8], is_cmyk: bool) {
    let unit = |level: u8| f32::from(level) / 255.0;
    match *pixel {
        [cyan, magenta, yellow, black] if is_cmyk => {
            frame.rgb.extend([cyan, magenta, yellow].map(|ink| unit(without_ink(ink, black))));
        }
        [red, green, blue, ref alpha @ ..] => {
            frame.rgb.extend([red, green, blue].map(unit));
            if let (Some(plane), [alpha]) = (&mut frame.alpha, alpha) {
                plane.push(unit(*alpha));
            }
        }
        _ => unreachable!("chunks have as many samples as the map, three or four"),
    }
}

/// Mixes one ink and black into a light level.
fn without_ink(ink: u8, black: u8) -> u8 {
    let white = i32::from(255 - black);
    // Rounded division by 255 in the integers, as Pillow has it.
    let product = i32::from(ink) * white + 128;
    let shade = ((product >> 8) + product) >> 8;
    (white - shade).clamp(0, 255) as u8
}
