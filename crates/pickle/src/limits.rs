//! Bounds on what a file may ask for. Published checkpoints stay below each by a factor of ten or more.

/// Longest pickle, which holds names and shapes but no weights.
pub const MAX_PICKLE_BYTES: u64 = 64 << 20;
/// Longest text in a pickle.
pub const MAX_TEXT_BYTES: u64 = 1 << 20;
/// Longest line of the text opcodes: module names, numbers, memo positions.
pub const MAX_LINE_BYTES: usize = 4096;
/// Instructions of one pickle.
pub const MAX_OPCODES: u64 = 8_000_000;
/// Values that a pickle may keep for later.
pub const MAX_MEMO: usize = 1_000_000;
/// Values on the stack at once.
pub const MAX_STACK: usize = 2_000_000;
/// Texts, containers, storages and tensors of one file.
pub const MAX_OBJECTS: usize = 2_000_000;
/// Values in all containers together.
pub const MAX_CELLS: u64 = 4_000_000;
/// Arguments of one call.
pub const MAX_ARGUMENTS: usize = 16;
/// Containers within containers.
pub const MAX_DEPTH: u16 = 100;
/// Tensors of one file.
pub const MAX_TENSORS: usize = 100_000;
/// Dimensions of one tensor.
pub const MAX_RANK: usize = 8;
/// Length of a tensor's name, dots included.
pub const MAX_NAME_BYTES: usize = 1024;
/// Dictionaries within dictionaries whose tensors are listed, below the one that is unwrapped.
pub const MAX_NAME_LEVELS: usize = 4;
/// Dictionary entries that are looked at for tensors; shared dictionaries count each time.
pub const MAX_VISITS: usize = 200_000;
/// Longest tuple or list that is searched for tensors; networks come in pairs.
pub const MAX_LISTED_ITEMS: usize = 64;
/// Plain values that are kept beside the tensors.
pub const MAX_PLAIN_VALUES: usize = 256;
/// Longest name and longest text of a plain value.
pub const MAX_PLAIN_BYTES: usize = 4096;
/// Entries of a zip archive.
pub const MAX_ZIP_ENTRIES: u64 = 200_000;
/// Size of a zip archive's table of contents.
pub const MAX_ZIP_DIRECTORY_BYTES: u64 = 64 << 20;
/// Part of a storage that is held in memory to put a non-contiguous tensor into order.
pub const MAX_SPAN_BYTES: u64 = 1 << 30;
/// How much larger than its input a converted file may be: tensors may share a storage.
pub const MAX_GROWTH: u64 = 4;
/// Free growth on top of [`MAX_GROWTH`], for headers.
pub const GROWTH_SLACK_BYTES: u64 = 64 << 20;
