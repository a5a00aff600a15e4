//! A gateway on a free port with its own folders, and ways to talk to it.

use crate::fake_orchestrator::{Fake, Running};
use clap::Parser as _;
use comfy_gateway::{Config, Listeners};
use futures::{SinkExt as _, StreamExt as _};
use reqwest::{RequestBuilder, StatusCode};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;

/// Long enough that only something that never happens takes it.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Gateway {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub orchestrator: Running,
    pub dir: TempDir,
    pub http: reqwest::Client,
    stop: CancellationToken,
}

/// An answer: status and JSON (null when the body is not JSON).
pub type Answer = (u16, Value);

impl Gateway {
    pub async fn start() -> Self {
        let gateway = Self::start_unready(Running::start().await).await;
        gateway.until_ready().await;
        gateway
    }

    /// A gateway with more arguments than usual.
    pub async fn start_with(arguments: &[&str]) -> Self {
        let gateway = Self::start_unready_with(Running::start().await, arguments).await;
        gateway.until_ready().await;
        gateway
    }

    pub async fn start_unready(orchestrator: Running) -> Self {
        Self::start_unready_with(orchestrator, &[]).await
    }

    async fn start_unready_with(orchestrator: Running, arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        for name in ["input", "output", "temp", "user"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let grpc = format!("http://{}", orchestrator.address);
        let paths = [path("ui"), path("input"), path("output"), path("temp"), path("user")];
        let [ui, input, output, temp, user] = &paths;
        let mut all = vec![
            "gateway",
            "--orchestrator-addr",
            &grpc,
            "--ui-dir",
            ui,
            "--input-dir",
            input,
            "--output-dir",
            output,
            "--temp-dir",
            temp,
            "--user-dir",
            user,
            "--max-upload-bytes",
            "200000",
            "--max-workflow-bytes",
            "100000",
        ];
        all.extend(arguments);
        let config = Config::try_parse_from(all).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let admin = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin_address = admin.local_addr().unwrap();
        let listeners = Listeners { front: vec![listener], admin: Some(admin) };
        let stop = CancellationToken::new();
        let shutdown = stop.clone().cancelled_owned();
        tokio::spawn(async move { comfy_gateway::run(config, listeners, shutdown).await.unwrap() });
        Self { address, admin: admin_address, orchestrator, dir, http: reqwest::Client::new(), stop }
    }

    pub async fn until_ready(&self) {
        let ready = async {
            while self.get("/readyz").await.0 != 200 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        within(ready).await;
    }

    pub fn fake(&self) -> &Fake {
        &self.orchestrator.fake
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new(""))).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn get(&self, path: &str) -> Answer {
        answer(self.http.get(self.url(path))).await
    }

    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        answer(self.http.post(self.url(path)).body(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        answer(self.http.delete(self.url(path))).await
    }

    /// Submits a prompt that the fake accepts.
    pub async fn submit(&self, prompt_id: &str, client_id: &str) {
        let body = serde_json::json!({
            "prompt": {"9": {"class_type": "SaveImage", "inputs": {}}},
            "prompt_id": prompt_id,
            "client_id": client_id,
        });
        let (status, answer) = self.post("/prompt", body.to_string()).await;
        assert_eq!((status, &answer["prompt_id"]), (200, &Value::from(prompt_id)));
    }

    /// Sends bytes as they are and returns the whole answer: clients tidy paths up before they send them.
    pub async fn raw(&self, head: &str) -> String {
        self.raw_request(&format!("{head}\r\nConnection: close\r\n\r\n")).await
    }

    /// The same with a body, and with whatever else a request has.
    pub async fn raw_request(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        within(stream.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub async fn ws(&self, client_id: &str) -> Ws {
        let url = format!("ws://{}/ws?clientId={client_id}", self.address);
        Ws(tokio_tungstenite::connect_async(url).await.unwrap().0)
    }

    pub async fn sse(&self, path: &str, last_event_id: Option<u64>) -> Sse {
        let mut request = self.http.get(self.url(path));
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id.to_string());
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Sse { response, buffer: String::new() }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens in time")
}

pub async fn answer(request: RequestBuilder) -> Answer {
    let response = within(request.send()).await.unwrap();
    let status = response.status().as_u16();
    let bytes = response.bytes().await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

/// A client of ComfyUI's WebSocket.
pub struct Ws(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Ws {
    pub async fn send(&mut self, text: &str) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// The next frame: its JSON, or `{"binary": hex of the first 8 bytes}`.
    pub async fn next(&mut self) -> Value {
        // Pings do not count as an answer.
        within(self.receive()).await
    }

    async fn receive(&mut self) -> Value {
        loop {
            match self.0.next().await.expect("the socket is open").unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Binary(bytes) => {
                    let head: String = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
                    return serde_json::json!({"type": "binary", "head": head});
                }
                Message::Ping(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    /// The types of the next frames.
    pub async fn kinds(&mut self, count: usize) -> Vec<String> {
        let mut kinds = Vec::new();
        for _ in 0..count {
            kinds.push(self.next().await["type"].as_str().unwrap().to_owned());
        }
        kinds
    }
}

/// A client of server-sent events.
pub struct Sse {
    response: reqwest::Response,
    buffer: String,
}

#[derive(Debug, PartialEq)]
pub struct SseEvent {
    pub id: u64,
    pub kind: String,
    pub data: Value,
}

impl Sse {
    /// The next event; `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<SseEvent> {
        // Keep-alive comments do not count as an answer.
        within(self.receive()).await
    }

    async fn receive(&mut self) -> Option<SseEvent> {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let event = parse_event(block);
                self.buffer = rest.to_owned();
                match event {
                    Some(event) => return Some(event),
                    None => continue,
                }
            }
            let chunk = self.response.chunk().await.unwrap()?;
            self.buffer.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    pub async fn kinds(&mut self, count: usize) -> Vec<String> {
        let mut kinds = Vec::new();
        for _ in 0..count {
            kinds.push(self.next().await.expect("the stream goes on").kind);
        }
        kinds
    }
}

fn parse_event(block: &str) -> Option<SseEvent> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    Some(SseEvent {
        id: field("id:")?.parse().unwrap(),
        kind: field("event:")?.to_owned(),
        data: serde_json::from_str(field("data:")?).unwrap(),
    })
}
