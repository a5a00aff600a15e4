//! testkit
pub mod fake_stage;
pub mod goldens;
pub mod part_files;
pub mod random_checkpoint;
pub mod specs;
