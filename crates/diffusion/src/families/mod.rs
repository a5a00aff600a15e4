//! Model families: what a network's shape does not say about how it was trained.

pub mod sd1;

use std::fmt;

/// A line of models that share layout and training conventions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Family {
    Sd1,
    Sd1Inpaint,
    Sd1InstructPix2Pix,
    Sd2,
    Sd2Inpaint,
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
    /// The family is known, but running it is not built yet.
    NotYet,
    Unknown,
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
            Self::Sdxl => "sdxl",
            Self::SdxlInpaint => "sdxl-inpaint",
            Self::SdxlInstructPix2Pix => "sdxl-instruct-pix2pix",
            Self::SdxlRefiner => "sdxl-refiner",
            Self::Unknown { .. } => "unknown",
        }
    }

    pub fn support(&self) -> Support {
        match self {
            Self::Sd1 => Support::Supported,
            Self::Unknown { .. } => Support::Unknown,
            _ => Support::NotYet,
        }
    }

    /// Why the family cannot be run, or `None` if it can.
    pub fn refusal(&self) -> Option<String> {
        match (self.support(), self) {
            (Support::Supported, _) => None,
            (_, Self::Unknown { reason }) => Some(reason.clone()),
            _ => Some(format!("{self} was detected, but it is not supported yet")),
        }
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
            Self::Sdxl => "Stable Diffusion XL",
            Self::SdxlInpaint => "Stable Diffusion XL inpainting",
            Self::SdxlInstructPix2Pix => "Stable Diffusion XL InstructPix2Pix",
            Self::SdxlRefiner => "Stable Diffusion XL refiner",
            Self::Unknown { .. } => "an unknown kind of file",
        })
    }
}
