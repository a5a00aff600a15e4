//! Texts that belong to boxes of a latent.

use std::sync::Arc;

use candle_core::Tensor;

use super::error::{Result, SamplingError};
use crate::blocks::{Gligen, GroundedBox, Grounding};

/// The boxes of a prompt and the layers that make the network follow them.
#[derive(Debug, Clone)]
pub struct GroundedText {
    pub gligen: Arc<Gligen>,
    pub boxes: Vec<BoxPlace>,
}

/// A text and its rectangle of the latent, in latent pixels; it may reach beyond the latent.
#[derive(Debug, Clone)]
pub struct BoxPlace {
    /// Pooled text, `[1,D]`.
    pub text: Tensor,
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

impl GroundedText {
    /// Brings the boxes to a latent of known size.
    pub(super) fn place(&self, width: usize, height: usize) -> Result<Grounding> {
        let share = |at: u32, side: usize| (f64::from(at) / side as f64) as f32;
        let boxes: Vec<GroundedBox> = self
            .boxes
            .iter()
            .map(|place| GroundedBox {
                text: place.text.clone(),
                left: share(place.x, width),
                top: share(place.y, height),
                right: share(place.x.saturating_add(place.width), width),
                bottom: share(place.y.saturating_add(place.height), height),
            })
            .collect();
        let objects = self
            .gligen
            .objects(&boxes)
            .map_err(|error| SamplingError::invalid("boxes of the conditioning", error.to_string()))?;
        Ok(Grounding { gligen: self.gligen.clone(), objects })
    }
}
