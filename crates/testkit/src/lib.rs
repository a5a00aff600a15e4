//! testkit
pub mod fake_stage;
pub mod random_checkpoint;
