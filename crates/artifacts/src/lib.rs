//! The artifact volume: content-addressed blobs for what travels between stages, and the folders `input/`,
//! `output/` and `temp/` as ComfyUI users know them.
//!
//! Architecture invariant: a blob's name is the hash of its bytes, so a reader can always tell that it got what was
//! written, and writing twice is harmless.

pub mod bundle;
pub mod folders;
pub mod saves;
pub mod store;

pub use bundle::{Bundle, HostTensor};
pub use folders::{Folder, Folders, NamedFile};
pub use saves::{SaveKey, Saves};
pub use store::{Store, StoreError};
