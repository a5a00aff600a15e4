//! What a saved file carries besides its content: the workflow, and whatever the page asks to store.

use crate::python_json;
use serde_json::Value;

/// One of the two texts is not what it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotJson {
    #[error("`{name}` is not JSON: {reason}")]
    Malformed { name: &'static str, reason: String },
    #[error("`extra_pnginfo` must be a JSON object")]
    NoObject,
}

/// Collects `prompt`, then every key of `extra_pnginfo`, usually `workflow`; texts that are empty give nothing.
///
/// # Source
/// Same names as ComfyUI, and the same bytes: JSON as Python writes it.
///
/// # Errors
/// When a text is not JSON or `extra_pnginfo` is no object.
pub fn workflow_texts(prompt: &str, extra_pnginfo: &str) -> Result<Vec<(String, String)>, NotJson> {
    let mut texts = Vec::new();
    if let Some(prompt) = parse("prompt", prompt)? {
        texts.push(("prompt".to_owned(), python_json::dumps(&prompt)));
    }
    match parse("extra_pnginfo", extra_pnginfo)? {
        None | Some(Value::Null) => {}
        Some(Value::Object(extra)) => {
            texts.extend(extra.iter().map(|(key, value)| (key.clone(), python_json::dumps(value))));
        }
        Some(_) => return Err(NotJson::NoObject),
    }
    Ok(texts)
}

fn parse(name: &'static str, text: &str) -> Result<Option<Value>, NotJson> {
    if text.is_empty() {
        return Ok(None);
    }
    let malformed = |error: serde_json::Error| NotJson::Malformed { name, reason: error.to_string() };
    serde_json::from_str(text).map(Some).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_named_and_written_as_python_does() {
        let texts = workflow_texts(r#"{"3":{"a":1}}"#, r#"{"workflow":{"nodes":[]},"more":2}"#).unwrap();
        let expected = [("prompt", r#"{"3": {"a": 1}}"#), ("workflow", r#"{"nodes": []}"#), ("more", "2")];
        assert_eq!(texts, expected.map(|(name, text)| (name.to_owned(), text.to_owned())));
        assert_eq!(workflow_texts("", "null"), Ok(Vec::new()));
        assert_eq!(workflow_texts("", "[]"), Err(NotJson::NoObject));
        assert!(workflow_texts("{", "").unwrap_err().to_string().starts_with("`prompt` is not JSON"));
    }
}
