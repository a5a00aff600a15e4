//! Reads, writes and resizes pictures: PNG, JPEG and WebP through ImageMagick 7, numbers as ComfyUI has them.
//!
//! Bytes from strangers pass three gates: [`probe`] parses the header in Rust and applies [`Limits`] before any
//! decoder sees the file, ImageMagick runs under resource limits set in code, and the deployed `policy.xml` refuses
//! every other coder ([`policy_is_strict`] checks that at start-up).
//!
//! What ImageMagick does here is decoding, orientation and encoding. Resizing ([`resize`]) and what nodes do to samples
//! ([`ops`]) are plain Rust.

mod animation;
mod decode;
mod encode;
mod error;
mod exr;
mod header;
mod limits;
mod magick;
pub mod ops;
mod pixels;
mod png_chunks;
pub mod resize;

pub use animation::{FrameDelay, encode_animated_png, encode_animated_webp};
pub use decode::{DecodedImage, Frame, decode};
pub use encode::{WebpOptions, encode_jpeg, encode_png, encode_png_16, encode_webp, encode_webp_with};
pub use error::{ImagingError, Result};
pub use exr::{Primaries, encode_exr};
pub use header::{Format, ImageInfo, probe};
pub use limits::Limits;
pub use magick::policy_is_strict;
pub use pixels::{Channels, PixelView, Pixels, invert, to_levels_truncating};
pub use png_chunks::read_png_text;
pub use resize::{Crop, Resize, ResizeMethod, resize, scaled_size};
