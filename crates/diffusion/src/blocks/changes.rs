//! What changes a run of the network without changing its weights.

use super::{ControlSignals, FreeU};

/// The changes of one run; none by default.
#[derive(Debug, Clone, Copy, Default)]
pub struct UnetChanges<'a> {
    /// Weights on the inputs of the ascending half, one after the other.
    pub free_u: &'a [FreeU],
    /// What control networks add to the features.
    pub control: Option<&'a ControlSignals>,
}
