//! Text encoders in files of their own.

use std::fmt;

use crate::checkpoint::{CheckpointHeader, ClipConfig, ClipLayout};
use crate::families::{Family, TextPart};

/// Which of the published CLIP text transformers a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EncoderKind {
    /// OpenAI's ViT-L, 12 layers.
    ClipL,
    /// OpenCLIP's ViT-H, 24 layers.
    ClipH,
    /// OpenCLIP's ViT-bigG, 32 layers.
    ClipG,
}

impl fmt::Display for EncoderKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::ClipL => "CLIP-L",
            Self::ClipH => "CLIP-H",
            Self::ClipG => "CLIP-G",
        })
    }
}

impl EncoderKind {
    /// The families have other layers left out at the end, so a file tells by how many it has at least.
    ///
    /// # Source
    /// ComfyUI looks for the MLP of layer 30, then for that of layer 22.
    fn of_layers(layers: usize) -> Self {
        match layers {
            0..=22 => Self::ClipL,
            23..=30 => Self::ClipH,
            _ => Self::ClipG,
        }
    }
}

const HUGGING_FACE: &[&str] = &[
    "text_model.",
    "clip_l.transformer.text_model.",
    "clip_g.transformer.text_model.",
    "cond_stage_model.transformer.text_model.",
    "cond_stage_model.transformer.",
    "",
];
const OPEN_CLIP: &[&str] = &["cond_stage_model.model.", "model.", ""];

/// Tells which text encoder a file holds, and how it is named.
///
/// # Errors
/// Why the file holds none.
pub fn encoder_kind(header: &CheckpointHeader) -> Result<(EncoderKind, ClipLayout), String> {
    let place = |layout| place(layout, Family::Sd1.text()[0]);
    if let Ok(config) = ClipConfig::from_header(header, &place(ClipLayout::OpenClip)) {
        return Ok((EncoderKind::of_layers(config.layers), ClipLayout::OpenClip));
    }
    let config = ClipConfig::from_header(header, &place(ClipLayout::HuggingFace))?;
    let kind = EncoderKind::of_layers(config.layers);
    let layout =
        if kind == EncoderKind::ClipL { ClipLayout::HuggingFace } else { ClipLayout::HuggingFaceGelu };
    Ok((kind, layout))
}

/// A family's text encoder as it is found in a file of its own.
pub(crate) fn place(layout: ClipLayout, part: TextPart) -> TextPart {
    let prefixes = if layout == ClipLayout::OpenClip { OPEN_CLIP } else { HUGGING_FACE };
    TextPart { prefixes, layout, ..part }
}

/// The family whose text encoders these are, given in order of their kind.
///
/// # Errors
/// If no family takes these together.
pub(crate) fn family_of(kinds: &[EncoderKind]) -> Result<Family, String> {
    Ok(match kinds {
        [EncoderKind::ClipL] => Family::Sd1,
        [EncoderKind::ClipH] => Family::Sd2,
        [EncoderKind::ClipG] => Family::SdxlRefiner,
        [EncoderKind::ClipL, EncoderKind::ClipG] => Family::Sdxl,
        _ => {
            let found: Vec<String> = kinds.iter().map(ToString::to_string).collect();
            return Err(format!(
                "no model takes {} together, XL takes CLIP-L and CLIP-G",
                found.join(" and ")
            ));
        }
    })
}
