//! Black-box tests: generated checkpoints against figures from ComfyUI.

// The allowances of clippy.toml reach test functions only, not the helpers that they share.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "../../../testkit/src/random_checkpoint/mod.rs"]
mod random_checkpoint;

mod adapters;
mod compare;
mod control;
mod determinism;
mod families;
mod full_size;
mod gligen;
mod hostile_files;
mod layouts;
mod merges;
mod models;
mod network_changes;
mod reference;
mod sample;
mod scattered;
mod text_files;
mod tiny;
mod tokens;
mod upscalers;
mod vision;
