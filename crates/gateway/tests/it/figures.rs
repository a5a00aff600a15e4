//! The figures on the port for those who run the server.

use crate::gateway::{Gateway, answer};
use comfy_proto::orchestrator as pb;
use comfy_proto::orchestrator::job_event::Kind;

async fn figures(gateway: &Gateway) -> String {
    let response = gateway.http.get(format!("http://{}/metrics", gateway.admin)).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    response.text().await.unwrap()
}

/// The value of a line that begins with a name and has all labels.
fn value(figures: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let line = figures.lines().find(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    })?;
    line.rsplit_once(' ')?.1.parse().ok()
}

#[tokio::test]
async fn what_happens_is_counted() {
    let mut gateway = Gateway::start().await;
    assert_eq!(value(&figures(&gateway).await, "gateway_websocket_clients", &[]), Some(0.0));
    gateway.submit("a", "c").await;
    gateway.submit("b", "c").await;
    gateway.fake().happen("a", Kind::Started(pb::Started {}));
    assert_eq!(gateway.post("/v1/workflows", r#"{"1": {"class_type": "NoSuchNode"}}"#).await.0, 400);
    assert_eq!(gateway.get("/v1/jobs/a").await.0, 200);
    assert_eq!(gateway.get("/v1/jobs/b").await.0, 200);
    assert_eq!(gateway.get("/made/up/by/somebody").await.0, 404);
    let mut socket = gateway.ws("c").await;
    assert_eq!(socket.next().await["type"], "status");

    let read = figures(&gateway).await;
    let jobs = ["method=\"GET\"", "route=\"/v1/jobs/{id}\"", "status=\"200\""];
    assert_eq!(value(&read, "gateway_http_requests_total", &jobs), Some(2.0), "{read}");
    let refused = ["method=\"POST\"", "route=\"/v1/workflows\"", "status=\"400\""];
    assert_eq!(value(&read, "gateway_http_requests_total", &refused), Some(1.0), "{read}");
    let count = value(&read, "gateway_http_request_seconds_count", &jobs[..2]);
    assert_eq!(count, Some(2.0), "{read}");
    assert!(read.contains("gateway_http_request_seconds_bucket{"), "{read}");
    assert_eq!(value(&read, "gateway_jobs_submitted_total", &["api=\"comfyui\""]), Some(2.0), "{read}");
    assert_eq!(value(&read, "gateway_queue_jobs", &["state=\"running\""]), Some(1.0), "{read}");
    assert_eq!(value(&read, "gateway_queue_jobs", &["state=\"pending\""]), Some(1.0), "{read}");
    assert_eq!(value(&read, "gateway_websocket_clients", &[]), Some(1.0), "{read}");
    assert_eq!(value(&read, "gateway_orchestrator_up", &[]), Some(1.0), "{read}");
    assert!(!read.contains("somebody"), "paths that people make up are no labels: {read}");

    drop(socket);
    while value(&figures(&gateway).await, "gateway_websocket_clients", &[]) != Some(0.0) {
        tokio::task::yield_now().await;
    }
    gateway.orchestrator.stop().await;
    while value(&figures(&gateway).await, "gateway_orchestrator_up", &[]) != Some(0.0) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn figures_and_health_are_apart_from_the_rest() {
    let gateway = Gateway::start().await;
    assert_eq!(gateway.get("/metrics").await.0, 404);
    let ask = |path: &str| answer(gateway.http.get(format!("http://{}{path}", gateway.admin)));
    assert_eq!(ask("/healthz").await.0, 200);
    assert_eq!(ask("/readyz").await.0, 200);
    for path in ["/", "/v1/jobs", "/queue"] {
        assert_eq!(ask(path).await.0, 404, "{path}");
    }
}
