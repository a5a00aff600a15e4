//! Routes of later versions of ComfyUI, several users, the log, and submitting twice.

use crate::gateway::{Gateway, answer};
use comfy_proto::orchestrator as pb;
use comfy_proto::orchestrator::job_event::Kind;
use serde_json::{Value, json};

const SAVED: &str = r#"{"images":[{"filename":"x.png","subfolder":"","type":"output"}]}"#;
const NODES: [(&str, &str); 2] = [("3", "KSampler"), ("9", "SaveImage")];

#[tokio::test]
async fn jobs_are_listed_shown_and_cancelled() {
    let gateway = Gateway::start().await;
    gateway.submit("done", "cA").await;
    gateway.fake().run("done", &NODES, SAVED);
    gateway.submit("waits", "cA").await;
    let (status, list) = gateway.get("/api/jobs?sort_order=asc").await;
    assert_eq!((status, &list["pagination"]["total"]), (200, &json!(2)));
    assert_eq!(list["pagination"], json!({"offset": 0, "limit": null, "total": 2, "has_more": false}));
    let preview = json!({
        "filename": "x.png", "subfolder": "", "type": "output", "nodeId": "9", "mediaType": "images",
    });
    let first = &list["jobs"][0];
    assert_eq!((&first["id"], &first["status"]), (&json!("done"), &json!("completed")));
    assert_eq!((&first["outputs_count"], &first["preview_output"]), (&json!(1), &preview));
    assert!(first["execution_end_time"].as_i64() > first["execution_start_time"].as_i64());
    assert_eq!(list["jobs"][1]["status"], "pending");
    assert!(list["jobs"][1].get("execution_start_time").is_none());

    let (_, page) = gateway.get("/api/jobs?limit=1&sort_order=asc").await;
    assert_eq!((page["jobs"].as_array().unwrap().len(), &page["pagination"]["has_more"]), (1, &json!(true)));
    let (_, pending) = gateway.get("/api/jobs?status=pending,in_progress").await;
    assert_eq!((pending["jobs"].as_array().unwrap().len(), &pending["jobs"][0]["id"]), (1, &json!("waits")));
    for bad in ["status=done", "limit=-1", "offset=x", "sort_by=size", "sort_order=up"] {
        let (status, error) = gateway.get(&format!("/api/jobs?{bad}")).await;
        assert!(status == 400 && error["error"].is_string(), "{bad}: {status} {error}");
    }

    let (status, job) = gateway.get("/api/jobs/done").await;
    assert_eq!((status, &job["outputs"]["9"]["images"][0]["filename"]), (200, &json!("x.png")));
    assert_eq!(job["execution_status"]["status_str"], "success");
    assert_eq!(job["workflow"]["prompt"]["9"]["class_type"], "SaveImage");
    assert_eq!(gateway.get("/api/jobs/none").await.0, 404);

    assert_eq!(gateway.post("/api/jobs/waits/cancel", "").await, (200, json!({"cancelled": true})));
    assert_eq!(gateway.post("/api/jobs/waits/cancel", "").await, (200, json!({"cancelled": false})));
    assert_eq!(gateway.post("/api/jobs/none/cancel", "").await.0, 404);
    let id = "6c3f4a52-5f7e-4c3a-9a6e-0d4c1e4a3b2f";
    gateway.submit(id, "cA").await;
    let ids = json!({"job_ids": [id, "8c3f4a52-5f7e-4c3a-9a6e-0d4c1e4a3b2f"]}).to_string();
    assert_eq!(gateway.post("/api/jobs/cancel", ids).await, (200, json!({"cancelled": [id]})));
    let (status, error) = gateway.post("/api/jobs/cancel", r#"{"job_ids": ["x", 1]}"#).await;
    assert_eq!((status, &error["invalid_ids"]), (400, &json!(["x", 1])));
    assert_eq!(gateway.post("/api/jobs/cancel", "{}").await.0, 400);
}

#[tokio::test]
async fn what_is_switched_off_says_so() {
    let gateway = Gateway::start().await;
    for path in ["/api/assets", "/api/assets/seed", "/api/assets/hash/x"] {
        let (status, error) = gateway.get(path).await;
        assert_eq!((status, &error["error"]["code"]), (503, &json!("SERVICE_DISABLED")), "{path}");
    }
    assert_eq!(gateway.get("/api/global_subgraphs/x").await, (200, Value::Null));
    assert_eq!(gateway.get("/api/node_replacements").await, (200, json!({})));
}

#[tokio::test]
async fn model_files_say_what_their_authors_wrote() {
    let gateway = Gateway::start().await;
    let metadata = |name: &str| format!("/view_metadata/checkpoints?filename={name}");
    let found = gateway.get(&metadata("sub/tiny.safetensors")).await;
    assert_eq!(found, (200, json!({"format": "pt"})));
    for name in ["silent.safetensors", "none.safetensors", "x.ckpt"] {
        assert_eq!(gateway.get(&metadata(name)).await.0, 404, "{name}");
    }
    let preview = |name: &str| gateway.url(&format!("/api/experiment/models/preview/checkpoints/0/{name}"));
    // One carries its picture, the other has it beside it.
    for name in ["cover.safetensors", "sub/tiny.safetensors"] {
        let cover = gateway.http.get(preview(name)).send().await.unwrap();
        assert_eq!(
            (cover.status().as_u16(), &cover.headers()["content-type"]),
            (200, &"image/webp".parse().unwrap())
        );
        assert!(cover.bytes().await.unwrap().starts_with(b"RIFF"));
    }
    for name in ["silent.safetensors", "none.safetensors"] {
        assert_eq!(answer(gateway.http.get(preview(name))).await.0, 404, "{name}");
    }
}

#[tokio::test]
async fn the_interface_describes_itself() {
    let gateway = Gateway::start().await;
    let (status, document) = gateway.get("/openapi.json").await;
    assert_eq!((status, &document["openapi"]), (200, &json!("3.1.0")));
    let submit = &document["paths"]["/v1/workflows"]["post"];
    assert_eq!(submit["parameters"][0]["name"], "Idempotency-Key");
    let page = gateway.http.get(gateway.url("/docs")).send().await.unwrap().text().await.unwrap();
    assert!(page.contains("POST /v1/workflows") && page.contains("/openapi.json"), "{page}");

    // What is described is what is answered.
    gateway.submit("done", "cA").await;
    gateway.fake().run("done", &NODES, SAVED);
    for path in ["/v1/jobs", "/v1/system", "/v1/checkpoints", "/v1/nodes", "/queue", "/prompt", "/readyz"] {
        let answer = &document["paths"][path]["get"]["responses"]["200"];
        let schema = &answer["content"]["application/json"]["schema"];
        let (_, body) = gateway.get(path).await;
        conforms(&document, schema, &body, path);
    }
    let (_, error) = gateway.get("/v1/jobs/none").await;
    conforms(&document, &document["components"]["schemas"]["Error"], &error, "error");
}

/// Checks types, required keys, and that every key is described where keys are.
fn conforms(document: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let schema = document.pointer(reference.trim_start_matches('#')).unwrap();
        return conforms(document, schema, value, at);
    }
    let is_right = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        _ => schema["enum"].as_array().is_none_or(|choices| choices.contains(value)),
    };
    assert!(is_right, "{at}: {value} is not {schema}");
    for item in value.as_array().into_iter().flatten().filter(|_| schema["items"].is_object()) {
        conforms(document, &schema["items"], item, at);
    }
    for key in schema["required"].as_array().into_iter().flatten() {
        assert!(value.get(key.as_str().unwrap()).is_some(), "{at} lacks {key}: {value}");
    }
    if let (Some(known), Some(fields)) = (schema["properties"].as_object(), value.as_object()) {
        for (key, field) in fields {
            let schema = known.get(key).unwrap_or_else(|| panic!("{at} has `{key}`, which is not described"));
            conforms(document, schema, field, &format!("{at}.{key}"));
        }
    }
}

#[tokio::test]
async fn memory_is_freed_as_asked() {
    let gateway = Gateway::start().await;
    for body in ["", "{}", r#"{"unload_models": false, "free_memory": false}"#] {
        assert_eq!(gateway.post("/free", body).await.0, 200);
    }
    assert!(gateway.fake().freed().is_empty());
    assert_eq!(gateway.post("/free", r#"{"unload_models": true}"#).await.0, 200);
    assert_eq!(gateway.post("/api/free", r#"{"free_memory": true}"#).await.0, 200);
    let freed: Vec<_> = gateway.fake().freed().iter().map(|f| (f.unload_models, f.forget_results)).collect();
    assert_eq!(freed, [(true, false), (true, true)]);
}

#[tokio::test]
async fn idempotency_keys_reach_the_queue() {
    let gateway = Gateway::start().await;
    let send = |path: &str, key: &str, body: &str| {
        let request = gateway.http.post(gateway.url(path)).header("Idempotency-Key", key);
        answer(request.body(body.to_owned()))
    };
    let graph = r#"{"9": {"class_type": "SaveImage", "inputs": {}}}"#;
    let prompt = format!(r#"{{"prompt": {graph}}}"#);
    assert_eq!(send("/v1/workflows", "k1", graph).await.0, 202);
    assert_eq!(send("/prompt", "k2", &prompt).await.0, 200);
    let keys: Vec<String> = gateway.fake().submitted().into_iter().map(|s| s.idempotency_key).collect();
    assert_eq!(keys, ["k1", "k2"]);
    let (status, error) = send("/v1/workflows", "used", graph).await;
    assert_eq!((status, &error["error"]["code"]), (422, &json!("idempotency_key_reused")));
    assert!(error["error"]["message"].as_str().unwrap().contains("`earlier`"), "{error}");
    let (status, error) = send("/prompt", "used", &prompt).await;
    assert_eq!((status, &error["error"]["type"]), (422, &json!("idempotency_key_reused")));
    assert_eq!(send("/prompt", &"k".repeat(256), &prompt).await.0, 400);
}

#[tokio::test]
async fn people_have_files_of_their_own() {
    let gateway = Gateway::start_with(&["--multi-user", "true"]).await;
    assert_eq!(gateway.get("/users").await, (200, json!({"storage": "server", "users": {}})));
    let (status, bob) = gateway.post("/users", r#"{"username": "Bob ../x"}"#).await;
    let bob = bob.as_str().unwrap().to_owned();
    assert!(status == 200 && bob.starts_with("Bob----x_"), "{bob}");
    let (_, eve) = gateway.post("/users", r#"{"username": "eve"}"#).await;
    let eve = eve.as_str().unwrap().to_owned();
    let (status, error) = gateway.post("/users", r#"{"username": "eve"}"#).await;
    assert_eq!((status, error), (400, json!({"error": "Duplicate username."})));
    assert_eq!(gateway.post("/users", "{}").await.0, 400);
    assert_eq!(gateway.get("/users").await.1["users"][&eve], "eve");

    let as_user = |user: &str, path: &str| gateway.http.get(gateway.url(path)).header("comfy-user", user);
    let write = gateway.http.post(gateway.url("/settings/a")).header("comfy-user", &bob).body("1");
    assert_eq!(answer(write).await.0, 200);
    let write = gateway.http.post(gateway.url("/userdata/f.json")).header("comfy-user", &bob).body("2");
    assert_eq!(answer(write).await.0, 200);
    assert_eq!(answer(as_user(&bob, "/settings")).await, (200, json!({"a": 1})));
    assert_eq!(answer(as_user(&eve, "/settings")).await, (200, json!({})));
    assert_eq!(answer(as_user(&bob, "/userdata/f.json")).await, (200, json!(2)));
    assert_eq!(answer(as_user(&eve, "/userdata/f.json")).await.0, 404);
    for user in ["", "default", "nobody", "../x", &bob[..bob.len() - 1]] {
        assert_eq!(answer(as_user(user, "/settings")).await.0, 401, "{user}");
        assert_eq!(answer(as_user(user, "/userdata?dir=.")).await.0, 401, "{user}");
    }
    assert_eq!(gateway.get("/settings").await.0, 401);
}

#[cfg(unix)]
#[tokio::test]
async fn files_of_a_person_are_never_links() {
    let gateway = Gateway::start().await;
    gateway.write("user/default/real.json", "1");
    gateway.write("secret.json", "2");
    let link = |target: &str, name: &str| {
        std::os::unix::fs::symlink(gateway.path(target), gateway.path(&format!("user/default/{name}")))
            .unwrap();
    };
    link("secret.json", "out.json");
    link("user/default/real.json", "in.json");
    link("output", "folder");
    assert_eq!(gateway.get("/userdata/real.json").await.0, 200);
    for name in ["out.json", "in.json", "folder%2Fx.json"] {
        let path = format!("/userdata/{name}");
        for status in [gateway.post(&path, "3").await.0, gateway.delete(&path).await.0] {
            assert!(status == 403 || status == 404, "{name}: {status}");
        }
        assert_ne!(gateway.get(&path).await.0, 200, "{name}");
    }
    assert_eq!(std::fs::read_to_string(gateway.path("secret.json")).unwrap(), "2");
    assert_eq!(std::fs::read_to_string(gateway.path("user/default/real.json")).unwrap(), "1");
    assert_eq!(gateway.get("/userdata?dir=folder").await.0, 403);
}

#[tokio::test]
async fn the_log_is_read_and_followed() {
    let gateway = Gateway::start().await;
    comfy_gateway::logs::ring().push("before the reader came");
    let (_, text) = gateway.get("/internal/logs").await;
    assert!(text.as_str().unwrap().contains(" - before the reader came\n"), "{text}");
    let (_, raw) = gateway.get("/internal/logs/raw").await;
    assert!(raw["entries"].as_array().unwrap().iter().any(|entry| entry["m"] == "before the reader came\n"));
    assert_eq!(raw["size"], json!({"cols": 80, "rows": 24}));

    let mut socket = gateway.ws("reader").await;
    assert_eq!(socket.next().await["data"]["sid"], "reader");
    let subscribe = |enabled: bool| {
        let body = json!({"clientId": "reader", "enabled": enabled}).to_string();
        answer(gateway.http.patch(gateway.url("/internal/logs/subscribe")).body(body))
    };
    assert_eq!(subscribe(true).await.0, 200);
    // The command is ahead of the line only once the socket has heard of something later.
    gateway.submit("pid", "reader").await;
    comfy_gateway::logs::ring().push("after the reader came");
    loop {
        let frame = socket.next().await;
        if frame["type"] == "logs" && frame["data"]["entries"][0]["m"] == "after the reader came\n" {
            assert_eq!(frame["data"]["size"]["cols"], 80);
            break;
        }
    }
    for body in ["{}", r#"{"clientId": 1, "enabled": true}"#, "x"] {
        let request = gateway.http.patch(gateway.url("/internal/logs/subscribe")).body(body);
        assert_eq!(answer(request).await.0, 400, "{body}");
    }
}

#[tokio::test]
async fn a_node_without_a_value_is_told_and_the_job_goes_on() {
    let gateway = Gateway::start().await;
    let mut socket = gateway.ws("cA").await;
    gateway.submit("pid", "cA").await;
    gateway.fake().happen("pid", Kind::Started(pb::Started {}));
    let (node_id, class) = ("3".to_owned(), "KSampler".to_owned());
    gateway
        .fake()
        .happen("pid", Kind::NodeBlocked(pb::NodeBlocked { node_id, class, message: "no mask".into() }));
    gateway.fake().happen("pid", Kind::Succeeded(pb::Succeeded {}));
    let mut kinds = Vec::new();
    while kinds.last().is_none_or(|kind| kind != "execution_success") {
        let frame = socket.next().await;
        if frame["type"] == "execution_error" {
            assert_eq!(frame["data"]["exception_type"], "ExecutionBlocked");
            assert_eq!(frame["data"]["exception_message"], "Execution Blocked: no mask");
        }
        kinds.push(frame["type"].as_str().unwrap().to_owned());
    }
    assert_eq!(kinds.iter().filter(|kind| *kind == "execution_error").count(), 1);
}
