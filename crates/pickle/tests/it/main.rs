//! Files of PyTorch give PyTorch's values; damaged and hostile files give errors.

// The allowances of clippy.toml reach test functions only, not the helpers that they share.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod archive;
mod command;
mod damaged;
mod fixtures;
mod hostile;
mod random;
