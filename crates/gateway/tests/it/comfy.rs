//! ComfyUI's HTTP routes.

use crate::gateway::Gateway;
use comfy_proto::orchestrator as pb;
use comfy_proto::orchestrator::job_event::Kind;
use serde_json::{Value, json};

const SAVED: &str = r#"{"images":[{"filename":"x.png","subfolder":"","type":"output"}]}"#;

#[tokio::test]
async fn what_the_page_asks_at_start_is_answered() {
    let gateway = Gateway::start().await;
    for (path, expected) in [
        ("/users", json!({"storage": "server", "migrated": true})),
        ("/i18n", json!({})),
        ("/settings", json!({})),
        ("/settings/NoKey", Value::Null),
        ("/extensions", json!([])),
        ("/queue", json!({"queue_running": [], "queue_pending": []})),
        ("/history?max_items=64", json!({})),
        ("/prompt", json!({"exec_info": {"queue_remaining": 0}})),
        ("/workflow_templates", json!({})),
        ("/global_subgraphs", json!({})),
        ("/features", json!({"supports_preview_metadata": true, "max_upload_size": 200_000})),
        ("/embeddings", json!(["sub/v1.5"])),
        ("/models/checkpoints", json!(["sub/tiny.safetensors"])),
        ("/models/gligen", json!([])),
        ("/object_info/NoSuchNode", json!({})),
        ("/internal/files/output", json!([])),
        ("/userdata?dir=.&recurse=true", json!([])),
        ("/v2/userdata", json!([])),
    ] {
        for prefix in ["", "/api"] {
            assert_eq!(
                gateway.get(&format!("{prefix}{path}")).await,
                (200, expected.clone()),
                "{prefix}{path}"
            );
        }
    }
    for path in [
        "/api/userdata/user.css",
        "/api/userdata?dir=workflows&recurse=true&split=false&full_info=true",
        "/api/userdata?dir=subgraphs%2F&recurse=true&split=false&full_info=true",
        "/api/userdata/workflows%2F.index.json",
        "/userdata/workflows/g1.json",
        "/models/nonexistent",
        "/experiment/models/nonexistent",
        "/user.css",
        "/api/nosuchroute",
        "/nosuchroute",
        "/v1/nosuchroute",
    ] {
        let (status, error) = gateway.get(path).await;
        assert_eq!(status, 404, "{path}");
        assert!(error["error"]["message"].is_string(), "{path}: {error}");
    }
    for path in ["/userdata", "/userdata?dir=", "/internal/files/bad", "/history?max_items=abc"] {
        assert_eq!(gateway.get(path).await.0, 400, "{path}");
    }
    let (_, stats) = gateway.get("/api/system_stats").await;
    assert_eq!(stats["system"]["comfyui_version"], "0.3.64");
    assert_eq!(stats["devices"][0]["type"], "cpu");
    assert!(stats["system"]["ram_total"].as_u64().unwrap() > 0);
    let (_, models) = gateway.get("/models").await;
    assert_eq!((models.as_array().unwrap().len(), &models[0]), (20, &json!("checkpoints")));
    let (_, folders) = gateway.get("/experiment/models").await;
    assert_eq!(folders.as_array().unwrap().len(), 18);
    let (_, files) = gateway.get("/experiment/models/checkpoints").await;
    let file =
        json!({"name": "sub/tiny.safetensors", "pathIndex": 0, "modified": 1.5, "created": 1.5, "size": 123});
    assert_eq!(files, json!([file]));
    let (_, info) = gateway.get("/object_info").await;
    assert_eq!(info["SaveImage"]["output_node"], true);
    assert_eq!(gateway.get("/object_info/SaveImage").await.1, info);
}

#[tokio::test]
async fn prompts_are_refused_in_comfyuis_shape() {
    let gateway = Gateway::start().await;
    let (status, refused) =
        gateway.post("/prompt", r#"{"prompt": {"1": {"class_type": "NoSuchNode"}}}"#).await;
    let error = json!({
        "type": "invalid_prompt", "message": "node NoSuchNode does not exist", "details": "Node ID '#1'",
        "extra_info": {"a": 1},
    });
    assert_eq!((status, refused), (400, json!({"error": error, "node_errors": {"1": {"errors": []}}})));
    for (body, kind) in [
        ("", "invalid_json"),
        ("not json", "invalid_json"),
        (r#"{"prompt": {"1": {"inputs": {"cfg": NaN}}}}"#, "invalid_json"),
        ("{}", "no_prompt"),
        ("null", "no_prompt"),
        (r#"{"prompt": null}"#, "no_prompt"),
        (r#"{"prompt": "x"}"#, "invalid_prompt"),
    ] {
        let (status, answer) = gateway.post("/api/prompt", body).await;
        assert_eq!((status, &answer["error"]["type"]), (400, &json!(kind)), "{body}");
        assert_eq!(answer["node_errors"], json!({}), "{body}");
    }
    for path in ["/queue", "/history", "/settings", "/settings/x", "/free", "/interrupt"] {
        assert_eq!(gateway.post(path, "notjson").await.0, 400, "{path}");
    }
    assert_eq!(gateway.post("/settings", "[]").await.0, 400);
    assert!(gateway.fake().submitted().is_empty());
}

#[tokio::test]
async fn the_queue_is_shown_and_emptied() {
    let gateway = Gateway::start().await;
    let body = json!({
        "prompt": {"9": {"class_type": "SaveImage", "inputs": {"seed": u64::MAX}}}, "prompt_id": "run",
        "client_id": "cA", "extra_data": {"extra_pnginfo": {"workflow": {}}, "api_key_comfy_org": "secret"},
    });
    assert_eq!(
        gateway.post("/prompt", body.to_string()).await.1,
        json!({"prompt_id": "run", "number": 0, "node_errors": {}})
    );
    for id in ["p1", "p2", "p3"] {
        gateway.submit(id, "").await;
    }
    gateway.fake().happen("run", Kind::Started(pb::Started {}));
    let (_, queue) = gateway.get("/queue").await;
    let item = json!([
        0, "run", body["prompt"],
        {"extra_pnginfo": {"workflow": {}}, "client_id": "cA", "create_time": 1000}, ["9"]
    ]);
    assert_eq!(queue["queue_running"], json!([item]));
    assert_eq!(queue["queue_pending"].as_array().unwrap().len(), 3);
    assert_eq!(gateway.get("/prompt").await.1["exec_info"]["queue_remaining"], 4);

    assert_eq!(gateway.post("/queue", r#"{"delete": ["p2", "nope", "run", 7]}"#).await.0, 200);
    assert_eq!(gateway.get("/prompt").await.1["exec_info"]["queue_remaining"], 3);
    assert_eq!(gateway.post("/queue", r#"{"clear": true}"#).await.0, 200);
    assert_eq!(gateway.get("/prompt").await.1["exec_info"]["queue_remaining"], 1);
    assert_eq!(gateway.get("/history").await.1, json!({}), "what never ran has no history");
    assert_eq!(gateway.post("/queue", r#"{"delete": 3}"#).await.0, 400);
}

#[tokio::test]
async fn history_is_told_paged_and_forgotten() {
    let gateway = Gateway::start().await;
    for id in ["a", "b", "c"] {
        gateway.submit(id, "").await;
        gateway.fake().run(id, &[("9", "SaveImage")], SAVED);
    }
    gateway.submit("bad", "").await;
    gateway.fake().happen("bad", Kind::Started(pb::Started {}));
    let at = pb::Cancelled { node_id: "3".into(), class: "KSampler".into() };
    gateway.fake().happen("bad", Kind::Cancelled(at));

    let (_, history) = gateway.get("/history/a").await;
    let entry = &history["a"];
    assert_eq!(entry["prompt"][1], "a");
    assert_eq!(entry["outputs"]["9"]["images"][0]["filename"], "x.png");
    assert_eq!(
        entry["meta"]["9"],
        json!({"node_id": "9", "display_node": "9", "parent_node": null, "real_node_id": "9"})
    );
    assert_eq!(
        (&entry["status"]["status_str"], &entry["status"]["completed"]),
        (&json!("success"), &json!(true))
    );
    let kinds = |entry: &Value| -> Vec<String> {
        let messages = entry["status"]["messages"].as_array().unwrap();
        messages.iter().map(|message| message[0].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(kinds(entry), ["execution_start", "execution_cached", "execution_success"]);
    let (_, history) = gateway.get("/history/bad").await;
    assert_eq!(
        (&history["bad"]["status"]["status_str"], &history["bad"]["status"]["completed"]),
        (&json!("error"), &json!(false))
    );
    assert_eq!(kinds(&history["bad"]), ["execution_start", "execution_interrupted"]);
    assert_eq!(gateway.get("/history/nosuch").await, (200, json!({})));

    for (query, expected) in [
        ("", vec!["a", "b", "c", "bad"]),
        ("?max_items=2", vec!["c", "bad"]),
        ("?max_items=2&offset=0", vec!["a", "b"]),
        ("?max_items=1&offset=1", vec!["b"]),
        ("?offset=2", vec!["c", "bad"]),
        ("?max_items=0", vec![]),
        ("?max_items=-1", vec![]),
    ] {
        let (_, history) = gateway.get(&format!("/history{query}")).await;
        let keys: Vec<&str> = history.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, expected, "{query}");
    }
    assert_eq!(gateway.post("/history", r#"{"delete": ["a", "nope"]}"#).await.0, 200);
    assert_eq!(gateway.get("/history/a").await.1, json!({}));
    assert_eq!(gateway.post("/history", r#"{"clear": true}"#).await.0, 200);
    assert_eq!(gateway.get("/history").await.1, json!({}));
}

#[tokio::test]
async fn settings_and_logs_are_kept_and_acknowledged() {
    let gateway = Gateway::start().await;
    assert_eq!(gateway.post("/settings", r#"{"Comfy.Foo": 1, "Comfy.Bar": {"x": [1, 2]}}"#).await.0, 200);
    assert_eq!(gateway.post("/api/settings/Comfy.Foo", "\"v\"").await.0, 200);
    assert_eq!(gateway.get("/settings").await.1, json!({"Comfy.Foo": "v", "Comfy.Bar": {"x": [1, 2]}}));
    assert_eq!(gateway.get("/settings/Comfy.Bar").await.1, json!({"x": [1, 2]}));
    assert!(gateway.path("user/default/comfy.settings.json").is_file());
    let changes = (0..20).map(|n| {
        let (http, url) = (gateway.http.clone(), gateway.url(&format!("/settings/k{n}")));
        async move { http.post(url).body(n.to_string()).send().await.unwrap().status().as_u16() }
    });
    assert!(futures::future::join_all(changes).await.iter().all(|status| *status == 200));
    assert_eq!(gateway.get("/settings").await.1.as_object().unwrap().len(), 22, "no change is lost");

    assert_eq!(gateway.post("/free", r#"{"unload_models": true}"#).await.0, 200);
}

#[tokio::test]
async fn userdata_is_written_listed_moved_and_deleted() {
    let gateway = Gateway::start().await;
    let file = "/api/userdata/workflows%2Fg1.json";
    assert_eq!(gateway.post(file, r#"{"a":1}"#).await, (200, json!("workflows/g1.json")));
    assert_eq!(gateway.post(&format!("{file}?overwrite=false"), "2").await.0, 409);
    let (status, info) = gateway.post(&format!("{file}?overwrite=true&full_info=true"), r#"{"a":3}"#).await;
    assert_eq!((status, &info["path"], &info["size"]), (200, &json!("workflows/g1.json"), &json!(7)));
    assert!(info["modified"].as_f64().unwrap() > 1e9);
    assert_eq!(gateway.get(file).await, (200, json!({"a": 3})));

    assert_eq!(gateway.get("/userdata?dir=workflows").await.1, json!(["g1.json"]));
    assert_eq!(
        gateway.get("/userdata?dir=workflows&recurse=true&split=true").await.1,
        json!([["g1.json", "g1.json"]])
    );
    let (_, list) = gateway.get("/userdata?dir=workflows&recurse=true&split=true&full_info=true").await;
    assert_eq!((&list[0]["path"], &list[0]["size"]), (&json!("g1.json"), &json!(7)));
    let (_, list) = gateway.get("/v2/userdata?path=workflows").await;
    assert_eq!((&list[0]["name"], &list[0]["path"]), (&json!("g1.json"), &json!("workflows/g1.json")));
    let (_, list) = gateway.get("/v2/userdata").await;
    assert_eq!(list[0], json!({"name": "workflows", "path": "workflows", "type": "directory"}));

    let moved = format!("{file}/move/workflows%2Fsub%2Fg3.json");
    assert_eq!(gateway.post(&moved, "").await, (200, json!("workflows/sub/g3.json")));
    assert_eq!(gateway.get(file).await.0, 404);
    assert_eq!(gateway.post(&moved, "").await.0, 404);
    assert_eq!(gateway.get("/userdata?dir=workflows").await.1, json!([]));
    assert_eq!(gateway.get("/userdata?dir=.&recurse=true").await.1, json!(["workflows/sub/g3.json"]));
    assert_eq!(gateway.delete("/userdata/workflows%2Fsub%2Fg3.json").await.0, 204);
    assert_eq!(gateway.delete("/userdata/workflows%2Fsub%2Fg3.json").await.0, 404);
    assert_eq!(gateway.delete("/userdata/workflows").await.0, 404, "a folder is not a file");
    assert_eq!(gateway.post("/userdata/workflows", "x").await.0, 409, "a folder is not replaced");
}
