//! ComfyUI's WebSocket.

use crate::gateway::{Gateway, Ws};
use comfy_proto::orchestrator as pb;
use comfy_proto::orchestrator::job_event::Kind;
use serde_json::{Value, json};

const SAVED: &str = r#"{"images":[{"filename":"x.png","subfolder":"","type":"output"}]}"#;
const NODES: [(&str, &str); 2] = [("3", "KSampler"), ("9", "SaveImage")];
const FLAGS: &str = r#"{"type": "feature_flags", "data": {"supports_preview_metadata": true}}"#;

fn queue(remaining: u32) -> Value {
    json!({"type": "status", "data": {"status": {"exec_info": {"queue_remaining": remaining}}}})
}

async fn greeted(gateway: &Gateway, client_id: &str) -> Ws {
    let mut socket = gateway.ws(client_id).await;
    assert_eq!(socket.next().await["data"]["sid"], client_id);
    socket
}

#[tokio::test]
async fn a_prompt_is_followed_in_the_order_of_comfyui() {
    let gateway = Gateway::start().await;
    let mut socket = greeted(&gateway, "cA").await;
    let mut other = greeted(&gateway, "cB").await;
    gateway.submit("pid", "cA").await;
    gateway.fake().run("pid", &NODES, SAVED);
    let expected = [
        "status",
        "status",
        "execution_start",
        "execution_cached",
        "progress_state",
        "executing",
        "progress_state",
        "progress",
        "progress_state",
        "progress",
        "binary",
        "progress_state",
        "progress_state",
        "executing",
        "executed",
        "progress_state",
        "execution_success",
        "status",
        "executing",
    ];
    let mut frames = Vec::new();
    for _ in expected {
        frames.push(socket.next().await);
    }
    let kinds: Vec<&str> = frames.iter().map(|frame| frame["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, expected);
    assert_eq!((&frames[0], &frames[17]), (&queue(1), &queue(0)));
    assert_eq!(frames[10]["head"], "0000000100000001");
    let executed = json!({
        "node": "9", "display_node": "9", "prompt_id": "pid",
        "output": {"images": [{"filename": "x.png", "subfolder": "", "type": "output"}]},
    });
    assert_eq!(frames[14]["data"], executed);
    assert_eq!(frames[18]["data"], json!({"node": null, "prompt_id": "pid"}));
    for expected in [queue(1), queue(1), queue(0)] {
        assert_eq!(other.next().await, expected, "others learn the length of the queue only");
    }
}

#[tokio::test]
async fn a_prompt_of_nobody_is_nobodys_business() {
    let gateway = Gateway::start().await;
    let mut socket = greeted(&gateway, "cA").await;
    gateway.submit("pid", "").await;
    gateway.fake().run("pid", &NODES, SAVED);
    for expected in [queue(1), queue(1), queue(0)] {
        assert_eq!(socket.next().await, expected);
    }
}

#[tokio::test]
async fn flags_count_in_the_first_json_message_only() {
    let gateway = Gateway::start().await;
    let features = json!({"type": "feature_flags", "data": {"supports_preview_metadata": true, "max_upload_size": 200_000}});
    let mut first = greeted(&gateway, "c1").await;
    first.send("garbage").await;
    first.send(FLAGS).await;
    assert_eq!(first.next().await, features);
    let mut late = greeted(&gateway, "c2").await;
    late.send(r#"{"type": "hello"}"#).await;
    late.send(FLAGS).await;

    for (socket, client_id, head) in [(&mut first, "c1", "00000004"), (&mut late, "c2", "00000001")] {
        gateway.submit(client_id, client_id).await;
        gateway.fake().happen(client_id, Kind::Started(pb::Started {}));
        let preview = pb::Preview { node_id: "3".into(), mime: "image/jpeg".into(), data: b"jpeg".to_vec() };
        gateway.fake().happen(client_id, Kind::Preview(preview));
        let frame = loop {
            let frame = socket.next().await;
            assert_ne!(frame["type"], "feature_flags", "{client_id}");
            if frame["type"] == "binary" {
                break frame;
            }
        };
        assert!(frame["head"].as_str().unwrap().starts_with(head), "{client_id}: {frame}");
    }
}

#[tokio::test]
async fn who_comes_back_hears_the_current_node_and_replaces_itself() {
    let gateway = Gateway::start().await;
    let mut older = greeted(&gateway, "cA").await;
    gateway.submit("pid", "cA").await;
    gateway.fake().happen("pid", Kind::Started(pb::Started {}));
    gateway
        .fake()
        .happen("pid", Kind::NodeStarted(pb::NodeStarted { node_id: "3".into(), class: "K".into() }));
    while older.next().await["type"] != "executing" {}

    let mut newer = gateway.ws("cA").await;
    let greeting = newer.next().await;
    assert_eq!((&greeting["type"], &greeting["data"]["sid"]), (&json!("status"), &json!("cA")));
    assert_eq!(greeting["data"]["status"]["exec_info"]["queue_remaining"], 1);
    assert_eq!(newer.next().await, json!({"type": "executing", "data": {"node": "3"}}));
    gateway.fake().happen("pid", Kind::Succeeded(pb::Succeeded {}));
    assert_eq!(newer.kinds(3).await, ["execution_success", "status", "executing"]);
    // Whether the older socket ever leaves does not matter to the newer one.
    drop(older);
    gateway.submit("pid-2", "cA").await;
    assert_eq!(newer.next().await, queue(1));
}

#[tokio::test]
async fn a_client_without_an_id_is_given_one() {
    let gateway = Gateway::start().await;
    let mut socket = gateway.ws("").await;
    let sid = socket.next().await["data"]["sid"].as_str().unwrap().to_owned();
    assert_eq!(sid.len(), 32);
    gateway.submit("pid", &sid).await;
    gateway.fake().happen("pid", Kind::Started(pb::Started {}));
    assert_eq!(socket.kinds(3).await, ["status", "status", "execution_start"]);
}

#[tokio::test]
async fn failures_and_interrupts_end_a_prompt() {
    let gateway = Gateway::start().await;
    let mut socket = greeted(&gateway, "cA").await;
    gateway.submit("bad", "cA").await;
    gateway.fake().happen("bad", Kind::Started(pb::Started {}));
    let error = pb::JobError { message: "no".into(), node_id: "3".into(), class: "K".into(), code: 1 };
    gateway.fake().happen("bad", Kind::Failed(pb::Failed { error: Some(error) }));
    assert_eq!(socket.kinds(3).await, ["status", "status", "execution_start"]);
    let failed = socket.next().await;
    assert_eq!(
        (&failed["type"], &failed["data"]["exception_message"]),
        (&json!("execution_error"), &json!("no"))
    );
    assert_eq!(socket.kinds(2).await, ["status", "executing"]);

    gateway.submit("long", "cA").await;
    gateway.fake().happen("long", Kind::Started(pb::Started {}));
    gateway
        .fake()
        .happen("long", Kind::NodeStarted(pb::NodeStarted { node_id: "3".into(), class: "K".into() }));
    assert_eq!(gateway.post("/interrupt", r#"{"prompt_id": "another"}"#).await.0, 200);
    assert_eq!(gateway.post("/api/interrupt", "").await.0, 200);
    assert_eq!(socket.kinds(5).await, ["status", "status", "execution_start", "progress_state", "executing"]);
    let interrupted = socket.next().await;
    assert_eq!(
        (&interrupted["type"], &interrupted["data"]["node_id"]),
        (&json!("execution_interrupted"), &json!("3"))
    );
    assert_eq!(socket.kinds(2).await, ["status", "executing"]);
}

#[tokio::test]
async fn sockets_outlive_the_orchestrator() {
    let mut gateway = Gateway::start().await;
    let mut socket = greeted(&gateway, "cA").await;
    gateway.submit("pid", "cA").await;
    gateway.fake().happen("pid", Kind::Started(pb::Started {}));
    assert_eq!(socket.kinds(3).await, ["status", "status", "execution_start"]);
    gateway.orchestrator.stop().await;
    gateway.fake().happen("pid", Kind::Cached(pb::Cached::default()));
    gateway.orchestrator.start_again().await;
    gateway.fake().happen("pid", Kind::Succeeded(pb::Succeeded {}));
    assert_eq!(socket.kinds(4).await, ["execution_cached", "execution_success", "status", "executing"]);
}
