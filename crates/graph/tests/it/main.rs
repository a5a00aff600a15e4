//! Black-box tests of the graph crate against figures recorded from ComfyUI.

#![allow(clippy::unwrap_used, reason = "a test that unwraps nothing fails, as it should")]

mod cache_keys;
mod dynamic_combos;
mod object_info;
mod specs;
mod ui_workflows;
mod validation;
mod workflows;
