//! Weight files: reading them safely, telling what is in them, loading tensors from them.

mod config;
mod detect;
mod header;
mod text_config;
mod weights;

pub(crate) use config::NORM_GROUPS;
pub use config::{Heads, InputBlock, OutputBlock, ResidualBlock, UnetConfig, VaeConfig};
pub use detect::{Detection, detect};
pub use header::{CheckpointHeader, HeaderProblem, TensorInfo};
pub use text_config::{ClipConfig, ClipLayout, Projection};
pub use weights::{LoadCounter, Target, WeightFile, Weights};
