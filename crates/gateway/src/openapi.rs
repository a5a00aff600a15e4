//! `/openapi.json` and `/docs`: what this server answers, for people and for generators of clients.
//!
//! One table ([`operations`]) says what there is. Tests hold it against the routers, so that a route without a row, or a
//! row without a route, cannot stay.

mod operations;
mod schemas;

use crate::app::Shared;
use axum::response::Html;
use axum::routing::get;
use axum::{Json, Router};
use operations::{Answer, Operation, all};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::sync::LazyLock;

static DOCUMENT: LazyLock<Value> = LazyLock::new(document);
static PAGE: LazyLock<String> = LazyLock::new(page);

pub fn router() -> Router<Shared> {
    Router::new()
        .route("/openapi.json", get(|| async { Json(&*DOCUMENT) }))
        .route("/docs", get(|| async { Html(PAGE.as_str()) }))
}

/// The OpenAPI 3.1 document.
fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in all() {
        // OpenAPI knows no parameter of several segments.
        let path = operation.path.replace("{*", "{");
        paths.entry(path).or_insert_with(|| json!({}))[operation.method] = describe(operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Comfy Services",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The `/v1` API, and ComfyUI's own API, whose routes are served under `/api` too.",
            "license": {"name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": "v1", "description": "Workflows, jobs, events."},
            {"name": "comfyui", "description": "What ComfyUI's page and clients ask."},
        ],
        "paths": paths,
        "components": {"schemas": schemas::all()},
    })
}

fn describe(operation: &Operation) -> Value {
    let in_path = operation.path.split('/').filter_map(|part| part.strip_prefix('{')).map(|part| {
        let name = part.trim_end_matches('}').trim_start_matches('*');
        json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})
    });
    let named = |place: &'static str| move |(name, text): &(&str, &str)| json!({"name": name, "in": place, "description": text, "schema": {"type": "string"}});
    let query = operation.query.iter().map(named("query"));
    let headers = operation.headers.iter().map(named("header"));
    let mut json = json!({
        "tags": [operation.tag()],
        "operationId": operation.id(),
        "summary": operation.summary,
        "parameters": in_path.chain(query).chain(headers).collect::<Vec<Value>>(),
        "responses": responses(operation),
    });
    if let Some(schema) = operation.body {
        let content = match schema {
            "Upload" => "multipart/form-data",
            "Bytes" => "application/octet-stream",
            _ => "application/json",
        };
        let is_needed = !operation.body_is_optional;
        json["requestBody"] =
            json!({"required": is_needed, "content": {content: {"schema": reference(schema)}}});
    }
    json
}

fn responses(operation: &Operation) -> Value {
    let mut responses = Map::new();
    let (status, response) = match operation.answer {
        Answer::Json(status, schema) => (status, content("application/json", reference(schema))),
        Answer::Empty(status) => (status, json!({"description": "Done."})),
        Answer::File(mime) => (200, content(mime, json!({"type": "string", "format": "binary"}))),
        Answer::Events => (200, content("text/event-stream", json!({"type": "string"}))),
        Answer::Socket => (101, json!({"description": "A WebSocket."})),
    };
    responses.insert(status.to_string(), response);
    for status in operation.errors {
        let mut response = content("application/json", reference(operation.error_schema()));
        response["description"] = operations::meaning(*status).into();
        responses.insert(status.to_string(), response);
    }
    Value::Object(responses)
}

fn content(mime: &str, schema: Value) -> Value {
    json!({"description": "The answer.", "content": {mime: {"schema": schema}}})
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

/// The same for people, without scripts.
fn page() -> String {
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
        for operation in all().iter().filter(|operation| operation.tag() == tag) {
            let Operation { method, path, summary, .. } = operation;
            let _ = write!(page, "<dt><code>{} {path}</code></dt><dd>{summary}", method.to_uppercase());
            for (name, text) in operation.query.iter().chain(operation.headers) {
                let _ = write!(page, "<br><code>{name}</code>: {text}");
            }
            page += "</dd>";
        }
        page += "</dl>";
    }
    page + "</body></html>"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Methods and paths in the source of a router.
    fn routes(source: &str, prefix: &str) -> BTreeSet<(String, String)> {
        let mut found = BTreeSet::new();
        // rustfmt may break a call over lines, so white space does not count.
        let plain: String = source.split_whitespace().collect();
        for call in plain.split(".route(\"").skip(1) {
            let (path, handlers) = call.split_once('"').unwrap();
            let handlers = handlers.split(".layer").next().unwrap();
            for method in ["get", "post", "patch", "delete", "put"] {
                if [",", "."].iter().any(|before| handlers.contains(&format!("{before}{method}("))) {
                    found.insert((method.into(), format!("{prefix}{path}")));
                }
            }
            if handlers.contains(",any(") {
                found.insert(("get".into(), format!("{prefix}{path}")));
            }
        }
        found
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let comfy = include_str!("comfy/mod.rs");
        let later = comfy.find("pub fn later_router").unwrap();
        let end = comfy.find("/// Writes a queue position").unwrap();
        let mut expected = routes(&comfy[..later], "");
        expected.extend(routes(&comfy[later..end], "/api"));
        expected.extend(routes(include_str!("v1/mod.rs"), ""));
        assert!(expected.len() > 60, "{expected:?}");
        let described: BTreeSet<(String, String)> =
            all().iter().map(|operation| (operation.method.into(), operation.path.into())).collect();
        assert_eq!(described.len(), all().len(), "two rows describe the same");
        let missing: Vec<_> = expected.difference(&described).collect();
        let wrong: Vec<_> = described.difference(&expected).collect();
        assert!(missing.is_empty() && wrong.is_empty(), "missing: {missing:?}; without a route: {wrong:?}");
    }

    #[test]
    fn references_and_ids_are_sound() {
        let document = document();
        let text = document.to_string();
        for part in text.split("\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
        let ids: BTreeSet<String> = all().iter().map(Operation::id).collect();
        assert_eq!(ids.len(), all().len());
    }
}
