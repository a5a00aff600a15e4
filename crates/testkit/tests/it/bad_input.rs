//! Bad input gets a clear answer and harms nobody.

use crate::client::{self, Txt2Img};
use crate::cluster::Cluster;
use serde_json::{Value, json};

/// Submits a broken workflow and expects a refusal that mentions `what`.
async fn refused(cluster: &Cluster, workflow: &Value, what: &str) -> anyhow::Result<()> {
    for (path, body) in [("/v1/workflows", workflow.clone()), ("/prompt", json!({"prompt": workflow}))] {
        let (status, answer) = client::post(cluster, path, &body).await?;
        assert_eq!(status, 400, "{path}: {answer}");
        assert!(answer.to_string().contains(what), "{path} does not mention `{what}`: {answer}");
    }
    Ok(())
}

fn with(path: &[&str], value: Value) -> Value {
    let mut graph = Txt2Img::default().api();
    let mut at = &mut graph;
    for key in path {
        at = &mut at[*key];
    }
    *at = value;
    graph
}

#[tokio::test]
async fn bad_input_is_explained_and_later_jobs_run() -> anyhow::Result<()> {
    let mut cluster = Cluster::start().await?;
    for text in ["{", "", "nonsense", "[1,2", "{\"a\":1e999}", "\u{0}"] {
        for path in ["/v1/workflows", "/prompt"] {
            let (status, answer) = client::post_text(&cluster, path, text.to_owned()).await?;
            assert_eq!(status, 400, "{path} {text:?}: {answer}");
            assert!(answer["error"].is_object(), "{path} {text:?}: {answer}");
        }
    }
    refused(&cluster, &with(&["3", "class_type"], json!("NoSuchNode")), "NoSuchNode").await?;
    refused(&cluster, &with(&["3", "inputs", "sampler_name"], json!("warp")), "warp").await?;
    refused(&cluster, &with(&["4", "inputs", "ckpt_name"], json!("gone.safetensors")), "gone.safetensors")
        .await?;
    refused(&cluster, &with(&["4", "inputs", "ckpt_name"], json!("../../etc/passwd")), "passwd").await?;
    refused(&cluster, &with(&["3", "inputs", "cfg"], json!("nan")), "cfg").await?;
    let inputs = json!({"width": 8, "height": 8, "batch_size": 1, "color": 0});
    let node = json!({"class_type": "EmptyImage", "inputs": inputs});
    let many: serde_json::Map<_, _> = (0..10_001).map(|id: u32| (id.to_string(), node.clone())).collect();
    refused(&cluster, &Value::Object(many), "at most 10000").await?;
    refused(&cluster, &with(&["3", "inputs", "latent_image"], json!(["3", 0])), "cycle").await?;
    refused(&cluster, &with(&["9", "inputs", "images"], json!(["5", 0])), "return_type_mismatch").await?;
    refused(&cluster, &with(&["9", "inputs", "images"], json!(["77", 0])), "77").await?;

    // A checkpoint that was cut off while it was copied is not offered, and the listing says why.
    let whole = std::fs::read(cluster.folder("checkpoints").join("tiny_sd1_random.safetensors"))?;
    std::fs::write(cluster.folder("checkpoints").join("cut.safetensors"), &whole[..whole.len() / 2])?;
    refused(&cluster, &with(&["4", "inputs", "ckpt_name"], json!("cut.safetensors")), "cut.safetensors")
        .await?;
    let listing = client::get(&cluster, "/v1/checkpoints").await?;
    let cut =
        listing["checkpoints"].as_array().and_then(|l| l.iter().find(|c| c["name"] == "cut.safetensors"));
    let cut = cut.expect("listed");
    assert!(cut["usable"] == false && cut["reason"].as_str().is_some_and(|r| !r.is_empty()), "{cut}");

    // A picture that claims to be huge fails its node, with a message.
    let bomb = huge_png();
    let form = reqwest::multipart::Form::new()
        .part("image", reqwest::multipart::Part::bytes(bomb).file_name("huge.png").mime_str("image/png")?);
    let upload = reqwest::Client::new().post(cluster.url("/upload/image")).multipart(form).send().await?;
    assert_eq!(upload.status(), 200);
    let graph = json!({
        "1": {"class_type": "LoadImage", "inputs": {"image": "huge.png"}},
        "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x", "images": ["1", 0]}}
    });
    let job = client::submit(&cluster, &graph).await?;
    let ended = client::wait(&cluster, &job).await?;
    assert_eq!(ended["status"], "failed", "{ended}");
    assert_eq!(ended["error"]["node_id"], "1", "{ended}");
    assert!(ended["error"]["message"].as_str().is_some_and(|m| m.contains("100000")), "{ended}");

    cluster.assert_all_alive()?;
    let job = client::submit(&cluster, &Txt2Img::default().api()).await?;
    client::picture(&cluster, &job).await?;
    Ok(())
}

/// A PNG whose header says 100,000 x 100,000 pixels, with a right checksum and nothing behind it.
fn huge_png() -> Vec<u8> {
    let mut chunk = b"IHDR".to_vec();
    chunk.extend(100_000u32.to_be_bytes());
    chunk.extend(100_000u32.to_be_bytes());
    chunk.extend([8, 2, 0, 0, 0]);
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    png.extend(13u32.to_be_bytes());
    let checksum = crc32(&chunk);
    png.extend(chunk);
    png.extend(checksum.to_be_bytes());
    png
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xedb8_8320 } else { c >> 1 })
    })
}
