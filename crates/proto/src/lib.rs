//! gRPC messages generated from `proto/`, and their conversions to and from the types of `comfy-graph`.
//!
//! Architecture invariant: generated types stop here and at the edges of the services; the core never sees them.

pub mod convert;
pub mod status;

// The generated code refers to other packages by nesting, so the module tree follows the package names.
mod comfy {
    pub mod graph {
        pub mod v1 {
            tonic::include_proto!("comfy.graph.v1");
        }
    }
    pub mod stage {
        pub mod v1 {
            tonic::include_proto!("comfy.stage.v1");
        }
    }
    pub mod orchestrator {
        pub mod v1 {
            tonic::include_proto!("comfy.orchestrator.v1");
        }
    }
}

/// Messages of `comfy.graph.v1`.
pub use comfy::graph::v1 as graph;
/// Messages and services of `comfy.orchestrator.v1`.
pub use comfy::orchestrator::v1 as orchestrator;
/// Messages and services of `comfy.stage.v1`.
pub use comfy::stage::v1 as stage;

/// The largest message a service accepts: a workflow, a node catalog or a preview, never a tensor.
pub const MAX_MESSAGE_BYTES: usize = 64 << 20;
