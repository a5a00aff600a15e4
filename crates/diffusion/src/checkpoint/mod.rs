//! Weight files: reading them safely, telling what is in them, loading tensors from them.

mod config;
pub(crate) mod control_names;
mod detect;
mod float8;
mod header;
pub(crate) mod names;
mod text_config;
mod weights;

pub use config::{Heads, InputBlock, OutputBlock, ResidualBlock, UnetConfig, VaeConfig};
pub(crate) use config::{NORM_GROUPS, Shapes};
pub use detect::{Detection, detect};
pub use float8::Float8;
pub use header::{CheckpointHeader, HeaderProblem, TensorInfo};
pub use text_config::{ClipConfig, ClipLayout, Projection};
pub(crate) use weights::Join;
pub use weights::{LoadCounter, Target, WeightFile, Weights};
