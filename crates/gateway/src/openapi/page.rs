//! The document for people, without scripts and without anything from elsewhere.

use serde_json::Value;
use std::fmt::Write as _;

/// Writes the page of a document.
pub fn render(document: &Value) -> String {
    let mut page = String::from(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Comfy Services: API</title>\
         <style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
         code{background:#8882;padding:.1em .3em;border-radius:.2em}dt{margin-top:1rem}\
         :root{color-scheme:light dark}</style></head><body><h1>API</h1>\
         <p>For programs: <a href=\"/openapi.json\"><code>/openapi.json</code></a>. \
         Routes of ComfyUI are served under <code>/api</code> too.</p>",
    );
    for (tag, title) in [("v1", "Comfy Services"), ("comfyui", "ComfyUI")] {
        let _ = write!(page, "<h2>{title}</h2><dl>");
        let paths = document["paths"].as_object().into_iter().flatten();
        let operations = paths.flat_map(|(path, item)| {
            item.as_object().into_iter().flatten().map(move |(method, operation)| (path, method, operation))
        });
        for (path, method, operation) in operations.filter(|(.., operation)| operation["tags"][0] == tag) {
            describe(&mut page, path, method, operation);
        }
        page += "</dl>";
    }
    page + "</body></html>"
}

fn describe(page: &mut String, path: &str, method: &str, operation: &Value) {
    let text = |value: &Value| escape(value.as_str().unwrap_or_default());
    let _ = write!(
        page,
        "<dt><code>{} {}</code></dt><dd>{}",
        method.to_uppercase(),
        escape(path),
        text(&operation["summary"])
    );
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    for parameter in parameters.filter(|parameter| parameter["in"] != "path") {
        let _ = write!(
            page,
            "<br><code>{}</code>: {}",
            text(&parameter["name"]),
            text(&parameter["description"])
        );
    }
    let answers = operation["responses"].as_object().into_iter().flatten();
    let statuses: Vec<&str> = answers.map(|(status, _)| status.as_str()).collect();
    let _ = write!(page, "<br><small>Answers: {}</small></dd>", statuses.join(", "));
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
