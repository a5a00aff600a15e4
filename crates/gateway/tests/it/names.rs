//! Names that try to lead out of their folder, on every route that takes one.

use crate::gateway::Gateway;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

const SECRET: &str = "nobody may read this";

/// Parameters of queries that name a thing; others hold numbers and switches.
const NAMES: [&str; 7] = ["filename", "subfolder", "dir", "path", "type", "job_id", "workflow_id"];

/// Ways out, as they are written in a request. `{dir}` is the folder that holds the folders of the gateway.
const WAYS_OUT: [&str; 30] = [
    "..",
    "../secret.txt",
    "..%2Fsecret.txt",
    "..%2fsecret.txt",
    "%2e%2e/secret.txt",
    "%2e%2e%2fsecret.txt",
    "%2E%2E%2Fsecret.txt",
    ".%2e/secret.txt",
    "..%252Fsecret.txt",
    "%252e%252e%252fsecret.txt",
    "..%5Csecret.txt",
    "..%c0%afsecret.txt",
    "..%ef%bc%8fsecret.txt",
    "....//secret.txt",
    "..;/secret.txt",
    "..%00/secret.txt",
    "secret.txt%00.png",
    "../secret.txt%00.png",
    "a%2F..%2F..%2Fsecret.txt",
    ".%2F..%2Fsecret.txt",
    "..%2F..%2F..%2F..%2F..%2F..%2F..%2F..%2F..%2F..%2F..%2Fetc%2Fpasswd",
    "%2Fetc%2Fpasswd",
    "//etc/passwd",
    "file:%2F%2F%2Fetc%2Fpasswd",
    "{dir}%2Fsecret.txt",
    "link%2Fsecret.txt",
    "secret-link.txt",
    "~%2Fsecret.txt",
    "C:%5Csecret.txt",
    "..%2Fsecret.txt%20%5Binput%5D",
];

/// Every file and folder outside the folders that are served, with its content.
fn outside(dir: &Path) -> BTreeMap<String, Option<Vec<u8>>> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let own = ["input", "output", "temp", "user"].map(|name| dir.join(name));
    entries
        .filter(|path| !own.contains(path))
        .map(|path| (path.display().to_string(), std::fs::read(&path).ok()))
        .collect()
}

/// The addresses of an operation with a way out in one place.
fn addresses(path: &str, operation: &Value, way: &str) -> Vec<String> {
    let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    let named = |place: &str| -> Vec<String> {
        let of_place = parameters.iter().filter(|parameter| parameter["in"] == place);
        of_place.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect()
    };
    let (in_path, in_query) = (named("path"), named("query"));
    let fill = |chosen: &str| {
        in_path.iter().fold(path.to_owned(), |path, name| {
            let value = if name == chosen { way } else { "checkpoints" };
            path.replace(&format!("{{{name}}}"), value)
        })
    };
    let paths = in_path.iter().map(|name| fill(name));
    let queries = in_query.iter().filter(|name| NAMES.contains(&name.as_str())).map(|chosen| {
        // A picture that is there, so that only the chosen part leads out.
        let others = in_query.iter().filter(|name| *name != chosen).filter_map(|name| match name.as_str() {
            "filename" => Some("&filename=secret.txt"),
            "type" => Some("&type=output"),
            "recurse" => Some("&recurse=true"),
            _ => None,
        });
        format!("{}?{chosen}={way}{}", fill(""), others.collect::<String>())
    });
    paths.chain(queries).collect()
}

fn prepare(gateway: &Gateway) {
    let dir = gateway.dir.path();
    gateway.write("secret.txt", SECRET);
    gateway.write("user/default/own.txt", "own");
    for folder in ["input", "output", "temp", "user/default"] {
        std::os::unix::fs::symlink(dir, dir.join(folder).join("link")).unwrap();
        let link = dir.join(folder).join("secret-link.txt");
        std::os::unix::fs::symlink(dir.join("secret.txt"), link).unwrap();
    }
}

#[tokio::test]
async fn no_route_leads_out() {
    let gateway = Gateway::start_with(&["--rate-limit", "0"]).await;
    prepare(&gateway);
    let before = outside(gateway.dir.path());
    let (_, document) = gateway.get("/openapi.json").await;
    let mut asked = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            for way in WAYS_OUT {
                let dir = gateway.dir.path().display().to_string().replace('/', "%2F");
                for address in addresses(path, operation, &way.replace("{dir}", &dir)) {
                    asked += 1;
                    try_way(&gateway, &method.to_uppercase(), &address).await;
                }
            }
        }
    }
    assert!(asked > 1000, "{asked}");
    assert_eq!(outside(gateway.dir.path()), before);
    assert_eq!(std::fs::read(gateway.path("user/default/own.txt")).unwrap(), b"own");
}

async fn try_way(gateway: &Gateway, method: &str, address: &str) {
    let body = "{\"clientId\": \"\", \"enabled\": false}";
    let head = format!(
        "{method} {address} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = gateway.raw_request(&head).await;
    let status: u16 = answer.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
    let is_sound = (200..500).contains(&status) || (status == 503 && address.starts_with("/api/assets"));
    assert!(is_sound, "{method} {address}: {answer}");
    assert!(!answer.contains(SECRET) && !answer.contains("root:"), "{method} {address}: {answer}");
}

#[tokio::test]
async fn no_upload_leads_out() {
    let gateway = Gateway::start_with(&["--rate-limit", "0"]).await;
    prepare(&gateway);
    let before = outside(gateway.dir.path());
    let plain = [
        "..",
        "../x.png",
        "..\\x.png",
        "/tmp/x.png",
        "a/../../x.png",
        "link/x.png",
        "x\0.png",
        "",
        ".",
        "C:\\x.png",
    ];
    for way in plain {
        for (name, subfolder) in [(way, ""), ("x.png", way)] {
            for overwrite in ["true", "false"] {
                let part = reqwest::multipart::Part::bytes(b"new".to_vec()).file_name(name.to_owned());
                let form = reqwest::multipart::Form::new()
                    .part("image", part)
                    .text("subfolder", subfolder.to_owned())
                    .text("overwrite", overwrite);
                let request = gateway.http.post(gateway.url("/upload/image")).multipart(form);
                let (status, _) = crate::gateway::answer(request).await;
                let inside = name == "x.png" && ["", "."].contains(&way);
                assert_eq!(status == 200, inside, "{name:?} in {subfolder:?}: {status}");
                assert!(status < 500, "{name:?} in {subfolder:?}: {status}");
            }
        }
    }
    // What a link is called is not written through either.
    let part = reqwest::multipart::Part::bytes(b"new".to_vec()).file_name("secret-link.txt");
    let form = reqwest::multipart::Form::new().part("image", part).text("overwrite", "true");
    let request = gateway.http.post(gateway.url("/upload/image")).multipart(form);
    assert_eq!(crate::gateway::answer(request).await.0, 403);
    assert_eq!(outside(gateway.dir.path()), before);
}
