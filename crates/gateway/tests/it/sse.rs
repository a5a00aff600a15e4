//! `/v1/events`.

use crate::gateway::Gateway;
use comfy_proto::orchestrator as pb;
use comfy_proto::orchestrator::job_event::Kind;
use serde_json::json;

const SAVED: &str = r#"{"images":[]}"#;
const NODES: [(&str, &str); 2] = [("3", "KSampler"), ("9", "SaveImage")];
const WHOLE: [&str; 11] = [
    "queued",
    "started",
    "cached",
    "node_started",
    "node_progress",
    "node_progress",
    "preview",
    "node_done",
    "node_started",
    "node_done",
    "succeeded",
];

#[tokio::test]
async fn the_events_of_a_job_are_followed_to_the_end() {
    let gateway = Gateway::start().await;
    gateway.submit("a", "").await;
    gateway.submit("b", "").await;
    let mut events = gateway.sse("/v1/events?job_id=a", None).await;
    assert_eq!(events.next().await.unwrap().data["kind"], "queued");
    gateway.fake().run("b", &NODES, SAVED);
    gateway.fake().run("a", &NODES, SAVED);
    let mut seen = Vec::new();
    while let Some(event) = events.next().await {
        assert_eq!(event.data["job_id"], "a");
        assert_eq!((&event.data["seq"], &event.data["kind"]), (&json!(event.id), &json!(event.kind)));
        seen.push(event);
    }
    let kinds: Vec<&str> = seen.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, WHOLE[1..]);
    assert!(seen.windows(2).all(|pair| pair[0].id < pair[1].id));
    assert_eq!(seen[2].data["class_type"], "KSampler");
    assert_eq!((&seen[3].data["value"], &seen[3].data["max"]), (&json!(1), &json!(2)));
    assert_eq!((&seen[5].data["mime"], &seen[5].data["data"]), (&json!("image/jpeg"), &json!("anBlZw==")));
    assert_eq!(seen[8].data["ui"], json!({"images": []}));
    assert_eq!((&seen[8].data["stage"], &seen[8].data["peak_bytes"]), (&json!("stage-image"), &json!(7)));
}

#[tokio::test]
async fn durable_events_are_replayed_after_an_id() {
    let gateway = Gateway::start().await;
    gateway.submit("a", "").await;
    gateway.fake().run("a", &NODES, SAVED);
    let mut whole = gateway.sse("/v1/events?job_id=a", None).await;
    let mut ids = Vec::new();
    let mut kinds = Vec::new();
    while let Some(event) = whole.next().await {
        ids.push(event.id);
        kinds.push(event.kind);
    }
    let durable: Vec<&str> =
        WHOLE.into_iter().filter(|kind| !["node_progress", "preview"].contains(kind)).collect();
    assert_eq!(kinds, durable);

    for (path, header) in [
        ("/v1/events?job_id=a", Some(ids[2])),
        (&format!("/v1/events?job_id=a&after={}", ids[2]), None),
        (&format!("/v1/events?after={}", ids[2]), None),
        // The header is newer than the address.
        ("/v1/events?job_id=a&after=0", Some(ids[2])),
    ] {
        let mut events = gateway.sse(path, header).await;
        assert_eq!(events.kinds(5).await, durable[3..8], "{path}");
    }
    let last = format!("/v1/events?job_id=a&after={}", ids[7]);
    assert_eq!(gateway.get(&last).await.0, 204);
    assert_eq!(gateway.get("/v1/events?job_id=nope").await.0, 404);
    assert_eq!(gateway.get("/v1/events?after=x").await.0, 400);
}

#[tokio::test]
async fn all_jobs_are_followed_from_now_on() {
    let gateway = Gateway::start().await;
    gateway.submit("old", "").await;
    gateway.fake().run("old", &NODES, SAVED);
    // "Now" is where the gateway's own event stream is, and a socket shows how far that has come.
    let mut socket = gateway.ws("x").await;
    gateway.submit("new", "x").await;
    gateway.fake().happen("new", Kind::Started(pb::Started {}));
    while socket.next().await["type"] != "execution_start" {}
    let mut events = gateway.sse("/v1/events", None).await;
    gateway.fake().happen("new", Kind::Cached(pb::Cached::default()));
    let event = events.next().await.unwrap();
    assert_eq!((event.kind.as_str(), &event.data["job_id"]), ("cached", &json!("new")));
}

#[tokio::test]
async fn streams_outlive_the_orchestrator() {
    let mut gateway = Gateway::start().await;
    gateway.submit("a", "").await;
    let mut one = gateway.sse("/v1/events?job_id=a", None).await;
    let mut all = gateway.sse("/v1/events?after=0", None).await;
    gateway.fake().happen("a", Kind::Started(pb::Started {}));
    assert_eq!(one.kinds(2).await, ["queued", "started"]);
    assert_eq!(all.kinds(2).await, ["queued", "started"]);

    gateway.orchestrator.stop().await;
    gateway.fake().happen("a", Kind::Cached(pb::Cached::default()));
    gateway.orchestrator.start_again().await;
    assert_eq!(one.kinds(1).await, ["cached"]);
    assert_eq!(all.kinds(1).await, ["cached"]);
    gateway.fake().happen("a", Kind::Succeeded(pb::Succeeded {}));
    assert_eq!(one.kinds(1).await, ["succeeded"]);
    assert_eq!(all.kinds(1).await, ["succeeded"]);
    assert_eq!(one.next().await, None);
}
