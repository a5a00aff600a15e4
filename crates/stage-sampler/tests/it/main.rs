//! Black-box tests: groups of nodes sent to a running stage with a small random checkpoint.

// The allowances of clippy.toml reach test functions only, not the helpers that they share.
#![allow(clippy::unwrap_used)]

#[path = "../../../diffusion/tests/it/scattered.rs"]
mod scattered;

mod conditioning;
mod control;
mod custom_sampling;
mod latents;
mod model_sampling;
mod network_files;
mod stage;
mod vision;
