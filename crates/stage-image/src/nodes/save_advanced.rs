//! `SaveImageAdvanced`: a format with settings of its own.

use comfy_artifacts::{FilePrefix, Folder};
use comfy_graph::{DynamicOption, InputSpec, NodeSpec, OutputSpec};
use comfy_imaging::{Primaries, encode_exr, encode_png, encode_png_16, to_levels_truncating};
use comfy_stage::{Ctx, FnNode, Inputs, NodeError, Outputs};
use serde_json::json;

use crate::pictures::{Pictures, imaging_error};
use crate::state::ImageState;

use super::save::{Place, with_workflow, workflow_texts, write_files};

pub(super) const NODES: &[super::ImageNode] = &[&FnNode { spec, run }];

const PNG: &str = "png";
const EXR: &str = "exr";
const EIGHT_BITS: &str = "8-bit";
const SIXTEEN_BITS: &str = "16-bit";
const FLOAT_BITS: &str = "32-bit float";
const SRGB: &str = "sRGB";
const HDR: &str = "HDR";
const LINEAR: &str = "linear";

/// zlib's level for PNG files, as `SaveImage` has it.
const COMPRESS_LEVEL: u8 = 4;

fn spec() -> NodeSpec {
    let png = vec![
        InputSpec::combo("bit_depth", &[EIGHT_BITS, SIXTEEN_BITS]).choose(EIGHT_BITS),
        InputSpec::combo("input_color_space", &[SRGB]).choose(SRGB),
    ];
    let space = InputSpec::combo("input_color_space", &[SRGB, HDR, LINEAR]).choose(SRGB).tooltip(
        "What the samples of the pictures mean. The file always holds linear light: sRGB is decoded, HDR is taken for \
         HLG with the primaries of Rec. 2020 and decoded, linear is written as it is.",
    );
    let exr = vec![InputSpec::combo("bit_depth", &[FLOAT_BITS]).choose(FLOAT_BITS), space];
    let formats = vec![DynamicOption::new(PNG, png), DynamicOption::new(EXR, exr)];
    let inputs = with_workflow(vec![
        InputSpec::socket("images", "IMAGE").tooltip("Pictures that are written, one file each."),
        InputSpec::text("filename_prefix", "ComfyUI")
            .tooltip("Beginning of the file names; holds the same placeholders as in Save Image."),
        InputSpec::dynamic_combo("format", formats).tooltip("The kind of file."),
    ]);
    let mut spec = NodeSpec::new("SaveImageAdvanced", "image", inputs, &[])
        .titled("Save Image (Advanced)")
        .about(
            "Writes the pictures as PNG files of 8 or 16 bits or as OpenEXR files, with the workflow inside.",
        )
        .ending();
    spec.outputs = vec![OutputSpec::new("images", "IMAGE")];
    spec
}

fn run(inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let images = Pictures::image(inputs, "images")?;
    let format = Format::read(inputs)?;
    let texts = workflow_texts(ctx)?;
    let texts: Vec<_> = texts.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let total = images.pictures().len() as u64;
    let mut files = Vec::with_capacity(images.pictures().len());
    for (samples, done) in images.pictures().zip(1..) {
        ctx.check_cancelled()?;
        files.push(encode(&images, samples, format, &texts)?);
        if total > 1 {
            ctx.progress(done, total);
        }
    }
    let size = (images.width, images.height);
    let prefix = FilePrefix::new(inputs.text("filename_prefix")?, size, &chrono::Local::now());
    let place = Place { folder: Folder::Output, suffix: format.suffix(), part: "" };
    let named = write_files(&files, &prefix, &place, ctx)?;
    let ui = Some(json!({ "images": named }));
    Ok(Outputs { ui, ..images.one_image()? })
}

/// A format with its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Png8,
    Png16,
    Exr(Light),
}

/// What samples mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Light {
    Srgb,
    Hlg,
    Linear,
}

impl Format {
    fn read(inputs: &Inputs) -> Result<Self, NodeError> {
        let space = inputs.text("format.input_color_space")?;
        let format = (inputs.text("format")?, inputs.text("format.bit_depth")?, space);
        Ok(match format {
            (PNG, EIGHT_BITS, SRGB) => Self::Png8,
            (PNG, SIXTEEN_BITS, SRGB) => Self::Png16,
            (EXR, FLOAT_BITS, SRGB) => Self::Exr(Light::Srgb),
            (EXR, FLOAT_BITS, HDR) => Self::Exr(Light::Hlg),
            (EXR, FLOAT_BITS, LINEAR) => Self::Exr(Light::Linear),
            (format, depth, space) => {
                return Err(NodeError::invalid(format!(
                    "cannot write `{format}` of `{depth}` from `{space}`, expected `png` of `8-bit` or `16-bit` \
                     from `sRGB`, or `exr` of `32-bit float` from `sRGB`, `HDR` or `linear`"
                )));
            }
        })
    }

    /// What follows the number in file names.
    fn suffix(self) -> &'static str {
        match self {
            Self::Png8 | Self::Png16 => ".png",
            Self::Exr(_) => ".exr",
        }
    }
}

fn encode(
    images: &Pictures<'_>,
    samples: &[f32],
    format: Format,
    texts: &[(&str, &str)],
) -> Result<Vec<u8>, NodeError> {
    let file = match format {
        Format::Png8 => encode_png(images.view(&to_levels_truncating(samples))?, texts, COMPRESS_LEVEL),
        Format::Png16 => {
            // `as` saturates and truncates towards zero.
            let levels: Vec<u16> = samples.iter().map(|sample| (65535.0 * sample) as u16).collect();
            encode_png_16(images.view(&levels)?, texts, COMPRESS_LEVEL)
        }
        Format::Exr(light) => {
            let (decode, primaries): (fn(f32) -> f32, _) = match light {
                Light::Srgb => (from_srgb, Primaries::Rec709),
                Light::Hlg => (from_hlg, Primaries::Rec2020),
                Light::Linear => (|sample| sample, Primaries::Rec709),
            };
            // The fourth channel is alpha, which is linear already.
            let is_alpha = |index: usize| images.channels == 4 && index % 4 == 3;
            let linear = samples
                .iter()
                .enumerate()
                .map(|(index, &sample)| if is_alpha(index) { sample } else { decode(sample) });
            encode_exr(images.view(&linear.collect::<Vec<f32>>())?, texts, primaries)
        }
    };
    file.map_err(imaging_error)
}

/// Linear light of an sRGB sample. Samples above 1 and below 0 go on along the same curves.
///
/// # Source
/// IEC 61966-2-1.
fn from_srgb(sample: f32) -> f32 {
    if sample <= 0.04045 { sample / 12.92 } else { ((sample + 0.055) / 1.055).powf(2.4) }
}

/// Scene light of an HLG sample.
///
/// # Source
/// ITU-R BT.2100, table 5, inverse OETF of HLG.
fn from_hlg(sample: f32) -> f32 {
    const A: f32 = 0.178_832_77;
    const B: f32 = 1.0 - 4.0 * A;
    // 0.5 - A ln(4 A)
    const C: f32 = 0.559_910_7;
    if sample <= 0.5 { sample * sample / 3.0 } else { (((sample - C) / A).exp() + B) / 12.0 }
}
