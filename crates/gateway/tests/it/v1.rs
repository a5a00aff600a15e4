//! The `/v1` routes.

use crate::gateway::{Gateway, answer};
use comfy_proto::graph::ErrorCode;
use comfy_proto::orchestrator as pb;
use comfy_proto::orchestrator::job_event::Kind;
use serde_json::{Value, json};
use tonic::{Code, Status};

const SAVED: &str = r#"{"images":[{"filename":"a_00001_.png","subfolder":"sub","type":"output"}]}"#;
const UI_WORKFLOW: &str = r#"{ "nodes": [{"id": 1, "type": "SaveImage"}], "links": [] }"#;

#[tokio::test]
async fn a_workflow_becomes_a_job_with_a_picture() {
    let gateway = Gateway::start().await;
    let (status, accepted) = gateway.post("/v1/workflows", UI_WORKFLOW).await;
    assert_eq!(status, 202);
    assert_eq!(accepted, json!({"job_id": "job-0", "status": "queued", "number": 0, "node_errors": {}}));
    assert_eq!(gateway.fake().submitted()[0].workflow_json, UI_WORKFLOW);

    let (status, job) = gateway.get("/v1/jobs/job-0").await;
    assert_eq!(status, 200);
    let queued = json!({
        "id": "job-0", "status": "queued", "number": 0, "created_at_ms": 1000,
        "nodes_total": 3, "nodes_done": 0, "outputs": [],
    });
    assert_eq!(job, queued);
    let (status, error) = gateway.get("/v1/jobs/job-0/output").await;
    assert_eq!((status, &error["error"]["code"]), (404, &json!("output_not_ready")));

    gateway.fake().happen("job-0", Kind::Started(pb::Started {}));
    gateway
        .fake()
        .happen("job-0", Kind::NodeStarted(pb::NodeStarted { node_id: "3".into(), class: "K".into() }));
    gateway
        .fake()
        .happen("job-0", Kind::NodeProgress(pb::NodeProgress { node_id: "3".into(), value: 1, max: 4 }));
    let (_, job) = gateway.get("/v1/jobs/job-0").await;
    assert_eq!((&job["status"], &job["current_node"]), (&json!("running"), &json!("3")));
    assert_eq!(job["progress"], json!({"node_id": "3", "value": 1, "max": 4}));

    gateway.write("output/sub/a_00001_.png", "picture");
    gateway.fake().run("job-0", &[("9", "SaveImage")], SAVED);
    let (_, job) = gateway.get("/v1/jobs/job-0").await;
    assert_eq!(job["status"], "completed");
    let taken = json!({"node_id": "9", "stage": "stage-image", "peak_bytes": 7});
    assert_eq!(job["memory"]["nodes"], json!([taken]));
    let url = "/view?filename=a_00001_.png&subfolder=sub&type=output";
    let output =
        json!({"node_id": "9", "filename": "a_00001_.png", "subfolder": "sub", "type": "output", "url": url});
    assert_eq!(job["outputs"], json!([output]));
    for path in ["/v1/jobs/job-0/output", "/v1/jobs/job-0/output?index=0", url] {
        let response = gateway.http.get(gateway.url(path)).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "image/png", "{path}");
        assert_eq!(response.text().await.unwrap(), "picture");
    }
    let (status, error) = gateway.get("/v1/jobs/job-0/output?index=1").await;
    assert_eq!((status, &error["error"]["code"]), (404, &json!("not_found")));
}

#[tokio::test]
async fn refused_workflows_say_why() {
    let gateway = Gateway::start().await;
    let (status, refused) = gateway.post("/v1/workflows", r#"{"1": {"class_type": "NoSuchNode"}}"#).await;
    assert_eq!(status, 400);
    let expected = json!({
        "error": {"code": "invalid_prompt", "message": "node NoSuchNode does not exist", "details": "Node ID '#1'"},
        "node_errors": {"1": {"errors": []}},
    });
    assert_eq!(refused, expected);

    let (status, bad) = gateway.post("/v1/workflows", "{\n\"nodes\": [,]}").await;
    assert_eq!((status, &bad["error"]["code"]), (400, &json!("invalid_json")));
    assert!(bad["error"]["details"].as_str().unwrap().starts_with("line 2, column 11"), "{bad}");
    for body in ["", "NaN", "[]", "3", r#"{"prompt": {}, "number": NaN}"#, "{\"a\": \"\u{0}\"}"] {
        assert_eq!(gateway.post("/v1/workflows", body).await.0, 400, "{body:?}");
    }
    // Nesting that would overflow a parser's stack.
    assert_eq!(gateway.post("/v1/workflows", "[".repeat(50_000)).await.0, 400);
}

#[tokio::test]
async fn workflows_are_converted() {
    let gateway = Gateway::start().await;
    for body in [UI_WORKFLOW.to_owned(), format!("{{\"workflow\": {UI_WORKFLOW}}}")] {
        let (status, graph) = gateway.post("/v1/workflows/convert", body).await;
        assert_eq!((status, graph), (200, json!({"1": {"class_type": "SaveImage", "inputs": {}}})));
    }
    let (status, error) = gateway.post("/v1/workflows/convert", "{}").await;
    assert_eq!((status, &error["error"]["code"]), (400, &json!("invalid_argument")));
}

#[tokio::test]
async fn jobs_are_listed_cancelled_and_deleted() {
    let gateway = Gateway::start().await;
    for id in ["a", "b", "c"] {
        gateway.submit(id, "").await;
    }
    gateway.fake().run("a", &[("9", "SaveImage")], SAVED);
    let ids = |list: &Value| -> Vec<String> {
        list["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
    };
    for (query, expected, total) in [
        ("", vec!["c", "b", "a"], 3),
        ("?status=queued", vec!["c", "b"], 2),
        ("?status=queued,completed&limit=1&offset=1", vec!["b"], 3),
        ("?status=failed", vec![], 0),
    ] {
        let (status, list) = gateway.get(&format!("/v1/jobs{query}")).await;
        assert_eq!(
            (status, ids(&list), &list["total"]),
            (200, expected.iter().map(|s| s.to_string()).collect(), &json!(total))
        );
    }
    for query in ["?status=done", "?limit=x", "?limit=0", "?offset=-1"] {
        assert_eq!(gateway.get(&format!("/v1/jobs{query}")).await.0, 400, "{query}");
    }

    let (status, refused) = gateway.delete("/v1/jobs/b").await;
    assert_eq!((status, &refused["error"]["code"]), (409, &json!("failed_precondition")));
    let (status, job) = gateway.post("/v1/jobs/b/cancel", "").await;
    assert_eq!((status, &job["status"]), (200, &json!("cancelled")));
    assert_eq!(gateway.delete("/v1/jobs/b").await.0, 204);
    for (method, path) in [
        ("GET", "/v1/jobs/b"),
        ("DELETE", "/v1/jobs/b"),
        ("POST", "/v1/jobs/b/cancel"),
        ("GET", "/v1/jobs/b/output"),
    ] {
        let request = gateway.http.request(method.parse().unwrap(), gateway.url(path));
        let (status, error) = answer(request).await;
        assert_eq!((status, &error["error"]["code"]), (404, &json!("not_found")), "{method} {path}");
    }
}

#[tokio::test]
async fn waiting_jobs_are_moved() {
    let gateway = Gateway::start().await;
    for id in ["a", "b", "c"] {
        gateway.submit(id, "").await;
    }
    let (status, job) = gateway.post("/v1/jobs/c/move", r#"{"before": "b"}"#).await;
    assert_eq!((status, &job["id"], &job["number"]), (200, &json!("c"), &json!(0.5)));
    let (status, job) = gateway.post("/v1/jobs/b/move", r#"{"before": null}"#).await;
    assert_eq!((status, &job["number"]), (200, &json!(100)));
    gateway.fake().run("a", &[("9", "SaveImage")], SAVED);
    for (path, body, expected) in [
        ("x", r#"{"before": null}"#, (404, "not_found")),
        ("c", r#"{"before": "x"}"#, (404, "not_found")),
        ("a", r#"{"before": null}"#, (409, "failed_precondition")),
        ("c", r#"{"after": "b"}"#, (400, "invalid_argument")),
        ("c", "", (400, "invalid_json")),
    ] {
        let (status, error) = gateway.post(&format!("/v1/jobs/{path}/move"), body).await;
        assert_eq!((status, error["error"]["code"].as_str().unwrap()), expected, "{path} {body}");
    }
}

#[tokio::test]
async fn failures_are_shown() {
    let gateway = Gateway::start().await;
    gateway.submit("a", "").await;
    let error = pb::JobError {
        code: ErrorCode::ResourceExhausted.into(),
        message: "out of memory".into(),
        node_id: "3".into(),
        class: "KSampler".into(),
    };
    gateway.fake().happen("a", Kind::Failed(pb::Failed { error: Some(error) }));
    let (_, job) = gateway.get("/v1/jobs/a").await;
    let expected = json!({
        "code": "resource_exhausted", "message": "out of memory", "node_id": "3", "class_type": "KSampler",
    });
    assert_eq!(job["error"], expected);
}

#[tokio::test]
async fn nodes_checkpoints_and_system_are_described() {
    let gateway = Gateway::start().await;
    let (_, nodes) = gateway.get("/v1/nodes").await;
    let node = &nodes["nodes"][0];
    assert_eq!((&node["class"], &node["stage"]), (&json!("SaveImage"), &json!("stage-image")));
    assert_eq!(node["inputs"][1]["widget"]["max"], json!(u64::MAX));

    let (_, checkpoints) = gateway.get("/v1/checkpoints").await;
    let expected = json!({"checkpoints": [
        {
            "name": "sub/tiny.safetensors", "bytes": 123, "family": "sd1", "usable": true, "default": true,
            "cover": "/experiment/models/preview/checkpoints/0/sub/tiny.safetensors",
        },
    ]});
    assert_eq!(checkpoints, expected);

    gateway.submit("a", "").await;
    let (_, system) = gateway.get("/v1/system").await;
    let names: Vec<&str> = system["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(|service| service["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["gateway", "orchestrator", "stage-sampler"]);
    assert_eq!(system["queue"], json!({"running": 0, "pending": 1}));
}

#[tokio::test]
async fn an_absent_orchestrator_is_said_and_survived() {
    let mut gateway = Gateway::start().await;
    gateway.orchestrator.stop().await;
    let (status, error) = loop {
        // The last answers of a dying process may still arrive.
        let answer = gateway.get("/v1/jobs").await;
        if answer.0 != 200 {
            break answer;
        }
    };
    assert_eq!((status, &error["error"]["code"]), (503, &json!("unavailable")));
    assert!(error["error"]["message"].as_str().unwrap().contains("cannot be reached"), "{error}");
    assert_eq!(gateway.get("/healthz").await.0, 200);
    assert_eq!(gateway.get("/readyz").await.0, 503);
    let (status, system) = gateway.get("/v1/system").await;
    assert_eq!((status, &system["services"][1]["status"]), (200, &json!("unreachable")));
    assert_eq!(gateway.get("/api/system_stats").await.0, 200);
    gateway.orchestrator.start_again().await;
    gateway.until_ready().await;
    assert_eq!(gateway.get("/v1/jobs").await.0, 200);
}

#[tokio::test]
async fn orchestrator_errors_have_their_http_status() {
    let gateway = Gateway::start().await;
    for (code, status) in [
        (Code::InvalidArgument, 400),
        (Code::NotFound, 404),
        (Code::FailedPrecondition, 409),
        (Code::ResourceExhausted, 429),
        (Code::Internal, 500),
        (Code::Unavailable, 503),
        (Code::DeadlineExceeded, 504),
    ] {
        gateway.fake().fail_with(Some(Status::new(code, "because")));
        let (got, error) = gateway.get("/v1/jobs").await;
        assert_eq!(got, status, "{code:?}");
        assert_eq!(error["error"]["message"], "because");
        assert_eq!(gateway.get("/queue").await.0, status, "{code:?}");
    }
}
