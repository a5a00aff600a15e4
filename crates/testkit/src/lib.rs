//! testkit
pub mod fake_stage;
pub mod part_files;
pub mod random_checkpoint;
