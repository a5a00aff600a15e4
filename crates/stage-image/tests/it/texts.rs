//! Strings, regular expressions, primitives and `PreviewAny`.

use comfy_graph::Literal;
use comfy_stage::Data;
use serde_json::{Value, json};

use crate::{Stage, literal, node};

/// Runs one node on plain inputs; every input of its class must be given or have a default.
async fn run(stage: &mut Stage, class: &str, inputs: &Value) -> Result<Literal, String> {
    let mut bindings = Vec::new();
    for input in &stage.spec(class).await.inputs {
        let given = inputs.get(&input.name).and_then(Literal::from_json);
        let value = given.or_else(|| input.widget.as_ref().and_then(|widget| widget.default_literal()));
        bindings.push((input.name.clone(), literal(value.unwrap_or_else(|| panic!("no `{}`", input.name)))));
    }
    let bindings = bindings.iter().map(|(name, binding)| (name.as_str(), binding.clone())).collect();
    let ran = stage.run("job", vec![node("1", class, &[0], bindings)]).await;
    if let Some((_, message)) = ran.failure {
        return Err(message);
    }
    match stage.output(&ran, "1", 0).await {
        Data::Literal(literal) => Ok(literal),
        other => panic!("expected a constant, got {}", other.kind()),
    }
}

/// What CPython 3.11 gives for the same calls.
#[tokio::test]
async fn texts_are_changed_as_in_python() {
    let mut stage = Stage::start().await;
    let text = "Zoë said:\n  \"1 and 22\"\t";
    for (class, inputs, expected) in [
        ("StringConcatenate", json!({"string_a": "a", "string_b": "b", "delimiter": ", "}), json!("a, b")),
        ("StringSubstring", json!({"string": "naïve", "start": 1, "end": 3}), json!("aï")),
        ("StringSubstring", json!({"string": "naïve", "start": -2, "end": 100}), json!("ve")),
        ("StringSubstring", json!({"string": "naïve", "start": 3, "end": -4}), json!("")),
        ("StringLength", json!({"string": "naïve 🎨"}), json!(7)),
        ("CaseConverter", json!({"string": "straße", "mode": "UPPERCASE"}), json!("STRASSE")),
        ("CaseConverter", json!({"string": "ÀB c", "mode": "lowercase"}), json!("àb c")),
        ("CaseConverter", json!({"string": "hello World", "mode": "Capitalize"}), json!("Hello world")),
        ("CaseConverter", json!({"string": "it's a 3rd x", "mode": "Title Case"}), json!("It'S A 3Rd X")),
        ("StringTrim", json!({"string": " \n a b\t\u{3000}", "mode": "Both"}), json!("a b")),
        ("StringTrim", json!({"string": "  a ", "mode": "Left"}), json!("a ")),
        ("StringTrim", json!({"string": "  a ", "mode": "Right"}), json!("  a")),
        ("StringReplace", json!({"string": "aXbX", "find": "X", "replace": "--"}), json!("a--b--")),
        ("StringReplace", json!({"string": "abc", "find": "", "replace": "-"}), json!("-a-b-c-")),
        ("StringContains", json!({"string": text, "substring": "SAID"}), json!(false)),
        (
            "StringContains",
            json!({"string": text, "substring": "SAID", "case_sensitive": false}),
            json!(true),
        ),
        ("StringCompare", json!({"string_a": "Abc", "string_b": "ab", "mode": "Starts With"}), json!(false)),
        (
            "StringCompare",
            json!({"string_a": "Abc", "string_b": "ab", "mode": "Starts With", "case_sensitive": false}),
            json!(true),
        ),
        ("StringCompare", json!({"string_a": "Abc", "string_b": "bc", "mode": "Ends With"}), json!(true)),
        ("StringCompare", json!({"string_a": "a", "string_b": "a ", "mode": "Equal"}), json!(false)),
        ("RegexMatch", json!({"string": text, "regex_pattern": "SAID:$"}), json!(false)),
        ("RegexMatch", json!({"string": text, "regex_pattern": "SAID:$", "multiline": true}), json!(true)),
        ("RegexMatch", json!({"string": text, "regex_pattern": "said.*22"}), json!(false)),
        ("RegexMatch", json!({"string": text, "regex_pattern": "said.*22", "dotall": true}), json!(true)),
        ("RegexExtract", json!({"string": text, "regex_pattern": "\\d+", "mode": "First Match"}), json!("1")),
        (
            "RegexExtract",
            json!({"string": text, "regex_pattern": "\\d+", "mode": "All Matches"}),
            json!("1\n22"),
        ),
        (
            "RegexExtract",
            json!({"string": "a=1,b=2", "regex_pattern": "(\\w)=(\\d)", "mode": "All Matches"}),
            json!("a\nb"),
        ),
        (
            "RegexExtract",
            json!({"string": "a=1,b=2", "regex_pattern": "(\\w)=(\\d)", "mode": "First Group", "group_index": 2}),
            json!("1"),
        ),
        (
            "RegexExtract",
            json!({"string": "a=1,b=2", "regex_pattern": "(\\w)=(\\d)", "mode": "All Groups", "group_index": 2}),
            json!("1\n2"),
        ),
        (
            "RegexExtract",
            json!({"string": "a", "regex_pattern": "a", "mode": "First Group", "group_index": 5}),
            json!(""),
        ),
        (
            "RegexReplace",
            json!({"string": "a=1,b=2", "regex_pattern": "(\\w)=(\\d)", "replace": "\\2:\\g<1>"}),
            json!("1:a,2:b"),
        ),
        (
            "RegexReplace",
            json!({"string": "aaa", "regex_pattern": "a", "replace": "b", "count": 2}),
            json!("bba"),
        ),
        ("RegexReplace", json!({"string": "abc", "regex_pattern": "x*", "replace": "-"}), json!("-a-b-c-")),
        ("PrimitiveString", json!({"value": "x"}), json!("x")),
        ("PrimitiveStringMultiline", json!({"value": "x\ny"}), json!("x\ny")),
        ("PrimitiveInt", json!({"value": i64::MAX}), json!(i64::MAX)),
        ("PrimitiveFloat", json!({"value": -0.25}), json!(-0.25)),
        ("PrimitiveBoolean", json!({"value": true}), json!(true)),
    ] {
        let found = run(&mut stage, class, &inputs).await;
        assert_eq!(found, Ok(Literal::from_json(&expected).unwrap()), "{class} {inputs}");
    }
}

#[tokio::test]
async fn what_cannot_be_done_is_said() {
    let mut stage = Stage::start().await;
    let many = "a".repeat(1 << 20);
    for (class, inputs, part) in [
        ("RegexMatch", json!({"string": "a", "regex_pattern": "("}), "not a regular expression"),
        (
            "RegexMatch",
            json!({"string": "a".repeat(64) + "b", "regex_pattern": "^(a|a)*\\1$"}),
            "could not be run",
        ),
        ("RegexReplace", json!({"string": "a", "regex_pattern": "a", "replace": "\\1"}), "group 1"),
        ("CaseConverter", json!({"string": "a", "mode": "x"}), "unknown mode"),
        ("StringReplace", json!({"string": many, "find": "a", "replace": "b".repeat(1000)}), "limit"),
    ] {
        let message = run(&mut stage, class, &inputs).await.unwrap_err();
        assert!(message.contains(part), "{class}: {message}");
    }
}

#[tokio::test]
async fn anything_can_be_looked_at() {
    let mut stage = Stage::start().await;
    let image = stage.image([1, 2, 3, 3], vec![0.5; 18]).await;
    for (source, expected) in [
        (literal("a\nb"), "a\nb"),
        (literal(Literal::Bool(true)), "True"),
        (literal(Literal::Float(1e-7)), "1e-07"),
        (literal(Literal::Float(2.0)), "2.0"),
        (literal(12), "12"),
        (image, "IMAGE [1, 2, 3, 3]"),
    ] {
        let ran = stage.run("job", vec![node("1", "PreviewAny", &[], vec![("source", source)])]).await;
        assert!(ran.failure.is_none(), "{:?}", ran.failure);
        let ui: Value = serde_json::from_str(&ran.outputs["1"].ui_json).unwrap();
        assert_eq!(ui, json!({"text": [expected]}));
    }
}
