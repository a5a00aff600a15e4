//! The tokenizer against 63 recorded prompts.

use comfy_diffusion::text::{CHUNK_TOKENS, Token, WeightedToken, tokenize};

const END: WeightedToken = WeightedToken { token: Token::Id(49407), weight: 1.0 };

#[derive(serde::Deserialize)]
struct Case {
    prompt: String,
    /// A token of `None` is a vector from an embedding file.
    chunks: Vec<Vec<(Option<u32>, f64)>>,
}

#[test]
fn all_recorded_prompts_agree() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("../fixtures/clip_tokens.json")).unwrap();
    assert_eq!(cases.len(), 63);
    for case in cases {
        let found = tokenize(&case.prompt);
        let known = |&(id, weight): &(Option<u32>, f64)| Some(WeightedToken::new(id?, weight));
        let mut vectors = 0;
        let mut expected: Vec<Vec<WeightedToken>> = Vec::new();
        for chunk in &case.chunks {
            vectors += chunk.iter().filter(|(id, _)| id.is_none()).count();
            let mut tokens: Vec<_> = chunk.iter().filter_map(known).collect();
            tokens.resize(CHUNK_TOKENS, END);
            expected.push(tokens);
        }
        assert_eq!(found.chunks, expected, "{:?}", case.prompt);
        assert_eq!(found.warnings.is_empty(), !case.prompt.contains("embedding:"), "{:?}", case.prompt);
        assert!(vectors == 0 || !found.warnings.is_empty(), "{:?}", case.prompt);
    }
}

#[test]
fn long_words_end() {
    let prompt = "qz".repeat(20_000);
    assert!(tokenize(&prompt).chunks.len() > 100);
}
