//! People who ask too much, too slowly, under wrong names or without a key.

use crate::fake_orchestrator::Running;
use crate::gateway::{Gateway, answer, within};
use clap::Parser as _;
use comfy_gateway::Config;
use reqwest::RequestBuilder;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

const GRAPH: &str = r#"{"9": {"class_type": "SaveImage", "inputs": {}}}"#;

fn key(name: &str, scope: &str) -> String {
    let digest: String = Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{name}:{scope}:{digest}")
}

/// A gateway whose keys are called like their scopes.
async fn locked(arguments: &[&str]) -> Gateway {
    let keys = ["read", "run", "admin"].map(|name| key(name, name)).join(",");
    Gateway::start_with(&[&["--api-keys", keys.as_str()], arguments].concat()).await
}

#[tokio::test]
async fn only_our_names_are_answered() {
    let gateway = Gateway::start_with(&["--allowed-hosts", "comfy.example, other.example"]).await;
    let port = gateway.address.port();
    for (host, status) in [
        (format!("127.0.0.1:{port}"), 200),
        (format!("localhost:{port}"), 200),
        ("[::1]:8080".into(), 200),
        ("192.168.7.7".into(), 200),
        ("COMFY.example".into(), 200),
        ("other.example:443".into(), 200),
        ("evil.example".into(), 403),
        (format!("evil.example:{port}"), 403),
        ("comfy.example.evil.example".into(), 403),
        ("a b".into(), 400),
    ] {
        for path in ["/v1/jobs", "/", "/openapi.json"] {
            let answer = gateway.raw(&format!("GET {path} HTTP/1.1\r\nHost: {host}")).await;
            let found: u16 = answer[9..12].parse().unwrap();
            // There is no page in this folder.
            let expected = if path == "/" && status == 200 { 503 } else { status };
            assert_eq!(found, expected, "{host} {path}: {answer}");
        }
    }
    let two = gateway.raw("GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\nHost: evil.example").await;
    assert!(two.starts_with("HTTP/1.1 400"), "{two}");
}

#[tokio::test]
async fn pages_of_others_do_nothing_here() {
    let gateway = Gateway::start_with(&[
        "--allowed-hosts",
        "comfy.example",
        "--allowed-origins",
        "https://proxy.example",
    ])
    .await;
    for (origin, status) in [
        ("https://comfy.example", 101),
        ("https://proxy.example", 101),
        ("https://evil.example", 403),
        ("http://proxy.example", 403),
        ("null", 403),
        ("", 403),
    ] {
        let ask = async |line: &str| {
            let head = format!("{line} HTTP/1.1\r\nHost: comfy.example\r\nOrigin: {origin}");
            gateway.raw(&head).await[9..12].parse::<u16>().unwrap()
        };
        let allowed = status != 403;
        for line in ["POST /v1/jobs/x/cancel", "DELETE /v1/jobs/x"] {
            assert_eq!(ask(line).await, if allowed { 404 } else { 403 }, "{line} from {origin}");
        }
        let mut request = format!("ws://{}/ws", gateway.address).into_client_request().unwrap();
        request.headers_mut().insert("host", "comfy.example".parse().unwrap());
        request.headers_mut().insert("origin", origin.parse().unwrap());
        let connected = tokio_tungstenite::connect_async(request).await;
        assert_eq!(connected.is_ok(), allowed, "websocket from {origin}");
    }
}

#[tokio::test]
async fn keys_open_what_they_are_for() {
    let gateway = locked(&[]).await;
    let get = |path: &str| gateway.http.get(gateway.url(path));
    let post = |path: &str| gateway.http.post(gateway.url(path));
    for request in [get("/"), get("/v1/jobs"), get("/queue"), get("/view"), post("/prompt"), get("/docs")] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 401);
        assert!(response.headers()["www-authenticate"].to_str().unwrap().starts_with("Basic "));
    }
    assert_eq!(gateway.get("/healthz").await.0, 200);
    assert_eq!(gateway.get("/readyz").await.0, 200);

    let status = async |request: RequestBuilder, key: &str| answer(request.bearer_auth(key)).await.0;
    for wrong in ["", "Read", "read.", &key("read", "read")] {
        assert_eq!(status(get("/v1/jobs"), wrong).await, 401, "{wrong}");
    }
    let workflow = || post("/v1/workflows").body(GRAPH);
    let forget = || post("/history").body(r#"{"clear": true}"#);
    for (key, statuses) in
        [("read", [200, 403, 403, 403]), ("run", [200, 202, 403, 403]), ("admin", [200, 202, 200, 200])]
    {
        let requests = [get("/v1/jobs"), workflow(), forget(), get("/internal/logs")];
        for (request, expected) in requests.into_iter().zip(statuses) {
            assert_eq!(status(request, key).await, expected, "{key}");
        }
    }
    let (_, refused) = answer(workflow().bearer_auth("read")).await;
    assert_eq!(refused["error"]["code"], "forbidden_scope");
    assert_eq!(answer(get("/v1/jobs").header("X-API-Key", "read")).await.0, 200);
    assert_eq!(answer(get("/v1/jobs").basic_auth("anybody", Some("read"))).await.0, 200);
    assert_eq!(answer(get("/v1/jobs").basic_auth("read", Some("x"))).await.0, 401);

    for (key, opens) in [(None, false), (Some("wrong"), false), (Some("read"), true)] {
        let mut request = format!("ws://{}/ws", gateway.address).into_client_request().unwrap();
        if let Some(key) = key {
            request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        }
        assert_eq!(tokio_tungstenite::connect_async(request).await.is_ok(), opens, "{key:?}");
    }
}

#[tokio::test]
async fn keys_of_a_file_count_too() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, format!("# who may look\n\n  {}\n", key("guest", "read"))).unwrap();
    let path = file.path().display().to_string();
    let gateway = locked(&["--api-keys-file", &path]).await;
    let ask = |key: &str| answer(gateway.http.get(gateway.url("/v1/jobs")).bearer_auth(key.to_owned()));
    assert_eq!((ask("guest").await.0, ask("run").await.0, ask("# who").await.0), (200, 200, 401));

    std::fs::write(&file, "# fine\nguest:read:secret").unwrap();
    let config = Config::try_parse_from(["gateway", "--api-keys-file", &path]).unwrap();
    let error = config.check().unwrap_err();
    assert!(error.contains("line 2") && !error.contains("secret"), "{error}");
}

#[tokio::test]
async fn who_asks_too_often_waits() {
    let gateway = locked(&["--rate-limit", "1"]).await;
    let ask = |key: &'static str| gateway.http.get(gateway.url("/v1/system")).bearer_auth(key).send();
    let mut refused = None;
    // Ten at once are allowed; the clock may add one or two while they are made.
    for _ in 0..30 {
        let response = ask("read").await.unwrap();
        if response.status() == 429 {
            refused = Some(response);
            break;
        }
        assert_eq!(response.status(), 200);
    }
    let refused = refused.expect("the allowance ends");
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=10).contains(&wait), "{wait}");
    let body: serde_json::Value = serde_json::from_slice(&refused.bytes().await.unwrap()).unwrap();
    assert_eq!(body["error"]["code"], "too_many_requests");
    assert_eq!(ask("admin").await.unwrap().status(), 200, "another key has its own allowance");
}

#[tokio::test]
async fn open_addresses_are_served_only_when_somebody_says_so() {
    let orchestrator = Running::start().await;
    let grpc = format!("http://{}", orchestrator.address);
    let keys = key("k", "read");
    for (arguments, serves) in [
        (vec![], false),
        (vec!["--allow-open-access", "true"], true),
        (vec!["--api-keys", keys.as_str()], true),
    ] {
        let arguments = [vec!["gateway", "--orchestrator-addr", &grpc], arguments].concat();
        let config = Config::try_parse_from(arguments).unwrap();
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(comfy_gateway::run(config, vec![listener], async {
            let _ = stopped.await;
        }));
        if serves {
            let answer = within(reqwest::get(format!("http://127.0.0.1:{port}/healthz"))).await.unwrap();
            assert_eq!(answer.status(), 200);
            stop.send(()).unwrap();
            within(server).await.unwrap().unwrap();
        } else {
            let error = within(server).await.unwrap().unwrap_err();
            assert!(error.to_string().contains("ALLOW_OPEN_ACCESS"), "{error}");
        }
    }
}

/// Everything that arrives until the other side closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    // A connection that is reset is closed as well.
    let _ = within(stream.read_to_end(&mut read)).await;
    String::from_utf8_lossy(&read).into_owned()
}

#[tokio::test]
async fn slow_clients_are_not_waited_for() {
    let arguments = ["--request-header-timeout", "300ms", "--request-body-timeout", "300ms"];
    let gateway = Gateway::start_with(&arguments).await;
    for beginning in ["", "G", "GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\nX-Slow: "] {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(beginning.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{beginning:?}: {answer}");
    }
    for path in ["/v1/workflows", "/prompt", "/userdata/x.json"] {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{{");
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{path}: {answer}");
        assert!(answer.contains("did not arrive in time"), "{path}: {answer}");
    }
    // A stream that is quiet is not slow: nothing is asked of its reader.
    let mut socket = gateway.ws("quiet").await;
    assert_eq!(socket.next().await["type"], "status");
    let idle = tokio::time::timeout(Duration::from_millis(900), socket.next()).await;
    assert!(idle.is_err(), "{idle:?}");
    socket.send("{}").await;
    gateway.submit("j", "quiet").await;
    assert_eq!(socket.next().await["type"], "status");
}

#[tokio::test]
async fn connections_are_counted_sockets_included() {
    // One is kept by the client that asked whether the gateway is ready.
    let gateway = Gateway::start_with(&["--max-connections", "2"]).await;
    let socket = gateway.ws("a").await;
    let waiting = gateway.raw("GET /healthz HTTP/1.1\r\nHost: localhost");
    tokio::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(300), waiting.as_mut()).await;
    assert!(early.is_err(), "{early:?}");
    drop(socket);
    assert!(within(waiting).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn deep_and_odd_json_is_refused_in_words() {
    let gateway = Gateway::start().await;
    let deep = |open: &str, close: &str| format!("{}1{}", open.repeat(5000), close.repeat(5000));
    for path in
        ["/v1/workflows", "/v1/workflows/convert", "/prompt", "/queue", "/history", "/settings", "/free"]
    {
        for body in [deep("[", "]"), deep("{\"a\":", "}"), "\u{feff}{}".into(), "{\"a\":1}{}".into()] {
            let (status, error) = gateway.post(path, body).await;
            assert_eq!(status, 400, "{path}");
            let reason = &error["error"];
            let code = if reason["code"].is_string() { &reason["code"] } else { &reason["type"] };
            assert_eq!(code, "invalid_json", "{path}: {error}");
        }
    }
    for (path, body) in [
        ("/queue", json!({"clear": "yes"})),
        ("/queue", json!([])),
        ("/history", json!({"clear": 1})),
        ("/history", json!({"clear": true, "delete": "x"})),
        ("/free", json!({"unload_models": 1})),
        ("/interrupt", json!([])),
        ("/prompt", json!({"prompt": {}, "front": "yes"})),
    ] {
        assert_eq!(gateway.post(path, body.to_string()).await.0, 400, "{path} {body}");
    }
}
