//! Groups the tensors of an adapter file by the layer they change.

use std::collections::{BTreeMap, HashMap};

use candle_core::{Device, Tensor};

use super::delta::{Delta, Factor, Kind};
use crate::checkpoint::WeightFile;
use crate::error::{Error, Result};

/// What a tensor of an adapter file is, by the end of its name. Longer ends come before the shorter ones they end in.
const ENDINGS: [(&str, Role); 35] = [
    (".lora_linear_layer.up.weight", Role::Up),
    (".lora_linear_layer.down.weight", Role::Down),
    (".lora_B.default.weight", Role::Up),
    (".lora_A.default.weight", Role::Down),
    (".lora_B.weight", Role::Up),
    (".lora_A.weight", Role::Down),
    (".lora_B", Role::Up),
    (".lora_A", Role::Down),
    (".lora_up.weight", Role::Up),
    (".lora_down.weight", Role::Down),
    (".lora_mid.weight", Role::Mid),
    (".lora.up.weight", Role::Up),
    (".lora.down.weight", Role::Down),
    ("_lora.up.weight", Role::Up),
    ("_lora.down.weight", Role::Down),
    (".lora_magnitude_vector", Role::DoraScale),
    (".dora_scale", Role::DoraScale),
    (".alpha", Role::Alpha),
    (".hada_w1_a", Role::W1a),
    (".hada_w1_b", Role::W1b),
    (".hada_w2_a", Role::W2a),
    (".hada_w2_b", Role::W2b),
    (".hada_t1", Role::T1),
    (".hada_t2", Role::T2),
    (".lokr_w1_a", Role::W1a),
    (".lokr_w1_b", Role::W1b),
    (".lokr_w2_a", Role::W2a),
    (".lokr_w2_b", Role::W2b),
    (".lokr_w1", Role::W1),
    (".lokr_w2", Role::W2),
    (".lokr_t2", Role::T2),
    (".diff_b", Role::DiffBias),
    (".diff", Role::Diff),
    (".w_norm", Role::Diff),
    (".b_norm", Role::DiffBias),
];
/// Kinds that exist but are not applied here, by an end of their names.
const UNSUPPORTED: [(&str, &str); 6] = [
    (".oft_blocks", "OFT"),
    (".oft_diag", "OFT"),
    (".a1.weight", "GLoRA"),
    (".on_input", "IA3"),
    (".set_weight", "a replaced weight"),
    (".reshape_weight", "a reshaped weight"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Up,
    Down,
    Mid,
    DoraScale,
    Alpha,
    W1,
    W1a,
    W1b,
    W2,
    W2a,
    W2b,
    T1,
    T2,
    Diff,
    DiffBias,
}

/// Whether a tensor of that name belongs to an adapter.
pub(super) fn is_part(key: &str) -> bool {
    role_of(key).is_some()
}

/// Splits a tensor name into the layer's name and what the tensor is.
fn role_of(key: &str) -> Option<(String, Role)> {
    let (end, role) = ENDINGS.into_iter().find(|(end, _)| key.ends_with(end))?;
    // Diffusers once named the adapter of `to_q` `processor.to_q_lora`.
    Some((key[..key.len() - end.len()].replace(".processor.", "."), role))
}

/// Reads every group of a file. Tensors that belong to no adapter are left alone, as other tools do: such files carry
/// embeddings and training state.
///
/// # Errors
/// [`Error::InvalidArgument`] if a group is incomplete or of a kind that is not supported.
pub(super) fn read(file: &WeightFile) -> Result<HashMap<String, Delta>> {
    let mut groups: BTreeMap<String, BTreeMap<Role, Tensor>> = BTreeMap::new();
    let mut lokr = false;
    for (key, info) in file.header().tensors() {
        if let Some((_, kind)) = UNSUPPORTED.into_iter().find(|(end, _)| key.ends_with(end)) {
            return Err(Error::InvalidArgument(format!(
                "`{key}` is of the kind {kind}, which is not supported"
            )));
        }
        let Some((name, role)) = role_of(key) else { continue };
        lokr |= key.contains(".lokr_");
        let tensor = Tensor::from_vec(file.read_f32(key, info)?, info.shape.as_slice(), &Device::Cpu)?;
        if groups.entry(name).or_default().insert(role, tensor).is_some() {
            return Err(Error::InvalidArgument(format!("`{key}` is there under two names")));
        }
    }
    // A lone alpha says nothing.
    groups.retain(|_, parts| parts.keys().any(|role| *role != Role::Alpha));
    groups.into_iter().map(|(name, parts)| Ok((name.clone(), group(&name, parts, lokr)?))).collect()
}

fn group(name: &str, mut parts: BTreeMap<Role, Tensor>, lokr: bool) -> Result<Delta> {
    let incomplete = || {
        let found: Vec<_> = parts_of(&parts);
        Error::InvalidArgument(format!("layer `{name}` is incomplete: it has only {}", found.join(", ")))
    };
    let has = |role| parts.contains_key(&role);
    let complete = match () {
        () if has(Role::Up) || has(Role::Down) => has(Role::Up) && has(Role::Down),
        () if lokr && (has(Role::W1) || has(Role::W1a)) => {
            (has(Role::W1) || has(Role::W1b)) && (has(Role::W2) || (has(Role::W2a) && has(Role::W2b)))
        }
        () if has(Role::W1a) => {
            [Role::W1b, Role::W2a, Role::W2b].into_iter().all(has) && has(Role::T1) == has(Role::T2)
        }
        () => has(Role::Diff) || has(Role::DiffBias),
    };
    if !complete {
        return Err(incomplete());
    }
    let bias = parts.remove(&Role::DiffBias);
    let alpha = parts.remove(&Role::Alpha).map(|t| scalar(name, &t)).transpose()?;
    let dora_scale = parts.remove(&Role::DoraScale);
    let mut take = |role| parts.remove(&role);
    let kind = if let (Some(up), Some(down)) = (take(Role::Up), take(Role::Down)) {
        Some(Kind::Lora { up, down, mid: take(Role::Mid) })
    } else if let Some(diff) = take(Role::Diff) {
        Some(Kind::Full { diff })
    } else {
        let (w1, w2) = (take(Role::W1), take(Role::W2));
        let first = factor(w1, take(Role::W1a), take(Role::W1b), take(Role::T1));
        let second = factor(w2, take(Role::W2a), take(Role::W2b), take(Role::T2));
        match (first, second, lokr) {
            (Some(first), Some(second), true) => Some(Kind::Lokr { first, second }),
            (Some(first), Some(second), false) => Some(Kind::Loha { first, second }),
            _ => None,
        }
    };
    Ok(Delta { kind, alpha, dora_scale, bias })
}

fn parts_of(parts: &BTreeMap<Role, Tensor>) -> Vec<String> {
    parts.keys().map(|role| format!("{role:?}").to_lowercase()).collect()
}

fn factor(
    whole: Option<Tensor>,
    a: Option<Tensor>,
    b: Option<Tensor>,
    core: Option<Tensor>,
) -> Option<Factor> {
    match (whole, a, b) {
        (Some(whole), _, _) => Some(Factor::Whole(whole)),
        (None, Some(a), Some(b)) => Some(Factor::Product { a, b, core }),
        _ => None,
    }
}

fn scalar(name: &str, tensor: &Tensor) -> Result<f64> {
    match tensor.flatten_all()?.to_vec1::<f32>()?.as_slice() {
        [value] if value.is_finite() => Ok(f64::from(*value)),
        other => {
            Err(Error::InvalidArgument(format!("`{name}.alpha` holds {} values, expected one", other.len())))
        }
    }
}
