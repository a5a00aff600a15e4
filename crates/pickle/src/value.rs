//! What a pickle's instructions work on: plain values, and an arena for what they refer to.
//!
//! Values are small and copied; containers are numbered. So shared and even circular structures cost nothing, and
//! freeing the deepest nesting does not recurse.

use crate::error::{Error, Result, check_limit};
use crate::globals::Global;
use crate::kind::Kind;
use crate::limits::{MAX_CELLS, MAX_DEPTH, MAX_OBJECTS};

/// A value on the stack or in a container.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// The number that marks the legacy format.
    Magic,
    /// Something of no use here: floats, bytes, sets, huge numbers, objects that are ignored.
    Ignored,
    Text(usize),
    /// Tuples and lists.
    Sequence(usize),
    Dict(usize),
    Global(Global),
    Storage(usize),
    Tensor(usize),
}

/// A storage as a pickle describes it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Storage {
    /// Its name within the file.
    pub key: String,
    /// `None` for a storage of bytes.
    pub kind: Option<Kind>,
    pub elements: u64,
    /// For a part of the storage of that name, as old files have: where it begins, in elements.
    pub view_offset: Option<u64>,
}

/// A tensor as a pickle describes it; nothing is checked against the file yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tensor {
    pub storage: usize,
    pub kind: Kind,
    pub offset: u64,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
}

/// Owner of everything that values refer to.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    texts: Vec<String>,
    sequences: Vec<Container<Value>>,
    dicts: Vec<Container<(Value, Value)>>,
    storages: Vec<Storage>,
    tensors: Vec<Tensor>,
    /// Values in all containers together.
    cells: u64,
}

#[derive(Debug)]
struct Container<T> {
    items: Vec<T>,
    /// One more than the deepest item had when it was put in.
    depth: u16,
}

impl Arena {
    fn check(&self) -> Result<()> {
        let objects = self.texts.len()
            + self.sequences.len()
            + self.dicts.len()
            + self.storages.len()
            + self.tensors.len();
        check_limit("objects", objects as u64 + 1, MAX_OBJECTS as u64)
    }

    fn count_cells(&mut self, more: usize) -> Result<()> {
        self.cells += more as u64;
        check_limit("values in containers", self.cells, MAX_CELLS)
    }

    fn depth(&self, value: Value) -> u16 {
        match value {
            Value::Sequence(id) => self.sequences[id].depth,
            Value::Dict(id) => self.dicts[id].depth,
            _ => 0,
        }
    }

    /// One more than the depth of the deepest value.
    ///
    /// # Errors
    /// Over the limit. That containers nest is no danger to this crate; that they nest so deep says that the file
    /// is no checkpoint.
    fn depth_around(&self, values: impl IntoIterator<Item = Value>) -> Result<u16> {
        let depth = values.into_iter().map(|value| self.depth(value)).max().unwrap_or(0) + 1;
        check_limit("levels of nesting", depth.into(), MAX_DEPTH.into())?;
        Ok(depth)
    }

    pub(crate) fn add_text(&mut self, text: String) -> Result<Value> {
        self.check()?;
        self.texts.push(text);
        Ok(Value::Text(self.texts.len() - 1))
    }

    pub(crate) fn add_sequence(&mut self, items: Vec<Value>) -> Result<Value> {
        self.check()?;
        self.count_cells(items.len())?;
        let depth = self.depth_around(items.iter().copied())?;
        self.sequences.push(Container { items, depth });
        Ok(Value::Sequence(self.sequences.len() - 1))
    }

    pub(crate) fn add_dict(&mut self) -> Result<Value> {
        self.check()?;
        self.dicts.push(Container { items: Vec::new(), depth: 1 });
        Ok(Value::Dict(self.dicts.len() - 1))
    }

    pub(crate) fn add_storage(&mut self, storage: Storage) -> Result<Value> {
        self.check()?;
        self.storages.push(storage);
        Ok(Value::Storage(self.storages.len() - 1))
    }

    pub(crate) fn add_tensor(&mut self, tensor: Tensor) -> Result<Value> {
        self.check()?;
        self.tensors.push(tensor);
        Ok(Value::Tensor(self.tensors.len() - 1))
    }

    /// Appends to a list. What is ignored may be appended to.
    pub(crate) fn extend(&mut self, list: Value, items: &[Value]) -> Result<()> {
        match list {
            Value::Sequence(id) => {
                self.count_cells(items.len())?;
                let depth = self.depth_around(items.iter().copied())?;
                let container = &mut self.sequences[id];
                container.depth = container.depth.max(depth);
                container.items.extend_from_slice(items);
                Ok(())
            }
            Value::Ignored => Ok(()),
            _ => Err(Error::damaged("something is appended to what is no list")),
        }
    }

    /// Sets keys of a dictionary, given as key, value, key, value, …
    pub(crate) fn set(&mut self, dict: Value, items: &[Value]) -> Result<()> {
        if !items.len().is_multiple_of(2) {
            return Err(Error::damaged("a dictionary has a key without a value"));
        }
        match dict {
            Value::Dict(id) => {
                self.count_cells(items.len())?;
                let depth = self.depth_around(items.iter().copied())?;
                let container = &mut self.dicts[id];
                container.depth = container.depth.max(depth);
                container.items.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
                Ok(())
            }
            Value::Ignored => Ok(()),
            _ => Err(Error::damaged("a key is set on what is no dictionary")),
        }
    }

    pub(crate) fn text(&self, value: Value) -> Option<&str> {
        let Value::Text(id) = value else { return None };
        Some(&self.texts[id])
    }

    pub(crate) fn sequence(&self, value: Value) -> Option<&[Value]> {
        let Value::Sequence(id) = value else { return None };
        Some(&self.sequences[id].items)
    }

    pub(crate) fn dict(&self, value: Value) -> Option<&[(Value, Value)]> {
        let Value::Dict(id) = value else { return None };
        Some(&self.dicts[id].items)
    }

    /// The value of a text key; the last one where it was set more than once.
    pub(crate) fn get(&self, dict: Value, key: &str) -> Option<Value> {
        let pairs = self.dict(dict)?;
        pairs.iter().rev().find(|(k, _)| self.text(*k) == Some(key)).map(|(_, value)| *value)
    }

    pub(crate) fn storage(&self, id: usize) -> &Storage {
        &self.storages[id]
    }

    pub(crate) fn storages(&self) -> &[Storage] {
        &self.storages
    }

    pub(crate) fn tensor(&self, id: usize) -> &Tensor {
        &self.tensors[id]
    }
}
