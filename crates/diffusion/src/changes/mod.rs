//! What is changed about weights as they are read: adapters, merges and factors, one after the other.
//!
//! A [`ModelSource`] or [`TextSource`] says where weights come from; it may name further sources to be merged with.
//! Nothing is read until a part is loaded, and then tensor by tensor, so a merge needs no more memory than a model.

mod attention;
mod merge;
mod patches;
mod source;
mod text_names;

pub use attention::{AttentionFactors, AttentionKind};
pub(crate) use merge::OpenMerge;
pub use merge::{Merge, Shares};
pub use patches::Patches;
pub use source::{ModelSource, TextFiles, TextSource};
pub(crate) use source::{OpenModel, OpenText, text_pieces};

use crate::adapters::UsedAdapter;

/// One change to the weights of a source of the kind `S`.
#[derive(Debug, Clone)]
pub enum Change<S> {
    Adapter(UsedAdapter),
    Merge(Merge<S>),
    Attention(AttentionFactors),
}
