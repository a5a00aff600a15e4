//! Every recorded route of ComfyUI, asked of the gateway: same status, same shape of JSON.

use crate::gateway::Gateway;
use reqwest::Method;
use serde_json::Value;

/// Where the answer differs on purpose: method, path, body, status here.
const DIFFERENT: [(&str, &str, Option<&str>, u16); 4] = [
    // A plain 500 says nothing about what is wrong with a request.
    ("POST", "/settings", Some("notjson"), 400),
    ("POST", "/settings", Some("[]"), 400),
    // Nothing was asked, so nothing is done.
    ("POST", "/free", None, 200),
    // `/internal` is served under `/api` too.
    ("GET", "/api/internal/logs", None, 200),
];

#[tokio::test]
async fn recorded_routes_answer_as_they_did() {
    let gateway = Gateway::start().await;
    comfy_gateway::logs::ring().push("a line");
    let path = format!("{}/tests/fixtures/routes.json", env!("CARGO_MANIFEST_DIR"));
    let routes: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(routes.len() > 90, "{}", routes.len());
    let mut problems = Vec::new();
    for route in &routes {
        if let Some(problem) = ask(&gateway, route).await {
            problems.push(format!("{} {} {}: {problem}", route["method"], route["path"], route["body"]));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

async fn ask(gateway: &Gateway, route: &Value) -> Option<String> {
    let text = |key: &str| route[key].as_str();
    let (method, path) = (text("method").unwrap(), text("path").unwrap());
    let mut request = gateway.http.request(Method::from_bytes(method.as_bytes()).unwrap(), gateway.url(path));
    let headers = route["headers"].as_object().into_iter().flatten();
    // This client does not unpack what it did not ask for itself.
    for (name, value) in headers.filter(|(name, _)| *name != "Accept-Encoding") {
        // The recording was made at another port.
        let own = format!("http://{}", gateway.address);
        let value = value.as_str().unwrap().replace("http://127.0.0.1:8188", &own);
        request = request.header(name, value);
    }
    if let Some(body) = text("body") {
        request = request.body(body.to_owned());
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let different = DIFFERENT.iter().find(|(m, p, b, _)| *m == method && *p == path && *b == text("body"));
    let expected = different.map_or(route["status"].as_u64().unwrap(), |(.., status)| u64::from(*status));
    if u64::from(status) != expected {
        return Some(format!("status {status} instead of {expected}"));
    }
    let shape = route.get("json").filter(|_| status == 200)?;
    let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
    if !kind.as_deref().unwrap_or_default().starts_with("application/json") {
        return Some(format!("content type {kind:?}"));
    }
    let body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    mismatch(shape, &body, "$")
}

/// Where a value has not the recorded shape. Lists may be empty in one of them, since contents differ; texts of
/// versions that this server does not have are null.
fn mismatch(shape: &Value, found: &Value, at: &str) -> Option<String> {
    match (shape, found) {
        (Value::Object(shape), Value::Object(found)) => {
            let keys = |map: &serde_json::Map<String, Value>| map.keys().cloned().collect::<Vec<_>>();
            if keys(shape) != keys(found) {
                return Some(format!("{at} has the keys {:?} instead of {:?}", keys(found), keys(shape)));
            }
            shape.iter().find_map(|(key, shape)| mismatch(shape, &found[key], &format!("{at}.{key}")))
        }
        (Value::Array(shape), Value::Array(found)) => {
            let shape = shape.first()?;
            found.iter().find_map(|found| mismatch(shape, found, &format!("{at}[]")))
        }
        (Value::String(kind), found) => {
            let same = match kind.as_str() {
                "string" => found.is_string() || at.contains("templates_version"),
                "number" => found.is_number(),
                "bool" => found.is_boolean(),
                _ => found.is_null(),
            };
            (!same).then(|| format!("{at} is {found}, not {kind}"))
        }
        _ => Some(format!("{at} is {found}, not like {shape}")),
    }
}
