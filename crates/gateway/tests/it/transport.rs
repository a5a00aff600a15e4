//! The page, limits, origins, shutdown.

use crate::fake_orchestrator::Running;
use crate::gateway::{Gateway, within};
use clap::Parser as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

#[tokio::test]
async fn the_page_is_served_or_missed_in_words() {
    let gateway = Gateway::start().await;
    let missing = gateway.http.get(gateway.url("/")).send().await.unwrap();
    assert_eq!(missing.status(), 503);
    assert!(missing.text().await.unwrap().contains("The page is not built"));

    gateway.write("ui/index.html", "<p>page");
    gateway.write("ui/assets/x.js", "js");
    gateway.write("ui/extensions/core/b.js", "js");
    gateway.write("ui/extensions/a.js", "js");
    for (path, content) in [("/", "<p>page"), ("/index.html", "<p>page"), ("/assets/x.js", "js")] {
        let response = gateway.http.get(gateway.url(path)).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["cache-control"], "no-cache", "{path}");
        assert_eq!(response.headers()["x-frame-options"], "SAMEORIGIN", "{path}");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(response.text().await.unwrap(), content);
    }
    assert_eq!(gateway.get("/assets/nosuch.js").await.0, 404);
    assert_eq!(gateway.get("/assets/").await.0, 404);
    assert_eq!(gateway.get("/extensions").await.1, json!(["/extensions/a.js", "/extensions/core/b.js"]));
}

#[tokio::test]
async fn other_origins_are_refused() {
    let gateway = Gateway::start().await;
    let own = format!("http://{}", gateway.address);
    for (origin, status) in
        [(own.as_str(), 200), ("http://evil.example", 403), ("null", 403), ("http://127.0.0.1:1", 403)]
    {
        for (method, path) in [("POST", "/queue"), ("POST", "/api/queue"), ("GET", "/queue")] {
            let request =
                gateway.http.request(method.parse().unwrap(), gateway.url(path)).header("origin", origin);
            let response = request.body("{}").send().await.unwrap();
            assert_eq!(response.status().as_u16(), status, "{method} {path} from {origin}");
        }
        let mut request = format!("ws://{}/ws", gateway.address).into_client_request().unwrap();
        request.headers_mut().insert("origin", origin.parse().unwrap());
        let connected = tokio_tungstenite::connect_async(request).await;
        assert_eq!(connected.is_ok(), status == 200, "websocket from {origin}");
    }
    // Another name of this machine is another origin.
    let head = format!("POST /queue HTTP/1.1\r\nHost: localhost:1\r\nOrigin: {own}\r\nContent-Length: 0");
    assert!(gateway.raw(&head).await.starts_with("HTTP/1.1 403"));
    assert!(gateway.fake().submitted().is_empty());
}

#[tokio::test]
async fn bodies_are_limited() {
    let gateway = Gateway::start().await;
    let big = format!("{{\"prompt\": \"{}\"}}", "x".repeat(120_000));
    for path in ["/v1/workflows", "/v1/workflows/convert", "/prompt", "/api/prompt", "/settings", "/queue"] {
        let (status, error) = gateway.post(path, big.clone()).await;
        assert_eq!(status, 413, "{path}");
        assert!(error["error"]["message"].is_string(), "{path}");
    }
    assert_eq!(gateway.post("/userdata/big", vec![0; 150_000]).await.0, 200, "uploads have their own limit");
    assert_eq!(gateway.post("/userdata/big", vec![0; 250_000]).await.0, 413);
}

#[tokio::test]
async fn wrong_methods_and_requests_are_refused() {
    let gateway = Gateway::start().await;
    assert_eq!(gateway.delete("/queue").await.0, 405);
    assert_eq!(gateway.get("/v1/workflows").await.0, 405);
    assert_eq!(gateway.get("/ws").await.0, 400, "not an upgrade");
    assert_eq!(gateway.get("/v1/jobs/%ff").await.0, 400);
}

#[tokio::test]
async fn it_listens_on_both_addresses_and_stops_with_open_streams() {
    let orchestrator = Running::start().await;
    let dir = tempfile::tempdir().unwrap();
    let grpc = format!("http://{}", orchestrator.address);
    let ui_dir = dir.path().display().to_string();
    let config =
        comfy_gateway::Config::try_parse_from(["gateway", "--orchestrator-addr", &grpc, "--ui-dir", &ui_dir])
            .unwrap();
    let listeners =
        [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
    let addresses = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(comfy_gateway::run(config, Vec::from(listeners), async {
        let _ = stopped.await;
    }));
    let mut streams = Vec::new();
    for address in addresses {
        let answer = reqwest::get(format!("http://{address}/healthz")).await.unwrap();
        assert_eq!(answer.status(), 200);
        streams.push(reqwest::get(format!("http://{address}/v1/events")).await.unwrap());
    }
    let socket = tokio_tungstenite::connect_async(format!("ws://{}/ws", addresses[0])).await.unwrap();
    stop.send(()).unwrap();
    within(server).await.unwrap().unwrap();
    for stream in streams {
        within(stream.bytes()).await.unwrap();
    }
    drop(socket);
}
