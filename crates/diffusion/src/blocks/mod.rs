//! Network parts, written once and configured by data: shapes come from the file, names from its key layout.

mod attention;
mod changes;
mod clip_layer;
mod control_signals;
mod deep_shrink;
mod descent;
mod embedder;
mod free_u;
mod gligen;
mod hyper_tile;
mod hypernetwork;
mod layers;
mod maps;
mod residual;
mod timestep;
mod transformer;
mod unet;

pub(crate) use attention::{AttentionPrecision, Mask, attention};
pub use changes::{AttentionMap, MiddleAttention, UnetChanges};
pub(crate) use clip_layer::{Activation, ClipLayer, ClipLayerShape};
pub use control_signals::ControlSignals;
pub use deep_shrink::DeepShrink;
pub(crate) use descent::{Descent, DescentInputs};
pub use free_u::FreeU;
pub use gligen::{Gligen, GroundedBox, Grounding};
pub use hyper_tile::{HyperTile, HyperTileRun};
pub use hypernetwork::{Hypernetwork, UsedHypernetwork};
pub(crate) use layers::{Conv2d, ConvShape, GroupNorm, LayerNorm, Linear};
pub(crate) use maps::{add, each, enlarge, join, to_map, to_tokens};
pub(crate) use residual::{Residual, ResidualNames};
pub(crate) use timestep::timestep_embedding;
pub(crate) use transformer::{SpatialTransformer, TransformerShape};
pub use unet::Unet;
