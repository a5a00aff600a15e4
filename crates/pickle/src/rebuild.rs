//! Calls in a pickle: the few that describe tensors and storages.

use crate::error::{Error, Result, check_limit};
use crate::globals::Global;
use crate::kind::Kind;
use crate::limits::{MAX_ARGUMENTS, MAX_RANK};
use crate::value::{Arena, Storage, Tensor, Value};

/// What calling `function` with `arguments` would give.
///
/// # Errors
/// When the function is none of those that describe tensors, or its arguments do not fit.
pub(crate) fn call(arena: &mut Arena, function: Value, arguments: Value) -> Result<Value> {
    let Value::Global(global) = function else {
        return match function {
            Value::Ignored => Ok(Value::Ignored),
            _ => Err(Error::damaged("something is called that is no function")),
        };
    };
    let items = arena.sequence(arguments).ok_or_else(|| Error::damaged("a call has no arguments"))?;
    check_limit("arguments in a call", items.len() as u64, MAX_ARGUMENTS as u64)?;
    let items = items.to_vec();
    match global {
        Global::RebuildTensor => tensor(arena, &items, None),
        Global::RebuildTensorV3 => match items.get(6) {
            Some(Value::Global(Global::Dtype(kind))) => tensor(arena, &items, Some(*kind)),
            _ => Err(Error::damaged("a tensor has no number format")),
        },
        Global::RebuildParameter => match items.first() {
            Some(&tensor @ Value::Tensor(_)) => Ok(tensor),
            _ => Err(Error::damaged("a parameter is no tensor")),
        },
        Global::RebuildFromType => match items[..] {
            // One level only: what it calls may not be itself again.
            [inner @ Value::Global(Global::RebuildTensor | Global::RebuildTensorV3), _, arguments, ..] => {
                call(arena, inner, arguments)
            }
            _ => Err(Error::damaged("a tensor is rebuilt in an unknown way")),
        },
        Global::Dict => dict(arena, &items),
        Global::Size => match items.first() {
            Some(&sizes @ Value::Sequence(_)) => Ok(sizes),
            _ => Err(Error::damaged("a size is no tuple")),
        },
        Global::Inert => Ok(Value::Ignored),
        Global::Storage(_) | Global::UntypedStorage | Global::Dtype(_) => {
            Err(Error::damaged("a storage is made out of nothing"))
        }
    }
}

/// A dictionary made from nothing, from a list of pairs, or from another dictionary. A factory for missing keys,
/// as some kinds have, is not needed.
fn dict(arena: &mut Arena, arguments: &[Value]) -> Result<Value> {
    let made = arena.add_dict()?;
    let source = arguments.last().copied().unwrap_or(Value::None);
    let mut flat = Vec::new();
    if let Some(pairs) = arena.dict(source) {
        flat.extend(pairs.iter().flat_map(|&(key, value)| [key, value]));
    } else if let Some(items) = arena.sequence(source) {
        for &item in items {
            match arena.sequence(item) {
                Some(&[key, value]) => flat.extend([key, value]),
                _ => return Err(Error::damaged("a dictionary is made of what are no pairs")),
            }
        }
    }
    arena.set(made, &flat)?;
    Ok(made)
}

fn tensor(arena: &mut Arena, arguments: &[Value], kind: Option<Kind>) -> Result<Value> {
    let &[Value::Storage(storage), offset, shape, strides, ..] = arguments else {
        return Err(Error::damaged("a tensor is described without a storage"));
    };
    let kind = match (arena.storage(storage).kind, kind) {
        (Some(kind), None) | (None, Some(kind)) => kind,
        (Some(stored), Some(kind)) if stored == kind => kind,
        _ => return Err(Error::damaged("a tensor and its storage differ in number format")),
    };
    let offset = whole(offset, "offset")?;
    let (shape, strides) = (dims(arena, shape, "size")?, dims(arena, strides, "stride")?);
    if shape.len() != strides.len() {
        return Err(Error::damaged("a tensor has not as many strides as sizes"));
    }
    arena.add_tensor(Tensor { storage, kind, offset, shape, strides })
}

fn whole(value: Value, what: &str) -> Result<u64> {
    match value {
        Value::Int(number) => {
            u64::try_from(number).map_err(|_| Error::damaged(format!("a tensor's {what} is {number}")))
        }
        _ => Err(Error::damaged(format!("a tensor's {what} is no number"))),
    }
}

fn dims(arena: &Arena, value: Value, what: &str) -> Result<Vec<u64>> {
    let items =
        arena.sequence(value).ok_or_else(|| Error::damaged(format!("a tensor's {what} is no tuple")))?;
    check_limit("dimensions in a tensor", items.len() as u64, MAX_RANK as u64)?;
    items.iter().map(|&item| whole(item, what)).collect()
}

/// The storage that a persistent id names.
///
/// # Errors
/// When the id does not describe a storage.
pub(crate) fn storage(arena: &mut Arena, id: Value) -> Result<Value> {
    let malformed = || Error::damaged("a storage is described wrongly");
    let items = arena.sequence(id).ok_or_else(malformed)?;
    check_limit("values in the description of a storage", items.len() as u64, MAX_ARGUMENTS as u64)?;
    let items = items.to_vec();
    let &[tag, Value::Global(class), key, _location, Value::Int(elements), ref view @ ..] = &items[..] else {
        return Err(malformed());
    };
    let kind = match class {
        Global::Storage(kind) => Some(kind),
        Global::UntypedStorage => None,
        _ => return Err(malformed()),
    };
    if arena.text(tag) != Some("storage") {
        return Err(malformed());
    }
    let mut elements = u64::try_from(elements).map_err(|_| malformed())?;
    let mut view_offset = None;
    if let Some(view) = view.first().and_then(|&view| arena.sequence(view)) {
        let &[_view_key, offset, size] = view else { return Err(malformed()) };
        (view_offset, elements) = (Some(whole(offset, "view offset")?), whole(size, "view size")?);
    }
    let key = arena.text(key).ok_or_else(malformed)?.to_owned();
    arena.add_storage(Storage { key, kind, elements, view_offset })
}
