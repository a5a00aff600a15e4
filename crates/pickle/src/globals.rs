//! The names that a pickle may refer to, and what each means here.

use crate::error::{Error, Result};
use crate::kind::Kind;

/// What an allowed name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Global {
    /// Describes a tensor: storage, offset, size, stride.
    RebuildTensor,
    /// The same, with the number format as seventh argument.
    RebuildTensorV3,
    /// Passes on its first argument, a tensor.
    RebuildParameter,
    /// Calls its first argument with its third.
    RebuildFromType,
    /// A storage with a number format.
    Storage(Kind),
    /// A storage of bytes.
    UntypedStorage,
    Dtype(Kind),
    /// A dictionary, of whatever kind.
    Dict,
    /// Passes on its argument, a tuple.
    Size,
    /// Stands for itself; what is made of it is ignored.
    Inert,
}

/// Names that say nothing about tensors but do occur in checkpoints: types, settings of the training.
const INERT: [(&str, &str); 24] = [
    ("torch", "Tensor"),
    ("torch", "device"),
    ("torch.serialization", "_get_layout"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.dtypes", "Float64DType"),
    ("numpy.dtypes", "Float32DType"),
    ("numpy.dtypes", "Int64DType"),
    ("_codecs", "encode"),
    ("builtins", "set"),
    ("builtins", "list"),
    ("builtins", "int"),
    ("builtins", "float"),
    ("builtins", "bool"),
    ("builtins", "bytearray"),
    ("__builtin__", "set"),
    ("__builtin__", "list"),
    ("__builtin__", "int"),
    ("__builtin__", "float"),
    ("__builtin__", "bool"),
    ("__builtin__", "bytearray"),
    ("__builtin__", "long"),
];

/// The library whose callbacks and records old checkpoints of Stable Diffusion carry along.
const INERT_PACKAGE: &str = "pytorch_lightning";

impl Global {
    /// Finds the meaning of `module.name`.
    ///
    /// # Errors
    /// [`Error::Refused`] for every name that is not known.
    pub(crate) fn find(module: &str, name: &str) -> Result<Self> {
        let known = match (module, name) {
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Some(Self::RebuildTensor),
            ("torch._utils", "_rebuild_tensor_v3") => Some(Self::RebuildTensorV3),
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state")
            | ("torch.nn.parameter", "Parameter" | "Buffer") => Some(Self::RebuildParameter),
            ("torch._tensor", "_rebuild_from_type_v2") => Some(Self::RebuildFromType),
            ("collections", "OrderedDict" | "defaultdict" | "Counter") => Some(Self::Dict),
            ("builtins" | "__builtin__", "dict") => Some(Self::Dict),
            ("torch", "Size") => Some(Self::Size),
            ("torch.storage" | "torch", "UntypedStorage") => Some(Self::UntypedStorage),
            ("torch", name) => Self::of_torch(name),
            _ => None,
        };
        let inert = || {
            let of_package = module == INERT_PACKAGE
                || module.strip_prefix(INERT_PACKAGE).is_some_and(|rest| rest.starts_with('.'));
            (of_package || INERT.contains(&(module, name))).then_some(Self::Inert)
        };
        known.or_else(inert).ok_or_else(|| Error::Refused(printable(module, name)))
    }

    fn of_torch(name: &str) -> Option<Self> {
        if let Some(stem) = name.strip_suffix("Storage") {
            return Kind::of_stem(stem).map(Self::Storage);
        }
        if let Some(stem) = name.strip_suffix("Tensor").filter(|stem| !stem.is_empty()) {
            return Kind::of_stem(stem).map(|_| Self::Inert);
        }
        Kind::of_torch(name).map(Self::Dtype)
    }
}

/// The name for a message: one line, not too long.
fn printable(module: &str, name: &str) -> String {
    let whole = format!("{module}.{name}");
    let clean = whole.chars().map(|c| if c.is_control() || c == '`' { '?' } else { c });
    clean.take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_names_are_allowed() {
        for (module, name, expected) in [
            ("torch._utils", "_rebuild_tensor_v2", Global::RebuildTensor),
            ("torch", "HalfStorage", Global::Storage(Kind::F16)),
            ("torch", "FloatTensor", Global::Inert),
            ("torch", "Tensor", Global::Inert),
            ("torch", "bfloat16", Global::Dtype(Kind::Bf16)),
            ("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint", Global::Inert),
            ("collections", "OrderedDict", Global::Dict),
        ] {
            assert_eq!(Global::find(module, name).unwrap(), expected, "{module}.{name}");
        }
        for (module, name) in [
            ("os", "system"),
            ("posix", "system"),
            ("builtins", "eval"),
            ("builtins", "getattr"),
            ("torch", "load"),
            ("torch", "ComplexFloatStorage"),
            ("torch.hub", "load"),
            ("pytorch_lightningx", "run"),
            ("torch._utils", "_rebuild_sparse_tensor"),
            ("", ""),
        ] {
            let error = Global::find(module, name).unwrap_err();
            assert!(
                matches!(&error, Error::Refused(found) if *found == format!("{module}.{name}")),
                "{error}"
            );
        }
    }

    #[test]
    fn names_are_made_fit_for_a_message() {
        let error = Global::find("a\n\u{7}`", &"x".repeat(1000)).unwrap_err().to_string();
        assert!(error.len() < 300 && !error.contains('\n'), "{error}");
    }
}
