//! Prompt syntax: weights in parentheses, escapes, and references to embeddings.
//!
//! # Source
//! The syntax of ComfyUI: `(text)` weighs 1.1 times as much, nesting multiplies, `(text:1.3)` sets the weight,
//! `\(` and `\)` are plain characters, square brackets mean nothing, `embedding:name` names an embedding file.

/// Weight of a pair of parentheses without a number.
const EMPHASIS: f64 = 1.1;
/// Parentheses nested deeper than this are plain text; it bounds the work on a hostile prompt.
const MAX_NESTING: usize = 64;
const EMBEDDING: &str = "embedding:";

/// A stretch of text of one weight, with escapes removed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Segment {
    pub text: String,
    pub weight: f64,
}

/// What a segment is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    /// The name, and the text that followed it after white space.
    Embedding {
        name: String,
        rest: String,
    },
}

/// Splits a prompt into stretches of equal weight.
pub(super) fn parse_weights(prompt: &str) -> Vec<Segment> {
    let mut segments = Vec::new();
    // Depth first with an explicit stack, because the nesting is chosen by whoever writes the prompt.
    let mut pending = vec![(prompt, 1.0, 0)];
    while let Some((text, weight, depth)) = pending.pop() {
        if depth > MAX_NESTING {
            segments.push(Segment { text: unescape(text), weight });
            continue;
        }
        let parts = split_parentheses(text);
        if let [only] = parts[..]
            && bracketed(only).is_none()
        {
            segments.push(Segment { text: unescape(only), weight });
            continue;
        }
        for part in parts.into_iter().rev() {
            match bracketed(part) {
                Some(inner) => {
                    let (inner, inner_weight) = explicit_weight(inner).unwrap_or((inner, weight * EMPHASIS));
                    pending.push((inner, inner_weight, depth + 1));
                }
                None => pending.push((part, weight, depth + 1)),
            }
        }
    }
    segments
}

/// Splits text at its outermost parentheses, which stay with what they enclose.
fn split_parentheses(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut depth = 0i64;
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        let plain = std::mem::replace(&mut escaped, character == '\\');
        match character {
            '(' if !plain => {
                if depth == 0 && at > start {
                    parts.push(&text[start..at]);
                    start = at;
                }
                depth += 1;
            }
            ')' if !plain => {
                depth -= 1;
                if depth == 0 {
                    parts.push(&text[start..=at]);
                    start = at + 1;
                }
            }
            _ => {}
        }
    }
    if start < text.len() {
        parts.push(&text[start..]);
    }
    parts
}

fn bracketed(part: &str) -> Option<&str> {
    let inner = part.strip_prefix('(')?.strip_suffix(')')?;
    (!inner.ends_with('\\')).then_some(inner)
}

/// Splits `text:1.3`; a weight must be a finite number, anything else belongs to the text.
fn explicit_weight(inner: &str) -> Option<(&str, f64)> {
    let (text, number) = inner.rsplit_once(':')?;
    let weight = number.trim().parse::<f64>().ok().filter(|weight| weight.is_finite())?;
    (!text.is_empty()).then_some((text, weight))
}

fn unescape(text: &str) -> String {
    text.replace("\\(", "(").replace("\\)", ")")
}

/// Separates references to embeddings from text.
pub(super) fn split_embeddings(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = text;
    loop {
        // A reference starts at the beginning or after a space or line break.
        let next = [" embedding:", "\nembedding:"].iter().filter_map(|mark| rest.find(mark)).min();
        let (piece, tail) = next.map_or((rest, None), |at| (&rest[..at], Some(&rest[at + 1..])));
        if let Some(reference) = piece.strip_prefix(EMBEDDING) {
            let mut words = reference.split_whitespace();
            let name = words.next().unwrap_or_default().to_owned();
            pieces.push(Piece::Embedding { name, rest: words.collect::<Vec<_>>().join(" ") });
        } else if !piece.is_empty() {
            pieces.push(Piece::Text(piece.to_owned()));
        }
        match tail {
            Some(tail) => rest = tail,
            None => return pieces,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Piece, parse_weights, split_embeddings};

    fn check(prompt: &str, expected: &[(&str, f64)]) {
        let segments = parse_weights(prompt);
        let found: Vec<_> = segments.iter().map(|segment| (segment.text.as_str(), segment.weight)).collect();
        assert_eq!(found, expected, "{prompt:?}");
    }

    #[test]
    fn weights_follow_the_parentheses() {
        check("", &[]);
        check("a (b) c", &[("a ", 1.0), ("b", 1.1), (" c", 1.0)]);
        check("((a))", &[("a", 1.1 * 1.1)]);
        check("(a (b:2.0) c:0.5)", &[("a ", 0.5), ("b", 2.0), (" c", 0.5)]);
        check("(a:-1)", &[("a", -1.0)]);
        check("(:2)", &[(":2", 1.1)]);
        check("(a:nan)", &[("a:nan", 1.1)]);
        check("()", &[]);
    }

    #[test]
    fn unbalanced_and_escaped_parentheses_are_text() {
        check("(open", &[("(open", 1.0)]);
        check("close)", &[("close)", 1.0)]);
        check("((two)", &[("(two", 1.1)]);
        check(r"a \(b\)", &[("a (b)", 1.0)]);
        check(r"(a\)", &[("(a)", 1.0)]);
    }

    #[test]
    fn deep_nesting_ends() {
        let deep = "(".repeat(100_000) + "a" + &")".repeat(100_000);
        assert_eq!(parse_weights(&deep).len(), 1);
    }

    #[test]
    fn embeddings_are_separated() {
        let embedding = |name: &str, rest: &str| Piece::Embedding { name: name.into(), rest: rest.into() };
        assert_eq!(split_embeddings("embedding:a"), [embedding("a", "")]);
        assert_eq!(
            split_embeddings("x embedding:a.pt, cat\nembedding:b"),
            [Piece::Text("x".into()), embedding("a.pt,", "cat"), embedding("b", "")]
        );
        assert_eq!(split_embeddings("xembedding:a"), [Piece::Text("xembedding:a".into())]);
    }
}
