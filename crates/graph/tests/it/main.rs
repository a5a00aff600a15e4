//! Black-box tests of the graph crate against figures recorded from ComfyUI.

mod cache_keys;
mod object_info;
mod specs;
mod ui_workflows;
mod validation;
mod workflows;
