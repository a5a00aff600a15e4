//! Category `utils/string`: plain texts. Positions count characters, as in Python.

use comfy_graph::{InputSpec, Literal, NodeSpec};
use comfy_stage::{Ctx, FnNode, Inputs, NodeError, Outputs};

use crate::state::ImageState;

use super::primitives::{one, text_area};

pub(super) const NODES: &[super::ImageNode] = &[
    &FnNode { spec: concatenate_spec, run: concatenate },
    &FnNode { spec: substring_spec, run: substring },
    &FnNode { spec: length_spec, run: length },
    &FnNode { spec: case_spec, run: case },
    &FnNode { spec: trim_spec, run: trim },
    &FnNode { spec: replace_spec, run: replace },
    &FnNode { spec: contains_spec, run: contains },
    &FnNode { spec: compare_spec, run: compare },
];

pub(super) const CATEGORY: &str = "utils/string";

/// The longest text that a node makes, in bytes.
pub(super) const MAX_BYTES: usize = 16 << 20;

/// Refuses a text that has become too long for a value on a link.
pub(super) fn text(text: String) -> Result<Outputs, NodeError> {
    if text.len() > MAX_BYTES {
        let (found, limit) = (text.len(), MAX_BYTES);
        return Err(NodeError::invalid(format!("the text would have {found} bytes, the limit is {limit}")));
    }
    one(text.into())
}

fn unknown_mode(mode: &str, known: &[&str]) -> NodeError {
    NodeError::invalid(format!("unknown mode `{mode}`; expected one of `{}`", known.join("`, `")))
}

fn concatenate_spec() -> NodeSpec {
    let inputs = vec![text_area("string_a"), text_area("string_b"), InputSpec::text("delimiter", "")];
    NodeSpec::new("StringConcatenate", CATEGORY, inputs, &["STRING"])
        .titled("Concatenate")
        .about("Joins two texts with something between them.")
}

fn concatenate(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    text([inputs.text("string_a")?, inputs.text("string_b")?].join(inputs.text("delimiter")?))
}

fn substring_spec() -> NodeSpec {
    let position = |name| InputSpec::int(name, 0, (i64::MIN.into(), i64::MAX.into()), 1);
    let inputs = vec![
        text_area("string"),
        position("start").tooltip("The first character that is kept. Negative numbers count from the end."),
        position("end").tooltip("The first character that is not kept any more."),
    ];
    NodeSpec::new("StringSubstring", CATEGORY, inputs, &["STRING"])
        .titled("Substring")
        .about("Takes a part of a text.")
}

fn substring(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let string = inputs.text("string")?;
    let count = string.chars().count() as i128;
    let place = |position: i128| {
        let from_start = if position < 0 { position + count } else { position };
        from_start.clamp(0, count) as usize
    };
    let (start, end) = (place(inputs.int("start")?), place(inputs.int("end")?));
    text(string.chars().skip(start).take(end.saturating_sub(start)).collect())
}

fn length_spec() -> NodeSpec {
    NodeSpec::new("StringLength", CATEGORY, vec![text_area("string")], &["INT"])
        .naming(&["length"])
        .titled("Length")
        .about("Counts the characters of a text.")
}

fn length(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    one(Literal::Int(inputs.text("string")?.chars().count() as i128))
}

const CASES: [&str; 4] = ["UPPERCASE", "lowercase", "Capitalize", "Title Case"];

fn case_spec() -> NodeSpec {
    let inputs = vec![text_area("string"), InputSpec::combo("mode", &CASES)];
    NodeSpec::new("CaseConverter", CATEGORY, inputs, &["STRING"])
        .titled("Case Converter")
        .about("Changes letters to upper or lower case.")
}

fn case(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let string = inputs.text("string")?;
    match inputs.text("mode")? {
        "UPPERCASE" => text(string.to_uppercase()),
        "lowercase" => text(string.to_lowercase()),
        "Capitalize" => text(capitalized(string)),
        "Title Case" => text(titled(string)),
        other => Err(unknown_mode(other, &CASES)),
    }
}

fn capitalized(string: &str) -> String {
    let mut characters = string.chars();
    let first = characters.next().into_iter().flat_map(char::to_uppercase).collect::<String>();
    first + &characters.as_str().to_lowercase()
}

/// A letter after anything but a letter becomes large, every other small.
fn titled(string: &str) -> String {
    let mut out = String::with_capacity(string.len());
    let mut in_word = false;
    for character in string.chars() {
        if in_word {
            out.extend(character.to_lowercase());
        } else {
            out.extend(character.to_uppercase());
        }
        in_word = character.is_uppercase() || character.is_lowercase();
    }
    out
}

const SIDES: [&str; 3] = ["Both", "Left", "Right"];

fn trim_spec() -> NodeSpec {
    let inputs = vec![text_area("string"), InputSpec::combo("mode", &SIDES)];
    NodeSpec::new("StringTrim", CATEGORY, inputs, &["STRING"])
        .titled("Trim")
        .about("Takes blanks and line ends away from the ends of a text.")
}

fn trim(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let string = inputs.text("string")?;
    // Python counts four separators of old computers among the blanks.
    let is_blank = |c: char| c.is_whitespace() || ('\x1c'..='\x1f').contains(&c);
    match inputs.text("mode")? {
        "Both" => text(string.trim_matches(is_blank).to_owned()),
        "Left" => text(string.trim_start_matches(is_blank).to_owned()),
        "Right" => text(string.trim_end_matches(is_blank).to_owned()),
        other => Err(unknown_mode(other, &SIDES)),
    }
}

fn replace_spec() -> NodeSpec {
    let inputs = vec![text_area("string"), text_area("find"), text_area("replace")];
    NodeSpec::new("StringReplace", CATEGORY, inputs, &["STRING"])
        .titled("Replace")
        .about("Replaces every occurrence of a text.")
}

fn replace(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let (string, find, replace) = (inputs.text("string")?, inputs.text("find")?, inputs.text("replace")?);
    // Known before it is made: a short text may ask for a very long one.
    let found = string.matches(find).count();
    let bytes = found.saturating_mul(replace.len()).saturating_add(string.len());
    if bytes > MAX_BYTES + found.saturating_mul(find.len()) {
        return Err(NodeError::invalid(format!(
            "the text would be longer than the limit of {MAX_BYTES} bytes"
        )));
    }
    text(string.replace(find, replace))
}

fn contains_spec() -> NodeSpec {
    let inputs =
        vec![text_area("string"), text_area("substring"), InputSpec::boolean("case_sensitive", true)];
    NodeSpec::new("StringContains", CATEGORY, inputs, &["BOOLEAN"])
        .naming(&["contains"])
        .titled("Contains")
        .about("Tells whether a text holds another.")
}

/// The texts of two inputs, in lower case unless the case counts.
fn pair(inputs: &Inputs, first: &str, second: &str) -> Result<(String, String), NodeError> {
    let (first, second) = (inputs.text(first)?, inputs.text(second)?);
    if inputs.boolean("case_sensitive")? {
        return Ok((first.to_owned(), second.to_owned()));
    }
    Ok((first.to_lowercase(), second.to_lowercase()))
}

fn contains(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let (string, part) = pair(inputs, "string", "substring")?;
    one(Literal::Bool(string.contains(&part)))
}

const COMPARISONS: [&str; 3] = ["Starts With", "Ends With", "Equal"];

fn compare_spec() -> NodeSpec {
    let inputs = vec![
        text_area("string_a"),
        text_area("string_b"),
        InputSpec::combo("mode", &COMPARISONS),
        InputSpec::boolean("case_sensitive", true),
    ];
    NodeSpec::new("StringCompare", CATEGORY, inputs, &["BOOLEAN"])
        .titled("Compare")
        .about("Tells whether a text begins or ends with another, or is the same.")
}

fn compare(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let (a, b) = pair(inputs, "string_a", "string_b")?;
    let holds = match inputs.text("mode")? {
        "Starts With" => a.starts_with(&b),
        "Ends With" => a.ends_with(&b),
        "Equal" => a == b,
        other => return Err(unknown_mode(other, &COMPARISONS)),
    };
    one(Literal::Bool(holds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_those_of_python() {
        assert_eq!(titled("they're bill's friends 3rd x_y"), "They'Re Bill'S Friends 3Rd X_Y");
        assert_eq!(capitalized("hELLO wORLD"), "Hello world");
        assert_eq!(capitalized(""), "");
        assert_eq!(titled("ÉCOLE élan"), "École Élan");
    }
}
