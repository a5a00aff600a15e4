//! `/openapi.json` and `/docs`: what this server answers, for people and for generators of clients.
//!
//! Each handler says beside its code what it takes and answers. The routers are made of those descriptions, so that a
//! route without one cannot be.

pub mod failures;
pub mod page;

use crate::app::Shared;
use axum::Json;
use axum::response::Html;
use axum::routing::get;
use failures::{Error, JobsRefusal, Refusal};
use serde_json::Value;
use std::sync::Arc;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{Content, OneOfBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Comfy Services",
        description = "The `/v1` API, and ComfyUI's own API, whose routes are served under `/api` too.",
        license(name = "Apache-2.0 OR MIT", identifier = "Apache-2.0 OR MIT"),
    ),
    servers((url = "/")),
    tags(
        (name = "v1", description = "Workflows, jobs, events."),
        (name = "comfyui", description = "What ComfyUI's page and clients ask."),
    ),
    components(schemas(Error, Refusal, JobsRefusal)),
    modifiers(&Keys),
    // A server without keys asks for none.
    security((), ("key" = []), ("bearer" = []), ("basic" = [])),
)]
struct Head;

/// The ways in which a request carries an API key.
struct Keys;

impl utoipa::Modify for Keys {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_default();
        for (name, scheme) in [
            ("key", SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key")))),
            ("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer))),
            ("basic", SecurityScheme::Http(Http::new(HttpAuthScheme::Basic))),
        ] {
            components.add_security_scheme(name, scheme);
        }
    }
}

/// A document with everything but operations, to begin a router with.
pub fn head() -> OpenApi {
    <Head as utoipa::OpenApi>::openapi()
}

/// Routes of the document and of the page, which do not describe themselves.
pub fn routes(document: &OpenApi) -> axum::Router<Shared> {
    let document = Arc::new(finish(document));
    let page = Arc::new(page::render(&document));
    axum::Router::new()
        .route("/openapi.json", get(async move || Json((*document).clone())))
        .route("/docs", get(async move || Html(page.as_ref().clone())))
}

/// Adds what the routers and the layers around them add: names, and the refusals of every request.
fn finish(document: &OpenApi) -> Value {
    let mut document = document.clone();
    let paths = std::mem::take(&mut document.paths.paths);
    for (path, mut item) in paths {
        for (method, operation) in operations(&mut item) {
            operation.operation_id = Some(operation_id(method, &path));
            for (status, text) in failures::OF_LAYERS {
                refuse(operation, status, text);
            }
            for parameter in operation.parameters.iter_mut().flatten() {
                if let RefOr::T(parameter) = parameter {
                    // OpenAPI knows no parameter of several segments.
                    parameter.name = parameter.name.trim_start_matches('*').to_owned();
                }
            }
        }
        document.paths.paths.insert(path.replace("{*", "{"), item);
    }
    serde_json::to_value(document).expect("a document is made of texts and lists")
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (&'static str, &mut Operation)> {
    [
        ("get", item.get.as_mut()),
        ("post", item.post.as_mut()),
        ("put", item.put.as_mut()),
        ("patch", item.patch.as_mut()),
        ("delete", item.delete.as_mut()),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation?)))
}

/// A name for generated functions, such as `get_v1_jobs_id`.
fn operation_id(method: &str, path: &str) -> String {
    let words = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    std::iter::once(method).chain(words).collect::<Vec<_>>().join("_")
}

/// Adds an answer of a layer. Layers answer in the shape of `/v1` everywhere.
fn refuse(operation: &mut Operation, status: &str, text: &str) {
    let error = || RefOr::from(Ref::from_schema_name("Error"));
    let own = operation.responses.responses.get_mut(status);
    match own {
        Some(RefOr::T(Response { content, .. })) => {
            let Some(RefOr::T(json)) = content.get_mut("application/json") else { return };
            let Some(schema) = json.schema.take() else { return };
            json.schema = Some(if schema == error() {
                schema
            } else {
                RefOr::T(OneOfBuilder::new().item(schema).item(error()).build().into())
            });
        }
        _ => {
            let response = ResponseBuilder::new()
                .description(text)
                .content("application/json", Content::new(Some(error())))
                .build();
            operation.responses.responses.insert(status.to_owned(), RefOr::T(response));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn document() -> Value {
        let (_, document) = crate::app::described_routes(1).split_for_parts();
        finish(&document)
    }

    fn all(document: &Value) -> Vec<(String, String, Value)> {
        let mut found = Vec::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                found.push((method.clone(), path.clone(), operation.clone()));
            }
        }
        found
    }

    #[test]
    fn every_operation_says_what_it_does() {
        let document = document();
        let operations = all(&document);
        assert!(operations.len() > 70, "{}", operations.len());
        let ids: BTreeSet<&str> =
            operations.iter().map(|(.., operation)| operation["operationId"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), operations.len());
        for (method, path, operation) in &operations {
            let tag = if path.starts_with("/v1/") || path.ends_with('z') { "v1" } else { "comfyui" };
            assert_eq!(operation["tags"], serde_json::json!([tag]), "{method} {path}");
            assert!(operation["summary"].as_str().is_some_and(|text| text.ends_with('.')), "{method} {path}");
            let named = operation["parameters"].as_array().into_iter().flatten();
            let named: BTreeSet<&str> = named
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            let expected: BTreeSet<&str> =
                path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')).collect();
            assert_eq!(named, expected, "{method} {path}");
        }
    }

    #[test]
    fn no_route_is_added_without_its_description() {
        for source in [include_str!("v1/mod.rs"), include_str!("comfy/mod.rs")] {
            let plain: String = source.split_whitespace().collect();
            assert!(plain.contains(".routes(routes!(") && !plain.contains(".route("), "{source}");
        }
    }

    #[test]
    fn references_are_sound() {
        let document = document();
        let text = document.to_string();
        assert!(text.contains("\"#/components/schemas/Job\""));
        for part in text.split("\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
    }
}
