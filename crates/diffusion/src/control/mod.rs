//! Control networks: they look at a picture and tell a UNet what to draw where.
//!
//! Three kinds of file make one: ControlNets (a copy of the descending half of the UNet, in the single-file or the
//! diffusers layout, whole, as a difference or as low-rank factors; some know several kinds of picture) and
//! T2I-adapters (a small network that sees only the picture).

mod adapter;
mod applied;
mod hint;
mod layout;
mod network;
mod union;

use std::path::Path;

use candle_core::{DType, Device};

use crate::blocks::AttentionPrecision;
use crate::changes::{ModelSource, OpenModel, Patches};
use crate::checkpoint::control_names::CONTROL_PREFIX;
use crate::checkpoint::{CheckpointHeader, Join, LoadCounter, Target, UnetConfig, WeightFile, Weights};
use crate::error::{Error, Result};
use adapter::T2iAdapter;
pub(crate) use applied::ControlCall;
pub use applied::{AppliedControl, ControlOptions, ControlUse};
pub use layout::ControlKind;
use layout::ControlLayout;
use network::ControlNet;

const PART: &str = "control network";

/// A loaded control network.
#[derive(Debug)]
pub struct ControlNetwork {
    network: Network,
    device: Device,
    dtype: DType,
    weight_bytes: u64,
}

#[derive(Debug)]
enum Network {
    ControlNet(Box<ControlNet>),
    Adapter(T2iAdapter),
}

impl ControlNetwork {
    /// What kind of control network a file with this header holds.
    ///
    /// # Errors
    /// The reason why it holds none, fit for a user.
    pub fn kind(header: &CheckpointHeader) -> Result<ControlKind, String> {
        ControlLayout::read(header).map(|layout| layout.kind())
    }

    /// Loads a control network; `base`, the model whose weights it is a change of, is needed for the kinds that say so.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the file holds none, or none that fits `base`; otherwise what reading it gives.
    pub fn load(path: &Path, device: &Device, dtype: DType, base: Option<&ModelSource>) -> Result<Self> {
        let file = WeightFile::open(path)?;
        let refused = |reason: String| Error::Unsupported { path: path.into(), part: PART, reason };
        let layout = ControlLayout::read(file.header()).map_err(refused)?;
        let base = match (layout.kind().needs_base(), base) {
            (false, _) => None,
            (true, Some(base)) => Some(base),
            (true, None) => {
                let reason = "it holds changes to the weights of a model, so it is loaded with one";
                return Err(refused(reason.into()));
            }
        };
        let base = base.map(ModelSource::open).transpose()?;
        let counter = LoadCounter::default();
        let target = Target { device: device.clone(), dtype, patches: Patches::default() };
        let weights = Weights::new(&file, &target, &counter, layout.prefix());
        let network = match (layout, &base) {
            (ControlLayout::Adapter(layout), _) => Network::Adapter(T2iAdapter::load(&weights, layout)?),
            (ControlLayout::Network(layout), None) => {
                Network::ControlNet(Box::new(ControlNet::load(&weights, layout, dtype)?))
            }
            (ControlLayout::Network(layout), Some(base)) => load_over(base, &target, |base| {
                ControlNet::load(&weights.clone().over(base, Join::Sum), layout, dtype)
            })?,
            (ControlLayout::LowRank(layout), Some(base)) => {
                let layout = layout.on(base.config.clone(), file.header()).map_err(refused)?;
                load_over(base, &target, |base| {
                    ControlNet::load(&weights.clone().over(base, Join::LowRank), layout, dtype)
                })?
            }
            (ControlLayout::LowRank(_), None) => return Err(refused("it needs a model".into())),
        };
        Ok(Self { network, device: device.clone(), dtype, weight_bytes: counter.bytes() })
    }

    /// Memory that the weights take.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// How many kinds of picture a union ControlNet knows; `None` for all others.
    pub fn picture_kinds(&self) -> Option<usize> {
        match &self.network {
            Network::ControlNet(network) => network.picture_kinds(),
            Network::Adapter(_) => None,
        }
    }

    /// Checks that the network was made for a UNet of this layout.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with the difference.
    pub fn check(&self, unet: &UnetConfig) -> Result<()> {
        let difference = match &self.network {
            Network::ControlNet(network) => layout::difference(network.config(), unet),
            Network::Adapter(adapter) => adapter.difference(unet),
        };
        match difference {
            None => Ok(()),
            Some(difference) => Err(Error::InvalidArgument(format!(
                "the control network is for another kind of model: {difference}"
            ))),
        }
    }
}

/// Loads a ControlNet with the weights of a diffusion model at hand.
fn load_over(
    base: &OpenModel,
    target: &Target,
    load: impl FnOnce(&Weights<'_>) -> Result<ControlNet>,
) -> Result<Network> {
    let target = Target { patches: base.patches.clone(), ..target.clone() };
    let counter = LoadCounter::default();
    let weights = Weights::new(&base.file, &target, &counter, UnetConfig::PREFIX).stored_as(base.stored_as);
    load(&weights).map(Box::new).map(Network::ControlNet)
}

/// As the UNet of the same family: those with linear projections and no vector are Stable Diffusion 2.
fn precision(config: &UnetConfig) -> AttentionPrecision {
    match config.linear_projections && config.adm_channels.is_none() {
        true => AttentionPrecision::F32,
        false => AttentionPrecision::Weights,
    }
}
