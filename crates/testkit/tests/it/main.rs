//! The whole stack as real processes: workflow in, picture out, also when services are killed.

mod bad_input;
mod client;
mod cluster;
mod crashes;
mod main_job;
mod pictures;
