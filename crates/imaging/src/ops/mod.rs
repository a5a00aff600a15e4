//! What nodes do to the samples of a picture, in f32.
//!
//! ImageMagick is not used here: its operators work on 16-bit integers, so every step of a workflow would lose what
//! ComfyUI keeps, and its kernels, borders and thresholds are others. Each function is plain Rust with ComfyUI's
//! numbers instead.

mod blend;
mod canny;
mod dither;
mod gaussian;
mod median_cut;
mod morphology;
mod porter_duff;
mod quantize;

pub use blend::BlendMode;
pub use canny::canny;
pub use dither::Dither;
pub use gaussian::{blur, sharpen};
pub use morphology::{Extreme, cross_step, square};
pub use porter_duff::{PorterDuff, Shade};
pub use quantize::quantize;
