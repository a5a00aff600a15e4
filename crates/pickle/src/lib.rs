//! Reads PyTorch checkpoint files (`.ckpt`, `.pt`, `.pth`, `.bin`) without executing anything.
//!
//! A pickle is a program. This crate runs it on a stack of plain values on which no call is possible: the few
//! globals that tensors need are known by name and mean "describe a tensor", and any other name ends the reading.
//! Every size is checked against the file or a limit before memory is taken for it.
//!
//! [`PickleIndex::read`] gives the table of tensors, [`convert`] writes them as safetensors.

mod convert;
mod error;
mod globals;
mod index;
mod kind;
mod legacy;
pub mod limits;
mod machine;
mod rebuild;
mod source;
mod value;
mod zip;

pub use convert::{Converted, convert, max_output_bytes, partial_path, write_safetensors};
pub use error::{Error, Result};
pub use index::{Container, PickleIndex, TensorEntry};
pub use kind::Kind;
