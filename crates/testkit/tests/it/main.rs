//! The whole stack as real processes: workflow in, picture out, also when services are killed.

// Tests print the figures that TESTING.md lists.
#![allow(clippy::print_stdout)]

mod bad_input;
mod client;
mod cluster;
mod crashes;
mod families;
mod faults;
mod hostile_pictures;
mod main_job;
mod model_files;
mod node_list;
mod pictures;
mod starter;
