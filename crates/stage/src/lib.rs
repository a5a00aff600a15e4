//! The stage kit: write nodes, get a stage service.
//!
//! A node is one [`Node`]: what it takes and gives ([`comfy_graph::NodeSpec`]) and what it does, in one place. A
//! stage is a slice of nodes, some shared state and a name; [`StageServer`] makes the gRPC service of it.
//!
//! Architecture invariant: a stage keeps nothing between calls that it could not lose. Everything that counts is in
//! the artifact volume or in the answer.

pub mod codec;
pub mod ctx;
pub mod data;
pub mod fn_node;
pub mod inputs;
pub mod lists;
mod memory;
pub mod node;
pub mod runner;
pub mod server;

pub use ctx::Ctx;
pub use data::{ClipVisionOutput, Conditioning, ConditioningEntry, Data, Guider, Latent};
pub use fn_node::{FnNode, LazyNode};
pub use inputs::Inputs;
pub use node::{ExpandedInput, ExpandedNode, Expansion, Node, NodeError, Outputs, StageState};
pub use server::StageServer;
