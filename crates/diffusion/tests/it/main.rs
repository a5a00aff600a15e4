//! Black-box tests of the model half: generated checkpoints against figures from ComfyUI.

#[path = "../../../testkit/src/random_checkpoint.rs"]
mod random_checkpoint;

mod compare;
mod full_size;
mod hostile_files;
mod models;
mod reference;
mod sample;
mod tiny;
mod tokens;
