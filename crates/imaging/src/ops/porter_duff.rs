//! Porter-Duff composition and its relatives, on colours that are multiplied by their opacity.

use std::str::FromStr;

use crate::error::{ImagingError, Result};

/// Opacity below which a result has no colour.
const TRANSPARENT: f32 = 1e-5;

/// A colour sample that is multiplied by its opacity, and the opacity.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shade {
    pub colour: f32,
    pub opacity: f32,
}

impl Shade {
    /// Multiplies a plain colour sample by its opacity.
    pub fn premultiplied(colour: f32, opacity: f32) -> Self {
        Self { colour: colour * opacity, opacity }
    }

    /// Returns the plain colour sample in 0..=1; black where nothing is.
    pub fn plain(self) -> f32 {
        if self.opacity > TRANSPARENT { (self.colour / self.opacity).clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// A way to combine a source with a destination.
#[derive(Debug, Clone, Copy)]
pub struct PorterDuff {
    name: &'static str,
    combine: fn(Shade, Shade) -> Shade,
}

fn shade(colour: f32, opacity: f32) -> Shade {
    Shade { colour, opacity }
}

/// The opacity of two layers that both show.
fn union(s: Shade, d: Shade) -> f32 {
    s.opacity + d.opacity - s.opacity * d.opacity
}

/// What shows of a layer where the other does not cover it, plus `shared` where both are.
fn shared(s: Shade, d: Shade, shared: f32) -> Shade {
    shade((1.0 - d.opacity) * s.colour + (1.0 - s.opacity) * d.colour + shared, union(s, d))
}

fn overlay(s: Shade, d: Shade) -> Shade {
    let colour = if 2.0 * d.colour < d.opacity {
        2.0 * s.colour * d.colour
    } else {
        // The differences are crossed over in ComfyUI as well.
        s.opacity * d.opacity - 2.0 * (d.opacity - s.colour) * (s.opacity - d.colour)
    };
    shade(colour, union(s, d))
}

/// A layer scaled as a whole.
fn scaled(layer: Shade, factor: f32) -> Shade {
    shade(layer.colour * factor, layer.opacity * factor)
}

fn sum(a: Shade, b: Shade) -> Shade {
    shade(a.colour + b.colour, a.opacity + b.opacity)
}

const fn mode(name: &'static str, combine: fn(Shade, Shade) -> Shade) -> PorterDuff {
    PorterDuff { name, combine }
}

impl PorterDuff {
    /// Every mode, in ComfyUI's order.
    pub const ALL: [Self; 18] = [
        mode("ADD", |s, d| {
            shade((s.colour + d.colour).clamp(0.0, 1.0), (s.opacity + d.opacity).clamp(0.0, 1.0))
        }),
        mode("CLEAR", |_, _| shade(0.0, 0.0)),
        mode("DARKEN", |s, d| shared(s, d, s.colour.min(d.colour))),
        mode("DST", |_, d| d),
        mode("DST_ATOP", |s, d| shade(s.opacity * d.colour + (1.0 - d.opacity) * s.colour, s.opacity)),
        mode("DST_IN", |s, d| scaled(d, s.opacity)),
        mode("DST_OUT", |s, d| scaled(d, 1.0 - s.opacity)),
        mode("DST_OVER", |s, d| sum(d, scaled(s, 1.0 - d.opacity))),
        mode("LIGHTEN", |s, d| shared(s, d, s.colour.max(d.colour))),
        mode("MULTIPLY", |s, d| shade(s.colour * d.colour, s.opacity * d.opacity)),
        mode("OVERLAY", overlay),
        mode("SCREEN", |s, d| shade(s.colour + d.colour - s.colour * d.colour, union(s, d))),
        mode("SRC", |s, _| s),
        mode("SRC_ATOP", |s, d| shade(d.opacity * s.colour + (1.0 - s.opacity) * d.colour, d.opacity)),
        mode("SRC_IN", |s, d| scaled(s, d.opacity)),
        mode("SRC_OUT", |s, d| scaled(s, 1.0 - d.opacity)),
        mode("SRC_OVER", |s, d| sum(s, scaled(d, 1.0 - s.opacity))),
        mode("XOR", |s, d| sum(scaled(s, 1.0 - d.opacity), scaled(d, 1.0 - s.opacity))),
    ];

    /// Returns ComfyUI's name.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Combines one sample of the source with one of the destination.
    pub fn apply(self, source: Shade, destination: Shade) -> Shade {
        (self.combine)(source, destination)
    }
}

impl FromStr for PorterDuff {
    type Err = ImagingError;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|mode| mode.name == name).ok_or_else(|| ImagingError::InvalidArgument {
            name: "mode",
            found: name.to_owned(),
            expected: "a Porter-Duff mode such as `SRC_OVER`, `DST_IN` or `XOR`",
        })
    }
}
