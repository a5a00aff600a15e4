//! JSON text as Python's `json.dumps` writes it, so that saved pictures carry byte-equal workflows.

use std::io::{self, Write};

use serde::Serialize as _;
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};

/// Writes a value with `, ` and `: ` between parts, everything outside ASCII escaped, floats as Python prints them.
pub fn dumps(value: &Value) -> String {
    let mut out = Vec::new();
    value
        .serialize(&mut Serializer::with_formatter(&mut out, Python))
        .expect("a JSON value can be written to memory");
    String::from_utf8(out).expect("only ASCII is written")
}

struct Python;

impl Formatter for Python {
    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        for character in fragment.chars() {
            if character.is_ascii() && character != '\x7f' {
                out.write_all(&[character as u8])?;
            } else if character == '\x7f' {
                // Python leaves DEL as it is.
                out.write_all(b"\x7f")?;
            } else {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }

    fn write_f64<W: ?Sized + Write>(&mut self, out: &mut W, value: f64) -> io::Result<()> {
        out.write_all(repr_float(value).as_bytes())
    }
}

/// Prints the shortest digits that read back, with an exponent below 1e-4 and from 1e16 on, as `repr` does.
pub fn repr_float(value: f64) -> String {
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').expect("scientific notation has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a number");
    if value == 0.0 || (-4..16).contains(&exponent) {
        return format!("{value:?}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn text_is_what_python_writes() {
        for (value, expected) in [
            (json!({"a": [1, 2], "b": {}}), r#"{"a": [1, 2], "b": {}}"#),
            (json!("\u{fc}\u{1f3a8}\n\"\\\u{7f}\u{1}"), "\"\\u00fc\\ud83c\\udfa8\\n\\\"\\\\\u{7f}\\u0001\""),
            (json!([true, null, 18446744073709551615_u64, -3]), "[true, null, 18446744073709551615, -3]"),
            (json!([7.0, 0.1, 1e-4, 1e-5, 1.5e-7]), "[7.0, 0.1, 0.0001, 1e-05, 1.5e-07]"),
            (json!([1e15, 1e16, 1.25e22, -0.0]), "[1000000000000000.0, 1e+16, 1.25e+22, -0.0]"),
        ] {
            assert_eq!(dumps(&value), expected);
        }
    }
}
