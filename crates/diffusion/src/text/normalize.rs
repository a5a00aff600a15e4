//! Cleans text the way CLIP's tokenizer was trained on it.

use std::sync::LazyLock;

use regex::Regex;
use unicode_normalization::UnicodeNormalization;

/// Removes control characters, normalises to NFC, lowercases, and separates words by single spaces.
///
/// CJK ideographs become words of their own.
pub(super) fn normalize(text: &str) -> String {
    static CONTROL: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"[\p{C}\x{FFFD}--\t\n\r]").expect("the pattern is valid"));
    let cleaned = CONTROL.replace_all(text, "");
    let mut spaced = String::with_capacity(cleaned.len());
    for character in cleaned.chars() {
        if is_cjk_ideograph(character) {
            spaced.extend([' ', character, ' ']);
        } else {
            spaced.push(character);
        }
    }
    let composed: String = spaced.nfc().collect();
    let words: Vec<String> = composed.split_whitespace().map(str::to_lowercase).collect();
    words.join(" ")
}

fn is_cjk_ideograph(character: char) -> bool {
    matches!(
        u32::from(character),
        0x3400..=0x4DBF
            | 0x4E00..=0x9FFF
            | 0xF900..=0xFAFF
            | 0x20000..=0x2A6DF
            | 0x2A700..=0x2B81F
            | 0x2B820..=0x2CEAF
            | 0x2F800..=0x2FA1F
    )
}

#[cfg(test)]
mod tests {
    use super::normalize;

    #[test]
    fn cleans_case_space_and_control() {
        for (text, expected) in [
            ("  A\tB\n c ", "a b c"),
            ("a\0b", "ab"),
            ("zero\u{200b}width", "zerowidth"),
            ("e\u{301}", "\u{e9}"),
            ("x日本y", "x 日 本 y"),
            ("", ""),
        ] {
            assert_eq!(normalize(text), expected, "{text:?}");
        }
    }
}
