//! Constants: conversion to the type of their input, then the limits of its widget.

use super::error::NodeError;
use super::files::{leads_elsewhere, listed_name};
use super::python::{python_float, python_repr, python_str, python_type};
use crate::object_info::input_config;
use crate::{InputSpec, Literal, Widget};
use serde_json::Value;

/// Lists longer than this are named by their length only.
const LONGEST_LIST_SHOWN: usize = 20;

/// Converts a constant to the type that its input wants and checks it against the widget.
///
/// # Source
/// Accepts what ComfyUI 0.3.64 accepts (`"5"` for an INT, floats cut to INTs, any truth value for a BOOLEAN), except
/// floats that are not finite and constants on sockets that only a link can fill.
pub(super) fn convert(input: &InputSpec, value: &Value) -> Result<Literal, Box<NodeError>> {
    // A list has to be wrapped, because a bare list means a link.
    let value = value.get("__value__").unwrap_or(value);
    if let Some(Widget::Combo { options, open, upload, .. }) = &input.widget {
        let is_listed = |name: &str| options.iter().any(|option| option.value == name);
        let is_file =
            |name: &str| upload.is_some() && (is_listed(listed_name(name)) || leads_elsewhere(name));
        let chosen = value.as_str().filter(|text| *open || is_listed(text) || is_file(text));
        return match (chosen, upload) {
            (Some(text), _) => Ok(Literal::Text(text.into())),
            (None, Some(_)) => Err(no_such_file(input, value)),
            (None, None) => Err(not_in_list(input, value, options.len())),
        };
    }
    if let Some(Widget::DynamicCombo { options }) = &input.widget {
        let chosen = value.as_str().filter(|key| options.iter().any(|option| option.key == *key));
        let keys = || options.iter().map(|option| option.key.as_str()).collect();
        return chosen.map(Literal::from).ok_or_else(|| not_among(input, value, keys()));
    }
    let literal = match input.socket.as_str() {
        "INT" => to_int(value).map(Literal::Int),
        "FLOAT" => to_float(value).map(Literal::Float),
        "STRING" => Ok(Literal::Text(python_str(value))),
        "BOOLEAN" => Ok(Literal::Bool(is_true(value))),
        // A field that the page shows in its own way, such as a camera, and sends as text.
        _ if matches!(input.widget, Some(Widget::Text { .. })) => Ok(Literal::Text(python_str(value))),
        _ => return any_scalar(input, value),
    };
    let literal = literal.map_err(|problem| invalid_type(input, value, &problem))?;
    check_limits(input, &literal)?;
    match literal {
        // Neither JSON nor the wire carries more.
        Literal::Int(int) if i64::try_from(int).is_err() && u64::try_from(int).is_err() => {
            Err(invalid_type(input, value, "the value does not fit 64 bits"))
        }
        fits => Ok(fits),
    }
}

fn to_int(value: &Value) -> Result<i128, String> {
    match value {
        Value::Bool(flag) => Ok(i128::from(*flag)),
        Value::Number(number) => match Literal::from_json(value) {
            Some(Literal::Int(int)) => Ok(int),
            Some(Literal::Float(float)) if float.abs() < 2f64.powi(100) => Ok(float.trunc() as i128),
            _ => Err(format!("{number} is too large for an integer")),
        },
        Value::String(text) => plain_digits(text)
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| format!("invalid literal for int() with base 10: {}", python_repr(value))),
        other => Err(format!(
            "int() argument must be a string, a bytes-like object or a real number, not '{}'",
            python_type(other)
        )),
    }
}

fn to_float(value: &Value) -> Result<f64, String> {
    let float = match value {
        Value::Bool(flag) => f64::from(u8::from(*flag)),
        Value::Number(number) => number.as_f64().unwrap_or(f64::INFINITY),
        Value::String(text) => plain_digits(text)
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| format!("could not convert string to float: {}", python_repr(value)))?,
        other => {
            return Err(format!(
                "float() argument must be a string or a real number, not '{}'",
                python_type(other)
            ));
        }
    };
    // ComfyUI lets these through and then cannot write its own history as JSON.
    if float.is_finite() { Ok(float) } else { Err("the value must be a finite number".into()) }
}

/// Takes surrounding blanks and the underscores between digits out of a number, as Python allows them.
fn plain_digits(text: &str) -> Option<String> {
    let text = text.trim();
    let between_digits = |(at, _): (usize, &str)| {
        let digit = |c: Option<&u8>| c.is_some_and(u8::is_ascii_digit);
        at > 0 && digit(text.as_bytes().get(at - 1)) && digit(text.as_bytes().get(at + 1))
    };
    text.match_indices('_').all(between_digits).then(|| text.replace('_', ""))
}

/// Python's truth: everything but zero, nothing and empty containers, so the text `false` is true.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
    }
}

/// Constants for inputs of any type, of several types, or of a combo that lists nothing.
fn any_scalar(input: &InputSpec, value: &Value) -> Result<Literal, Box<NodeError>> {
    let takes_constants =
        |socket: &str| matches!(socket.trim(), "*" | "INT" | "FLOAT" | "STRING" | "BOOLEAN" | "COMBO");
    if !input.socket.split(',').any(takes_constants) {
        return Err(bad_link(input, value));
    }
    let problem = "only a number, a text or a truth value can be given without a link";
    Literal::from_json(value).ok_or_else(|| invalid_type(input, value, problem))
}

fn check_limits(input: &InputSpec, literal: &Literal) -> Result<(), Box<NodeError>> {
    match (&input.widget, literal) {
        (Some(Widget::Int { min, .. }), Literal::Int(value)) if value < min => {
            Err(out_of_range(input, "smaller", literal, &min.to_string()))
        }
        (Some(Widget::Int { max, .. }), Literal::Int(value)) if value > max => {
            Err(out_of_range(input, "bigger", literal, &max.to_string()))
        }
        (Some(Widget::Float { min: Some(min), .. }), Literal::Float(value)) if value < min => {
            Err(out_of_range(input, "smaller", literal, &python_float(*min)))
        }
        (Some(Widget::Float { max: Some(max), .. }), Literal::Float(value)) if value > max => {
            Err(out_of_range(input, "bigger", literal, &python_float(*max)))
        }
        _ => Ok(()),
    }
}

fn about(input: &InputSpec, received: &Value, error: NodeError) -> Box<NodeError> {
    let error = error
        .with("input_name", input.name.as_str())
        .with("input_config", shown_config(input))
        .with("received_value", received.clone());
    Box::new(error)
}

fn out_of_range(input: &InputSpec, direction: &str, literal: &Literal, limit: &str) -> Box<NodeError> {
    let (kind, bound) = match direction {
        "smaller" => ("value_smaller_than_min", "min"),
        _ => ("value_bigger_than_max", "max"),
    };
    let value = match literal {
        Literal::Int(int) => int.to_string(),
        other => python_str(&other.to_json()),
    };
    let message = format!("Value {value} {direction} than {bound} of {limit}");
    about(input, &literal.to_json(), NodeError::new(kind, message, &input.name))
}

fn invalid_type(input: &InputSpec, value: &Value, problem: &str) -> Box<NodeError> {
    let message = format!("Failed to convert an input value to a {} value", input.socket);
    let details = format!("{}, {}, {problem}", input.name, python_str(value));
    let error = about(input, value, NodeError::new("invalid_input_type", message, details));
    Box::new(error.with("exception_message", problem))
}

fn not_in_list(input: &InputSpec, value: &Value, length: usize) -> Box<NodeError> {
    let config = shown_config(input);
    let list = match config.get(0) {
        Some(options) => python_repr(options),
        None => format!("(list of length {length})"),
    };
    let details = format!("{}: '{}' not in {list}", input.name, python_str(value));
    about(input, value, NodeError::new("value_not_in_list", "Value not in list", details))
}

/// A choice that a dynamic combo does not have.
fn not_among(input: &InputSpec, value: &Value, keys: Vec<&str>) -> Box<NodeError> {
    let details = format!("{}: '{}' not in {}", input.name, python_str(value), python_repr(&keys.into()));
    about(input, value, NodeError::new("value_not_in_list", "Value not in list", details))
}

/// The description of an input for an error; null when it would be a long list.
pub(super) fn shown_config(input: &InputSpec) -> Value {
    match &input.widget {
        Some(Widget::Combo { options, .. }) if options.len() > LONGEST_LIST_SHOWN => Value::Null,
        _ => input_config(input),
    }
}

/// Combos with an upload button hold files; ComfyUI answers for them with the node's own check.
fn no_such_file(input: &InputSpec, value: &Value) -> Box<NodeError> {
    let details = format!("{} - Invalid image file: {}", input.name, python_str(value));
    let error = NodeError::new("custom_validation_failed", "Custom validation failed for node", details);
    Box::new(error.with("input_name", input.name.as_str()))
}

/// A value that should have been a link.
pub(super) fn bad_link(input: &InputSpec, value: &Value) -> Box<NodeError> {
    let message = "Bad linked input, must be a length-2 list of [node_id, slot_index]";
    about(input, value, NodeError::new("bad_linked_input", message, &input.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DynamicOption;
    use serde_json::json;

    fn check(input: &InputSpec, value: Value, expected: Result<Literal, &str>) {
        let found = convert(input, &value).map_err(|error| error.kind);
        assert_eq!(found, expected.map_err(str::to_owned), "{} <- {value}", input.socket);
    }

    #[test]
    fn integers() {
        let input = InputSpec::seed("seed");
        check(&input, json!(5), Ok(Literal::Int(5)));
        check(&input, json!("5"), Ok(Literal::Int(5)));
        check(&input, json!(" +1_000 "), Ok(Literal::Int(1000)));
        check(&input, json!(1.9), Ok(Literal::Int(1)));
        check(&input, json!(true), Ok(Literal::Int(1)));
        check(&input, json!(u64::MAX), Ok(Literal::Int(u64::MAX.into())));
        check(&input, json!({"__value__": 7}), Ok(Literal::Int(7)));
        check(&input, json!("18446744073709551616"), Err("value_bigger_than_max"));
        check(&input, json!(-1), Err("value_smaller_than_min"));
        let unbounded = InputSpec::socket("count", "INT");
        check(&unbounded, json!(i64::MIN), Ok(i64::MIN.into()));
        check(&unbounded, json!("18446744073709551616"), Err("invalid_input_type"));
        for bad in [
            json!("1.9"),
            json!("_1"),
            json!(""),
            json!(null),
            json!({}),
            json!({"__value__": [1]}),
            json!(1e300),
        ] {
            check(&input, bad, Err("invalid_input_type"));
        }
    }

    #[test]
    fn floats() {
        let input = InputSpec::float("cfg", 8.0, (0.0, 100.0), 0.1, None);
        check(&input, json!(7), Ok(Literal::Float(7.0)));
        check(&input, json!("1.9"), Ok(Literal::Float(1.9)));
        check(&input, json!(" 1e1 "), Ok(Literal::Float(10.0)));
        check(&input, json!(true), Ok(Literal::Float(1.0)));
        check(&input, json!(100.5), Err("value_bigger_than_max"));
        check(&input, json!("-1"), Err("value_smaller_than_min"));
        for bad in [json!("nan"), json!("inf"), json!("-Infinity"), json!("1e999"), json!("x"), json!(null)] {
            check(&input, bad, Err("invalid_input_type"));
        }
    }

    #[test]
    fn texts_and_truths() {
        let text = InputSpec::text("text", "");
        check(&text, json!(5), Ok("5".into()));
        check(&text, json!({"a": 1}), Ok("{'a': 1}".into()));
        check(&text, json!(null), Ok("None".into()));
        let flag = InputSpec::boolean("flag", true);
        for (value, expected) in [
            (json!("false"), true),
            (json!(""), false),
            (json!(0), false),
            (json!(0.5), true),
            (json!(null), false),
            (json!({"__value__": []}), false),
        ] {
            check(&flag, value, Ok(expected.into()));
        }
    }

    #[test]
    fn files_may_be_in_other_folders() {
        let mut file = InputSpec::file("image", "input");
        if let Some(Widget::Combo { options, upload, .. }) = &mut file.widget {
            *options = vec!["x.png".into()];
            *upload = Some("image".into());
        }
        for name in ["x.png", "x.png [input]", "x.png [output]", "sub/y.png", "sub/y.png [temp]"] {
            check(&file, json!(name), Ok(name.into()));
        }
        for name in ["y.png", "../y.png", "a/../../y.png [output]", "/y.png", "sub/"] {
            check(&file, json!(name), Err("custom_validation_failed"));
        }
        let mut camera = InputSpec::text("image", "");
        camera.socket = "WEBCAM".into();
        check(&camera, json!("webcam/1.png [temp]"), Ok("webcam/1.png [temp]".into()));
    }

    #[test]
    fn combos_and_sockets() {
        let combo = InputSpec::combo("crop", &["disabled", "1"]);
        check(&combo, json!("disabled"), Ok("disabled".into()));
        check(&combo, json!("center"), Err("value_not_in_list"));
        check(&combo, json!(1), Err("value_not_in_list"));
        let mut open = combo.clone();
        if let Some(Widget::Combo { open, .. }) = &mut open.widget {
            *open = true;
        }
        check(&open, json!("center"), Ok("center".into()));
        check(&open, json!(1), Err("value_not_in_list"));
        let options = ["png", "exr"].map(|key| DynamicOption::new(key, vec![])).to_vec();
        let format = InputSpec::dynamic_combo("format", options);
        check(&format, json!("exr"), Ok("exr".into()));
        check(&format, json!("gif"), Err("value_not_in_list"));
        check(&format, json!(null), Err("value_not_in_list"));
        check(&InputSpec::socket("any", "*"), json!(1.5), Ok(1.5.into()));
        check(&InputSpec::socket("any", "*"), json!(null), Err("invalid_input_type"));
        check(&InputSpec::socket("either", "INT,FLOAT"), json!(2), Ok(2.into()));
        check(&InputSpec::socket("model", "MODEL"), json!("x"), Err("bad_linked_input"));
    }
}
