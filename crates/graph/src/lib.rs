//! The domain core of Comfy Services: sockets, node specs, workflow readers, validation, cache keys, the planner
//! and the job state machine.
//!
//! Architecture invariant: this crate does no IO, is not async and knows neither gRPC nor candle. Everything in it
//! is a pure function or a state machine that returns the effects it wants.

pub mod artifact;
pub mod cache_key;
pub mod catalog;
pub mod dynamic;
pub mod error;
pub mod event;
pub mod expansion;
pub mod graph;
pub mod literal;
pub mod object_info;
pub mod plan;
pub mod run;
pub mod spec;
#[cfg(test)]
mod testing;
pub mod validate;
pub mod value;
pub mod workflow;

pub use artifact::{ArtifactRef, DType, Digest, Media};
pub use cache_key::{CacheKey, cache_keys};
pub use catalog::{Catalog, CatalogNode};
pub use dynamic::{DYNAMIC_COMBO, DynamicOption};
pub use error::ErrorCode;
pub use event::{CachedNode, JobError, JobEvent, JobEventKind, JobStatus, NodeMemory, NodeRef};
pub use expansion::{ExpandedInput, ExpandedNode, Expansion};
pub use graph::{Input, Link, NodeId, ValidGraph, ValidNode};
pub use literal::Literal;
pub use plan::{NodeResult, Plan, plan};
pub use spec::{ComboOption, InputGroup, InputSpec, Mentions, NodeSpec, OutputSpec, Widget};
pub use validate::{NodeError, NodeErrors, PromptError, Validation, validate};
pub use value::Value;
pub use workflow::{ApiGraph, ApiNode, WorkflowError};
