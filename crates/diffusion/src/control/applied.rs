//! Control networks at work: what each is shown, how strongly it counts, and what they say together.

use std::sync::{Arc, Mutex};

use candle_core::Tensor;

use super::hint::{self, DOWNSCALE};
use super::{ControlNetwork, Network};
use crate::blocks::ControlSignals;
use crate::error::{Error, Result};

/// How a control network is used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ControlOptions {
    /// Factor of everything that the network says.
    pub strength: f64,
    /// Share of the run at which the network starts and ends to count.
    pub start_percent: f64,
    pub end_percent: f64,
    /// Which kind of picture a union ControlNet is told to look at.
    pub kind: Option<usize>,
    /// Whether only the mean of each feature map counts, for networks that are not to say what is where.
    pub mean_only: bool,
}

impl Default for ControlOptions {
    fn default() -> Self {
        Self { strength: 1.0, start_percent: 0.0, end_percent: 1.0, kind: None, mean_only: false }
    }
}

/// A control network with the pictures it is shown.
#[derive(Debug)]
pub struct ControlUse {
    network: Arc<ControlNetwork>,
    pictures: Tensor,
    options: ControlOptions,
    /// What depends on the pictures alone, for the size that was last asked for.
    seen: Mutex<Option<Seen>>,
}

#[derive(Debug, Clone)]
struct Seen {
    latent: [usize; 2],
    batch: usize,
    what: What,
}

#[derive(Debug, Clone)]
enum What {
    /// Where a ControlNet starts from.
    Guide(Tensor),
    /// All that an adapter says.
    Signals(ControlSignals),
}

/// One call of a UNet, as control networks see it.
pub(crate) struct ControlCall<'a> {
    /// The scaled latents, without channels that a family puts behind them.
    pub x: &'a Tensor,
    pub timesteps: &'a Tensor,
    pub context: &'a Tensor,
    pub vector: Option<&'a Tensor>,
}

impl ControlUse {
    /// Shows pictures to a control network.
    ///
    /// # Shapes
    /// `pictures` is `[N, C, H, W]` in 0..=1, of any size.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] on another shape, a figure that is not finite, or a kind that the network does not
    /// know.
    pub fn new(network: Arc<ControlNetwork>, pictures: &Tensor, options: ControlOptions) -> Result<Self> {
        let ControlOptions { strength, start_percent, end_percent, kind, .. } = options;
        if ![strength, start_percent, end_percent].into_iter().all(f64::is_finite) {
            return Err(Error::InvalidArgument(format!(
                "strength, start and end of a control network are finite, got {strength}, {start_percent} and {end_percent}"
            )));
        }
        if let Network::ControlNet(network) = &network.network {
            network.check_kind(kind)?;
        }
        let pictures = hint::checked(pictures)?.to_device(&network.device)?;
        Ok(Self { network, pictures, options, seen: Mutex::default() })
    }

    pub fn options(&self) -> &ControlOptions {
        &self.options
    }

    /// What the network says to a call of the UNet whose rows are whole batches of `batch`.
    fn signals(&self, call: &ControlCall<'_>, batch: usize) -> Result<ControlSignals> {
        let (rows, _, height, width) = call.x.dims4()?;
        let signals = match self.seen([height, width], batch)? {
            What::Guide(guide) => {
                let Network::ControlNet(network) = &self.network.network else {
                    return Err(Error::InvalidArgument("an adapter has no guide".into()));
                };
                network.forward(call, &repeated(&guide, rows)?, self.options.kind)?
            }
            What::Signals(signals) => signals.map(|signal| repeated(signal, rows))?,
        };
        let ControlOptions { strength, mean_only, .. } = self.options;
        signals.map(|signal| {
            let signal = if mean_only {
                signal.mean_keepdim((2, 3))?.broadcast_as(signal.shape())?
            } else {
                signal.clone()
            };
            if strength == 1.0 { Ok(signal) } else { signal.affine(strength, 0.0) }
        })
    }

    fn seen(&self, latent: [usize; 2], batch: usize) -> Result<What> {
        let mut seen = self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(seen) = seen.as_ref().filter(|seen| seen.latent == latent && seen.batch == batch) {
            return Ok(seen.what.clone());
        }
        let what = match &self.network.network {
            Network::ControlNet(network) => {
                let pictures = hint::with_channels(&self.pictures, network.picture_channels())?;
                let fitted = hint::fit(&pictures, batch, latent.map(|side| side * DOWNSCALE))?;
                What::Guide(network.guide(&fitted, self.options.kind)?)
            }
            Network::Adapter(adapter) => {
                let channels = adapter.picture_channels();
                // Adapters for sketches take grey pictures.
                let pictures = match channels {
                    1 => self.pictures.mean_keepdim(1)?,
                    _ => hint::with_channels(&self.pictures, channels)?,
                };
                let fitted = hint::fit(&pictures, batch, adapter.picture_size(latent))?;
                What::Signals(adapter.forward(&fitted, self.network.dtype)?)
            }
        };
        *seen = Some(Seen { latent, batch, what: what.clone() });
        Ok(what)
    }
}

/// Repeats a batch up to a number of rows; a single row is left to be broadcast.
fn repeated(tensor: &Tensor, rows: usize) -> candle_core::Result<Tensor> {
    match tensor.dim(0)? {
        given if given == 1 || given == rows => Ok(tensor.clone()),
        given => tensor.repeat((rows / given, 1, 1, 1)),
    }
}

/// The control networks that count in a call of the UNet.
#[derive(Debug, Clone)]
pub struct AppliedControl {
    /// One after the other; what they say adds up.
    pub uses: Vec<Arc<ControlUse>>,
    /// Samples that each prompt of the call is for.
    pub batch: usize,
}

impl AppliedControl {
    /// What all of them say.
    pub(crate) fn signals(&self, call: &ControlCall<'_>) -> Result<ControlSignals> {
        let mut sum = ControlSignals::default();
        for used in &self.uses {
            sum = sum.plus(used.signals(call, self.batch)?)?;
        }
        Ok(sum)
    }
}
