//! CLIP's byte-pair encoding.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;

use super::normalize::normalize;

/// Token before the first token of a chunk.
pub(crate) const START: u32 = 49406;
/// Token after the last token of a chunk, also used as padding.
pub(crate) const END: u32 = 49407;

const START_TEXT: &str = "<|startoftext|>";
const END_TEXT: &str = "<|endoftext|>";
const MERGES: &str = include_str!("../../assets/clip_merges.txt");
/// Ids 0..256 are bytes inside a word, 256..512 the same bytes at its end; each merge makes the next id.
const FIRST_MERGE: u32 = 512;

static VOCABULARY: LazyLock<Vocabulary> = LazyLock::new(Vocabulary::new);

static WORDS: LazyLock<Regex> = LazyLock::new(|| {
    let pattern =
        r"(?i)<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+";
    Regex::new(pattern).expect("the pattern is valid")
});

/// Encodes text to token ids, without start and end tokens.
pub(super) fn encode(text: &str) -> Vec<u32> {
    let text = normalize(text);
    let mut ids = Vec::new();
    for word in WORDS.find_iter(&text) {
        match word.as_str() {
            START_TEXT => ids.push(START),
            END_TEXT => ids.push(END),
            word => VOCABULARY.encode_word(word, &mut ids),
        }
    }
    ids
}

struct Vocabulary {
    byte_ids: [u32; 256],
    merges: HashMap<(u32, u32), u32>,
}

impl Vocabulary {
    fn new() -> Self {
        let (byte_ids, byte_of) = byte_alphabet();
        let mut id_of: HashMap<String, u32> = HashMap::new();
        for (character, byte) in &byte_of {
            let id = byte_ids[usize::from(*byte)];
            id_of.insert(character.to_string(), id);
            id_of.insert(format!("{character}</w>"), id + 256);
        }
        let mut merges = HashMap::new();
        for (id, line) in (FIRST_MERGE..).zip(MERGES.lines()) {
            let (left, right) = line.split_once(' ').expect("every line of the asset holds a pair");
            merges.insert((id_of[left], id_of[right]), id);
            id_of.insert(format!("{left}{right}"), id);
        }
        Self { byte_ids, merges }
    }

    /// Merges the most frequent pair, everywhere in the word, until no known pair is left.
    fn encode_word(&self, word: &str, ids: &mut Vec<u32>) {
        let mut parts: Vec<u32> = word.bytes().map(|byte| self.byte_ids[usize::from(byte)]).collect();
        let Some(last) = parts.last_mut() else { return };
        *last += 256;
        loop {
            // Ids of merges grow with their rank, so the smallest result is the best pair.
            let best = parts.windows(2).filter_map(|pair| self.merges.get(&(pair[0], pair[1]))).min();
            let Some(&best) = best else { break };
            let mut write = 0;
            let mut read = 0;
            while read < parts.len() {
                let pair = (read + 1 < parts.len()).then(|| (parts[read], parts[read + 1]));
                let merged = pair.is_some_and(|pair| self.merges.get(&pair) == Some(&best));
                parts[write] = if merged { best } else { parts[read] };
                read += if merged { 2 } else { 1 };
                write += 1;
            }
            parts.truncate(write);
        }
        ids.extend(parts);
    }
}

/// Numbers the 256 bytes as the vocabulary does: printable ones first, in the order of their code, then the rest.
///
/// The merge list writes a byte as a printable character: itself, or, for the n-th unprintable one, U+0100 + n.
fn byte_alphabet() -> ([u32; 256], Vec<(char, u8)>) {
    let printable = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let plain = (0..=255u8).filter(printable).map(|byte| (char::from(byte), byte));
    let hidden = (0..=255u8).filter(|byte| !printable(byte));
    let shifted = hidden
        .zip(0x100u32..)
        .map(|(byte, code)| (char::from_u32(code).expect("these code points are Latin letters"), byte));
    let characters: Vec<(char, u8)> = plain.chain(shifted).collect();
    let mut ids = [0; 256];
    for (id, (_, byte)) in (0..).zip(&characters) {
        ids[usize::from(*byte)] = id;
    }
    (ids, characters)
}

#[cfg(test)]
mod tests {
    use super::{END, START, VOCABULARY, encode};

    #[test]
    fn encodes_known_words() {
        assert_eq!(encode("a photo of a cat"), [320, 1125, 539, 320, 2368]);
        assert_eq!(encode("<|startoftext|> x <|EndOfText|>"), [START, 343, END]);
        assert!(encode("").is_empty());
    }

    #[test]
    fn vocabulary_ends_before_the_special_tokens() {
        assert_eq!(VOCABULARY.merges.len(), 48894);
        assert_eq!(VOCABULARY.merges.values().max(), Some(&(START - 1)));
    }
}
