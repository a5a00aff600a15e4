//! Blend modes of two samples.

use std::str::FromStr;

use crate::error::{ImagingError, Result};

/// How a second picture is laid over a first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlendMode {
    Normal,
    Multiply,
    Screen,
    Overlay,
    SoftLight,
    Difference,
}

impl BlendMode {
    /// Every mode, in ComfyUI's order.
    pub const ALL: [Self; 6] =
        [Self::Normal, Self::Multiply, Self::Screen, Self::Overlay, Self::SoftLight, Self::Difference];

    /// Returns ComfyUI's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Multiply => "multiply",
            Self::Screen => "screen",
            Self::Overlay => "overlay",
            Self::SoftLight => "soft_light",
            Self::Difference => "difference",
        }
    }

    /// Blends one sample of the upper picture into one of the lower.
    pub fn apply(self, lower: f32, upper: f32) -> f32 {
        match self {
            Self::Normal => upper,
            Self::Multiply => lower * upper,
            Self::Screen => 1.0 - (1.0 - lower) * (1.0 - upper),
            Self::Overlay if lower <= 0.5 => 2.0 * lower * upper,
            Self::Overlay => 1.0 - 2.0 * (1.0 - lower) * (1.0 - upper),
            Self::SoftLight if upper <= 0.5 => lower - (1.0 - 2.0 * upper) * lower * (1.0 - lower),
            Self::SoftLight => lower + (2.0 * upper - 1.0) * (brightened(lower) - lower),
            Self::Difference => lower - upper,
        }
    }
}

/// The upper end of soft light: a polynomial near black, the square root above.
fn brightened(sample: f32) -> f32 {
    if sample <= 0.25 { ((16.0 * sample - 12.0) * sample + 4.0) * sample } else { sample.sqrt() }
}

impl FromStr for BlendMode {
    type Err = ImagingError;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name).ok_or_else(|| ImagingError::InvalidArgument {
            name: "blend_mode",
            found: name.to_owned(),
            expected: "one of `normal`, `multiply`, `screen`, `overlay`, `soft_light`, `difference`",
        })
    }
}
