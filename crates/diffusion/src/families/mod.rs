//! Model families: what a network's shape does not say about how it was trained.

mod extras;
pub mod sd1;
pub(crate) mod sd2;
pub mod sdxl;
mod unclip;

use std::fmt;

use crate::checkpoint::{ClipLayout, WeightFile};
use crate::error::Result;
use crate::sampling::{NoiseSchedule, Prediction};

pub use extras::{ExtraInputs, Extras, Side, Start};
pub use unclip::{NoiseAugmentation, SeenPictures};

/// A line of models that share layout and training conventions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Family {
    Sd1,
    Sd1Inpaint,
    Sd1InstructPix2Pix,
    Sd2,
    Sd2Inpaint,
    /// Conditioned on pictures as well.
    Sd2Unclip,
    Sdxl,
    SdxlInpaint,
    SdxlInstructPix2Pix,
    SdxlRefiner,
    /// Not a checkpoint of a family known here; the reason is fit for showing to a user.
    Unknown {
        reason: String,
    },
}

/// Whether a detected file can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    Supported,
    Unknown,
}

/// A text encoder of a family and how its output is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextPart {
    /// What other programs call the encoder, in names of embeddings and of saved files: `clip_l`, `clip_h`, `clip_g`.
    pub name: &'static str,
    /// Where files keep it, the most usual place first.
    pub prefixes: &'static [&'static str],
    pub layout: ClipLayout,
    /// The token that fills a chunk up after its end.
    pub padding: u32,
    /// The layer that the family was trained with, counted from the end: -1 is the last.
    pub layer: i64,
    /// Whether the encoder's final norm is applied to that layer.
    pub norm: bool,
}

/// The vector that a family is conditioned on besides the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VectorInput {
    None,
    /// The pooled text and the sizes of the picture.
    Sizes,
    /// The pooled text, the sizes of the picture and an aesthetic score.
    SizesAndScore,
    /// Pictures as an image encoder saw them, blurred by noise.
    Pictures,
}

/// What a family takes as further channels of the latent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConcatInput {
    None,
    /// A mask and the latent of the picture without its masked part.
    MaskAndImage,
    /// The latent of the picture to change.
    Image,
}

/// Above the highest noise level of every family that keeps something of the picture.
const ORDINARY_SIGMA_MAX: f32 = 1000.0;

/// A network's target and the noise levels it was trained on.
#[derive(Debug, Clone)]
pub struct Training {
    pub prediction: Prediction,
    pub schedule: NoiseSchedule,
}

impl Training {
    /// Whether the highest level is nothing but noise.
    pub(crate) fn has_zero_terminal_snr(&self) -> bool {
        self.schedule.sigma_max() > ORDINARY_SIGMA_MAX
    }
}

impl Family {
    /// A short, stable name for listings.
    pub fn id(&self) -> &'static str {
        match self {
            Self::Sd1 => "sd1",
            Self::Sd1Inpaint => "sd1-inpaint",
            Self::Sd1InstructPix2Pix => "sd1-instruct-pix2pix",
            Self::Sd2 => "sd2",
            Self::Sd2Inpaint => "sd2-inpaint",
            Self::Sd2Unclip => "sd2-unclip",
            Self::Sdxl => "sdxl",
            Self::SdxlInpaint => "sdxl-inpaint",
            Self::SdxlInstructPix2Pix => "sdxl-instruct-pix2pix",
            Self::SdxlRefiner => "sdxl-refiner",
            Self::Unknown { .. } => "unknown",
        }
    }

    pub fn support(&self) -> Support {
        match self {
            Self::Unknown { .. } => Support::Unknown,
            _ => Support::Supported,
        }
    }

    /// Why the family cannot be run, or `None` if it can.
    pub fn refusal(&self) -> Option<String> {
        match self {
            Self::Unknown { reason } => Some(reason.clone()),
            _ => None,
        }
    }

    /// True for Stable Diffusion XL in all its variants.
    pub fn is_sdxl(&self) -> bool {
        use Family::{Sdxl, SdxlInpaint, SdxlInstructPix2Pix, SdxlRefiner};
        matches!(self, Sdxl | SdxlInpaint | SdxlInstructPix2Pix | SdxlRefiner)
    }

    /// The text encoders, in the order their outputs are joined.
    ///
    /// A file of no known family may still hold a text encoder alone, which is CLIP-L.
    pub fn text(&self) -> &'static [TextPart] {
        match self {
            Self::Sd2 | Self::Sd2Inpaint | Self::Sd2Unclip => &sd2::TEXT,
            Self::Sdxl | Self::SdxlInpaint | Self::SdxlInstructPix2Pix => &sdxl::TEXT,
            Self::SdxlRefiner => &sdxl::REFINER_TEXT,
            Self::Sd1 | Self::Sd1Inpaint | Self::Sd1InstructPix2Pix | Self::Unknown { .. } => &sd1::TEXT,
        }
    }

    /// Factor between the latents that samplers work on and those of the autoencoder.
    pub fn latent_scale(&self) -> f64 {
        if self.is_sdxl() { sdxl::LATENT_SCALE } else { sd1::LATENT_SCALE }
    }

    /// Whether attention is computed in f32 whatever the weights' type, because shorter numbers overflow.
    pub(crate) fn needs_f32_attention(&self) -> bool {
        matches!(self, Self::Sd2 | Self::Sd2Inpaint | Self::Sd2Unclip)
    }

    pub fn vector_input(&self) -> VectorInput {
        match self {
            Self::Sdxl | Self::SdxlInpaint | Self::SdxlInstructPix2Pix => VectorInput::Sizes,
            Self::SdxlRefiner => VectorInput::SizesAndScore,
            Self::Sd2Unclip => VectorInput::Pictures,
            _ => VectorInput::None,
        }
    }

    pub fn concat_input(&self) -> ConcatInput {
        match self {
            Self::Sd1Inpaint | Self::Sd2Inpaint | Self::SdxlInpaint => ConcatInput::MaskAndImage,
            Self::Sd1InstructPix2Pix | Self::SdxlInstructPix2Pix => ConcatInput::Image,
            _ => ConcatInput::None,
        }
    }

    /// Finds out what the network of a file was trained to predict, at which noise levels.
    pub(crate) fn training(&self, file: &WeightFile) -> Result<Training> {
        let (prediction, schedule) = match self {
            Self::Sd2 | Self::Sd2Unclip => (sd2::prediction(file)?, NoiseSchedule::sd15()),
            Self::Sdxl | Self::SdxlInpaint | Self::SdxlInstructPix2Pix => sdxl::prediction(file.header()),
            _ => (Prediction::Epsilon, NoiseSchedule::sd15()),
        };
        Ok(Training { prediction, schedule })
    }
}

impl fmt::Display for Family {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Sd1 => "Stable Diffusion 1",
            Self::Sd1Inpaint => "Stable Diffusion 1 inpainting",
            Self::Sd1InstructPix2Pix => "Stable Diffusion 1 InstructPix2Pix",
            Self::Sd2 => "Stable Diffusion 2",
            Self::Sd2Inpaint => "Stable Diffusion 2 inpainting",
            Self::Sd2Unclip => "Stable Diffusion 2.1 unCLIP",
            Self::Sdxl => "Stable Diffusion XL",
            Self::SdxlInpaint => "Stable Diffusion XL inpainting",
            Self::SdxlInstructPix2Pix => "Stable Diffusion XL InstructPix2Pix",
            Self::SdxlRefiner => "Stable Diffusion XL refiner",
            Self::Unknown { .. } => "an unknown kind of file",
        })
    }
}
