//! Stable Diffusion 1.x: facts of its training that the weights do not tell.

/// Latents are multiplied by this after encoding, so that their spread is about one.
pub const LATENT_SCALE: f64 = 0.18215;
/// Channels of a latent.
pub const LATENT_CHANNELS: usize = 4;
/// Image pixels per latent cell along one side.
pub const DOWNSCALE: usize = 8;
