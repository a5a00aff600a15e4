//! Ways to hide that a palette is small.

use std::str::FromStr;

use crate::error::{ImagingError, Result};

/// How the error of a palette is spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dither {
    None,
    FloydSteinberg,
    /// A threshold pattern with this many pixels a side.
    Bayer(u32),
}

impl Dither {
    /// Every choice, in ComfyUI's order.
    pub const ALL: [Self; 6] =
        [Self::None, Self::FloydSteinberg, Self::Bayer(2), Self::Bayer(4), Self::Bayer(8), Self::Bayer(16)];

    /// Returns ComfyUI's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::FloydSteinberg => "floyd-steinberg",
            Self::Bayer(2) => "bayer-2",
            Self::Bayer(4) => "bayer-4",
            Self::Bayer(8) => "bayer-8",
            Self::Bayer(_) => "bayer-16",
        }
    }
}

impl FromStr for Dither {
    type Err = ImagingError;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|dither| dither.name() == name).ok_or_else(|| {
            ImagingError::InvalidArgument {
                name: "dither",
                found: name.to_owned(),
                expected: "one of `none`, `floyd-steinberg`, `bayer-2`, `bayer-4`, `bayer-8`, `bayer-16`",
            }
        })
    }
}

/// The threshold pattern of a side that is a power of two: values around zero, one apart over the side squared.
pub(super) fn bayer_pattern(side: u32) -> Vec<Vec<f32>> {
    let mut pattern = vec![vec![0.0_f32]];
    let mut values = 1.0;
    while (pattern.len() as u32) < side {
        values *= 4.0;
        let quarter = |offset: f32| {
            let scaled = move |value: &f32| (value * values + offset) / values;
            pattern.iter().map(|row| row.iter().map(scaled).collect::<Vec<_>>()).collect::<Vec<_>>()
        };
        let beside = |left: Vec<Vec<f32>>, right: Vec<Vec<f32>>| {
            left.into_iter().zip(right).map(|(a, b)| [a, b].concat()).collect::<Vec<_>>()
        };
        let upper = beside(quarter(-1.5), quarter(0.5));
        let lower = beside(quarter(1.5), quarter(-0.5));
        pattern = [upper, lower].concat();
    }
    pattern
}
