//! What changes a run of the network without changing its weights.

use std::cell::RefCell;

use candle_core::Tensor;

use super::{ControlSignals, DeepShrink, FreeU, Grounding, HyperTileRun, UsedHypernetwork};
use crate::error::Result;

/// The changes of one run; none by default.
#[derive(Debug, Clone, Copy, Default)]
pub struct UnetChanges<'a> {
    /// Weights on the inputs of the ascending half, one after the other.
    pub free_u: &'a [FreeU],
    /// What attention looks at is changed by these, one after the other.
    pub hypernetworks: &'a [UsedHypernetwork],
    /// Where features are shrunk, one after the other.
    pub deep_shrink: &'a [DeepShrink],
    /// Cuts self-attention into tiles.
    pub hyper_tile: Option<&'a HyperTileRun>,
    /// What becomes of the middle block's self-attention.
    pub middle: MiddleAttention<'a>,
    /// Texts that belong to boxes of the picture.
    pub grounding: Option<&'a Grounding>,
    /// What control networks add to the features.
    pub control: Option<&'a ControlSignals>,
}

/// What becomes of control signals of another size than the features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    Refused,
    LeftOut,
}

/// What becomes of the self-attention in the middle of the network.
#[derive(Debug, Clone, Copy, Default)]
pub enum MiddleAttention<'a> {
    #[default]
    Plain,
    /// Every place looks at itself only.
    Identity,
    /// It is watched how much the first layer looks at each place.
    Watched(&'a AttentionMap),
}

/// How much attention every place of a feature map got, for each sample: `[B, places]` in f32.
///
/// The attention of a head sums to 1 for every place that looks, so the mean over all places is 1.
#[derive(Debug, Default)]
pub struct AttentionMap(RefCell<Option<Tensor>>);

impl AttentionMap {
    pub(super) fn put(&self, received: Tensor) {
        self.0.replace(Some(received));
    }

    /// Takes what the last run left here.
    pub fn take(&self) -> Option<Tensor> {
        self.0.take()
    }
}

/// Where a transformer stands in the network.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub changes: UnetChanges<'a>,
    /// Rows and columns of the latent.
    pub latent: [usize; 2],
    /// Channels of the first level.
    pub first_width: usize,
    pub middle: bool,
    /// How many transformers come before it.
    pub transformer: usize,
}

impl UnetChanges<'_> {
    /// Shrinks what a block of the descending half gives, before or after it is handed over.
    pub(super) fn shrink(&self, block: usize, after_skip: bool, h: Tensor) -> Result<Tensor> {
        self.deep_shrink.iter().try_fold(h, |h, shrink| shrink.shrink(block, after_skip, h))
    }

    /// What control networks add, and what is to be done where it does not fit.
    ///
    /// Control networks know nothing of features that were shrunk, so they do not reach these.
    pub(super) fn control(&self) -> Option<(&ControlSignals, Unfit)> {
        self.control.map(|control| {
            (control, if self.deep_shrink.is_empty() { Unfit::Refused } else { Unfit::LeftOut })
        })
    }

    /// Returns what keys and values are made of, for attention to `source`.
    pub(super) fn sources(&self, source: &Tensor) -> Result<[Tensor; 2]> {
        let mut both = [source.clone(), source.clone()];
        for used in self.hypernetworks {
            both = used.apply(both)?;
        }
        Ok(both)
    }
}
