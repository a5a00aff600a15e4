//! The artifact volume: content-addressed blobs for what travels between stages, and the folders `input/`,
//! `output/` and `temp/` as ComfyUI users know them.
//!
//! Architecture invariant: a blob's name is the hash of its bytes, so a reader can always tell that it got what was
//! written, and writing twice is harmless.

pub mod bundle;
mod file_prefix;
pub mod folders;
pub mod python_json;
pub mod saves;
mod scratch;
pub mod store;
mod workflow_texts;

pub use bundle::{Bundle, HostTensor};
pub use file_prefix::FilePrefix;
pub use folders::{Folder, Folders, NamedFile};
pub use saves::{SaveKey, Saves};
pub use scratch::Scratch;
pub use store::{Store, StoreError};
pub use workflow_texts::{NotJson, workflow_texts};
