//! Regular expressions and replacement texts as Python writes them.

use fancy_regex::{Captures, Regex, RegexBuilder};

/// Steps back that one search may take: a pattern of a stranger must not keep the stage busy for ever.
const BACKTRACK_LIMIT: usize = 1_000_000;

/// The flags that nodes offer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flags {
    pub(crate) case_insensitive: bool,
    pub(crate) multiline: bool,
    pub(crate) dot_all: bool,
}

/// Compiles a Python pattern.
///
/// # Errors
/// A text that says what is wrong with the pattern.
pub(crate) fn compile(pattern: &str, flags: Flags) -> Result<Regex, String> {
    RegexBuilder::new(&translated(pattern, flags.multiline))
        .case_insensitive(flags.case_insensitive)
        .multi_line(flags.multiline)
        .dot_matches_new_line(flags.dot_all)
        .backtrack_limit(BACKTRACK_LIMIT)
        .build()
        .map_err(|error| format!("`{pattern}` is not a regular expression: {error}"))
}

/// Rewrites what this engine and Python read differently: `\Z`, `$` before a last line end, and the signs that mean
/// set operations inside of brackets.
fn translated(pattern: &str, multiline: bool) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut characters = pattern.chars().peekable();
    // Whether this is inside of brackets, and whether a closing one would still be an ordinary sign.
    let (mut in_class, mut at_start) = (false, false);
    while let Some(character) = characters.next() {
        let was_start = std::mem::take(&mut at_start);
        match character {
            '\\' => match characters.next() {
                Some('Z') if !in_class => out += "\\z",
                Some(escaped) => out.extend(['\\', escaped]),
                None => out.push('\\'),
            },
            '[' if !in_class => {
                (in_class, at_start) = (true, true);
                out.push('[');
                if characters.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
            }
            ']' if in_class && was_start => out += "\\]",
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '[' | '&' | '~' if in_class => out.extend(['\\', character]),
            '$' if !in_class && !multiline => out += "(?=\\n?\\z)",
            _ => out.push(character),
        }
    }
    out
}

/// A replacement text, read once for all matches.
#[derive(Debug, PartialEq)]
pub(crate) struct Template(Vec<Piece>);

#[derive(Debug, PartialEq)]
enum Piece {
    Text(String),
    Group(usize),
}

impl Template {
    /// Reads `\1`, `\g<1>`, `\g<name>`, octal numbers and the escapes of control characters.
    ///
    /// # Errors
    /// A text that names the escape or group that does not exist.
    pub(crate) fn parse(template: &str, regex: &Regex) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = template;
        while let Some(start) = rest.find('\\') {
            if start > 0 {
                pieces.push(Piece::Text(rest[..start].to_owned()));
            }
            let (piece, length) = escape(&rest[start + 1..], regex)?;
            pieces.push(piece);
            rest = &rest[start + 1 + length..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        let groups = regex.captures_len();
        match pieces.iter().find(|piece| matches!(piece, Piece::Group(index) if *index >= groups)) {
            Some(Piece::Group(index)) => {
                Err(format!("the replacement names group {index}, the pattern has {}", groups - 1))
            }
            _ => Ok(Self(pieces)),
        }
    }

    /// Writes the replacement of one match. A group that took no part is empty.
    pub(crate) fn expand(&self, captures: &Captures<'_>, out: &mut String) {
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Group(index) => out.push_str(captures.get(*index).map_or("", |part| part.as_str())),
            }
        }
    }
}

/// Reads what follows a backslash and says how many bytes it is long.
fn escape(rest: &str, regex: &Regex) -> Result<(Piece, usize), String> {
    let text = |character: char| Piece::Text(character.into());
    let Some(first) = rest.chars().next() else { return Err("the replacement ends with a backslash".into()) };
    let control = match first {
        'g' => return group_name(rest, regex),
        '0'..='9' => return Ok(number(rest)),
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        '\\' => '\\',
        letter if letter.is_ascii_alphabetic() => {
            return Err(format!("the replacement has an unknown escape `\\{letter}`"));
        }
        // Any other sign keeps its backslash.
        other => return Ok((Piece::Text(format!("\\{other}")), other.len_utf8())),
    };
    Ok((text(control), 1))
}

/// Reads a group of one or two digits, or an octal number: one that starts with 0 or has three octal digits.
fn number(rest: &str) -> (Piece, usize) {
    let octal = |length: usize| {
        let digits =
            rest.as_bytes().iter().take(length).take_while(|digit| (b'0'..=b'7').contains(digit)).count();
        (u32::from_str_radix(&rest[..digits], 8).unwrap_or(0), digits)
    };
    let (code, digits) = octal(3);
    if rest.starts_with('0') || (digits == 3 && code <= 0o377) {
        let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        return (Piece::Text(character.into()), digits.max(1));
    }
    let digits = rest.bytes().take(2).take_while(u8::is_ascii_digit).count();
    (Piece::Group(rest[..digits].parse().unwrap_or(usize::MAX)), digits)
}

fn group_name(rest: &str, regex: &Regex) -> Result<(Piece, usize), String> {
    let name = rest.strip_prefix("g<").and_then(|rest| rest.split_once('>')).map(|(name, _)| name);
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Err("`\\g` in the replacement must be followed by `<name>`".into());
    };
    let by_name = || regex.capture_names().position(|known| known == Some(name));
    let index = name.parse().ok().or_else(by_name);
    let index = index.ok_or_else(|| format!("the replacement names an unknown group `{name}`"))?;
    Ok((Piece::Group(index), name.len() + 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Flags = Flags { case_insensitive: false, multiline: false, dot_all: false };

    #[test]
    fn patterns_mean_what_they_mean_in_python() {
        for (pattern, text, expected) in [
            (r"a$", "a\n", true),
            (r"a\Z", "a\n", false),
            (r"[]x]", "]", true),
            (r"^[^]]$", "]", false),
            (r"[a&&b]", "&", true),
            (r"[[]", "[", true),
            (r"[a-c]+\d", "cab7", true),
            (r"(\w)\1", "abba", true),
            (r"(?P<q>['\x22]).*(?P=q)", "say 'x'", true),
            (r"(?<=\$)\d+", "$5", true),
            (r"[$]", "$", true),
            (r"\$", "$", true),
        ] {
            let found = compile(pattern, PLAIN).unwrap().is_match(text).unwrap();
            assert_eq!(found, expected, "{pattern} {text:?}");
        }
        assert!(compile("(", PLAIN).unwrap_err().contains("not a regular expression"));
        let greedy = compile("(a+)+$(?!x)", PLAIN).unwrap();
        assert!(greedy.is_match(&("a".repeat(40) + "b")).is_err());
    }

    #[test]
    fn templates_are_those_of_python() {
        let regex = compile(r"(?P<first>\w)(\w)?", PLAIN).unwrap();
        for (template, expected) in [
            (r"<\1\2>", "<ab>"),
            (r"\g<first>\g<2>\g<0>", "abab"),
            (r"\n\t\\", "\n\t\\"),
            (r"\101\0", "A\0"),
            (r"\.", r"\."),
            ("$1", "$1"),
        ] {
            let mut out = String::new();
            let captures = regex.captures("ab").unwrap().unwrap();
            Template::parse(template, &regex).unwrap().expand(&captures, &mut out);
            assert_eq!(out, expected, "{template}");
        }
        for wrong in [r"\3", r"\q", r"\g<x>", r"\g", "\\"] {
            assert!(Template::parse(wrong, &regex).is_err(), "{wrong}");
        }
    }
}
