//! Constants on inputs.

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A constant that a person typed into a node.
///
/// Integers are wide enough for every unsigned and signed 64-bit value, because a seed uses the whole `u64`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Literal {
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
}

impl Literal {
    /// Reads a JSON scalar. Returns `None` for null, arrays, objects and numbers that fit no literal.
    pub fn from_json(value: &serde_json::Value) -> Option<Self> {
        match value {
            serde_json::Value::Bool(b) => Some(Self::Bool(*b)),
            serde_json::Value::Number(n) => {
                if let Some(i) = n.as_i64() {
                    Some(Self::Int(i.into()))
                } else if let Some(u) = n.as_u64() {
                    Some(Self::Int(u.into()))
                } else {
                    n.as_f64().filter(|f| f.is_finite()).map(Self::Float)
                }
            }
            serde_json::Value::String(s) => Some(Self::Text(s.clone())),
            _ => None,
        }
    }

    /// Writes the literal as a JSON scalar. An integer outside 64 bits becomes a float, a float that is not finite
    /// becomes null: neither is ever made by [`Literal::from_json`].
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Bool(b) => (*b).into(),
            Self::Int(i) => match (i64::try_from(*i), u64::try_from(*i)) {
                (Ok(i), _) => i.into(),
                (_, Ok(u)) => u.into(),
                _ => (*i as f64).into(),
            },
            Self::Float(f) => (*f).into(),
            Self::Text(s) => s.clone().into(),
        }
    }

    /// The name of the literal's kind, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Bool(_) => "BOOLEAN",
            Self::Int(_) => "INT",
            Self::Float(_) => "FLOAT",
            Self::Text(_) => "STRING",
        }
    }
}

/// Written by hand, because serde's untagged enums cannot read an `i128` and would take every integer for a float.
impl<'de> Deserialize<'de> for Literal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LiteralVisitor)
    }
}

struct LiteralVisitor;

impl Visitor<'_> for LiteralVisitor {
    type Value = Literal;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a truth value, a number or a text")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Literal, E> {
        Ok(Literal::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Literal, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Literal, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Literal, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Literal, E> {
        Ok(value.into())
    }
}

/// Reads an integer within an enum that serde tags internally, where it cannot read an `i128` itself.
pub(crate) fn wide_int<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i128, D::Error> {
    match Literal::deserialize(deserializer)? {
        Literal::Int(value) => Ok(value),
        other => {
            Err(D::Error::custom(format!("expected an integer, found a value of type {}", other.kind())))
        }
    }
}

macro_rules! literal_from {
    ($($t:ty => $variant:ident),*) => {$(
        impl From<$t> for Literal {
            fn from(value: $t) -> Self { Self::$variant(value.into()) }
        }
    )*};
}
literal_from!(bool => Bool, i32 => Int, u32 => Int, i64 => Int, u64 => Int, f32 => Float, f64 => Float, String => Text, &str => Text);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_keep_all_64_bits() {
        for seed in [0, 42, (1 << 53) + 1, u64::MAX] {
            let literal = Literal::from_json(&serde_json::json!(seed)).unwrap();
            assert_eq!(literal, Literal::Int(seed.into()));
            assert_eq!(literal.to_json(), serde_json::json!(seed));
        }
    }

    #[test]
    fn only_scalars_are_literals() {
        for json in ["null", "[1]", "{}"] {
            assert_eq!(Literal::from_json(&serde_json::from_str(json).unwrap()), None, "{json}");
        }
    }
}
