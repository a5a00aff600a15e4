//! Category `utils/string`: regular expressions, with Python's rules.

use comfy_graph::{InputSpec, Literal, NodeSpec};
use comfy_stage::{Ctx, FnNode, Inputs, NodeError, Outputs};
use fancy_regex::{Captures, Regex};

use crate::python_regex::{Flags, Template, compile};
use crate::state::ImageState;

use super::primitives::{one, text_area};
use super::strings::{CATEGORY, MAX_BYTES, text};

pub(super) const NODES: &[super::ImageNode] = &[
    &FnNode { spec: match_spec, run: matches },
    &FnNode { spec: extract_spec, run: extract },
    &FnNode { spec: replace_spec, run: replace },
];

fn pattern_inputs() -> Vec<InputSpec> {
    vec![text_area("string"), text_area("regex_pattern")]
}

fn flag_inputs() -> [InputSpec; 3] {
    [
        InputSpec::boolean("case_insensitive", true),
        InputSpec::boolean("multiline", false).tooltip("Lets ^ and $ match at every line."),
        InputSpec::boolean("dotall", false).tooltip("Lets a dot match line ends, too."),
    ]
}

/// The pattern with its flags; a flag that is not given has its default.
fn pattern(inputs: &Inputs) -> Result<Regex, NodeError> {
    let flag = |name, default| inputs.opt_boolean(name).map(|given| given.unwrap_or(default));
    let flags = Flags {
        case_insensitive: flag("case_insensitive", true)?,
        multiline: flag("multiline", false)?,
        dot_all: flag("dotall", false)?,
    };
    compile(inputs.text("regex_pattern")?, flags).map_err(NodeError::invalid)
}

/// A search that had to be given up is an error, not "no match".
fn gave_up(error: fancy_regex::Error) -> NodeError {
    NodeError::invalid(format!("the regular expression could not be run on this text: {error}"))
}

fn match_spec() -> NodeSpec {
    let inputs = [pattern_inputs(), flag_inputs().to_vec()].concat();
    NodeSpec::new("RegexMatch", CATEGORY, inputs, &["BOOLEAN"])
        .naming(&["matches"])
        .titled("Regex Match")
        .about("Tells whether a regular expression matches anywhere in a text.")
}

fn matches(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    one(Literal::Bool(pattern(inputs)?.is_match(inputs.text("string")?).map_err(gave_up)?))
}

const MODES: [&str; 4] = ["First Match", "All Matches", "First Group", "All Groups"];

fn extract_spec() -> NodeSpec {
    let mode = InputSpec::combo("mode", &MODES);
    let index = InputSpec::int("group_index", 1, (0, 100), 1).tooltip("Which group; 0 is the whole match.");
    let inputs = [pattern_inputs(), vec![mode], flag_inputs().to_vec(), vec![index]].concat();
    NodeSpec::new("RegexExtract", CATEGORY, inputs, &["STRING"])
        .titled("Regex Extract")
        .about("Takes what a regular expression matches out of a text, each match on its own line.")
}

fn extract(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let (regex, string) = (pattern(inputs)?, inputs.text("string")?);
    let index: usize = inputs.int_as("group_index")?;
    let groups = regex.captures_len() - 1;
    let group =
        |found: &Captures<'_>, index: usize| found.get(index).map_or("", |part| part.as_str()).to_owned();
    // As Python's `findall`: with groups in the pattern the first one is meant.
    let (index, only_first) = match inputs.text("mode")? {
        "First Match" => (0, true),
        "All Matches" => (groups.min(1), false),
        "First Group" => (index, true),
        "All Groups" => (index, false),
        other => {
            let known = MODES.join("`, `");
            return Err(NodeError::invalid(format!("unknown mode `{other}`; expected one of `{known}`")));
        }
    };
    if index > groups {
        return text(String::new());
    }
    let mut found = Vec::new();
    for captures in regex.captures_iter(string).take(if only_first { 1 } else { usize::MAX }) {
        found.push(group(&captures.map_err(gave_up)?, index));
    }
    text(found.join("\n"))
}

fn replace_spec() -> NodeSpec {
    let count = InputSpec::int("count", 0, (0, 100), 1).tooltip("The most replacements; 0 for all.");
    let optional = [flag_inputs().to_vec(), vec![count]].concat().into_iter().map(InputSpec::optional);
    let inputs = [pattern_inputs(), vec![text_area("replace")], optional.collect()].concat();
    NodeSpec::new("RegexReplace", CATEGORY, inputs, &["STRING"])
        .titled("Regex Replace")
        .about("Replaces what a regular expression matches. \\1 and \\g<name> stand for its groups.")
}

fn replace(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let (regex, string) = (pattern(inputs)?, inputs.text("string")?);
    let template = Template::parse(inputs.text("replace")?, &regex).map_err(NodeError::invalid)?;
    let limit = match inputs.opt_int("count")? {
        None | Some(0) => usize::MAX,
        Some(count) => usize::try_from(count).map_err(|_| NodeError::invalid("`count` is negative"))?,
    };
    let (mut out, mut end) = (String::new(), 0);
    for captures in regex.captures_iter(string).take(limit) {
        let captures = captures.map_err(gave_up)?;
        let Some(whole) = captures.get(0) else { continue };
        out += &string[end..whole.start()];
        template.expand(&captures, &mut out);
        end = whole.end();
        if out.len() > MAX_BYTES {
            return Err(NodeError::invalid(format!(
                "the text would be longer than the limit of {MAX_BYTES} bytes"
            )));
        }
    }
    out += &string[end..];
    text(out)
}
