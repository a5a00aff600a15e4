//! Model files of other kinds and layouts draw the same pictures as the checkpoint that they were made from.

use crate::client::{self, Txt2Img};
use crate::cluster::Cluster;
use crate::pictures::pixels;
use comfy_testkit::part_files::{write_pickle, write_safetensors, write_torch};
use serde_json::{Value, json};

async fn draw(cluster: &Cluster, graph: &Value) -> anyhow::Result<(u32, u32, Vec<u8>)> {
    let job = client::submit(cluster, graph).await?;
    Ok(pixels(&client::picture(cluster, &job).await?))
}

async fn listed(cluster: &Cluster, name: &str) -> anyhow::Result<Value> {
    let listing = client::get(cluster, "/v1/checkpoints").await?;
    let found = listing["checkpoints"].as_array().and_then(|all| all.iter().find(|c| c["name"] == name));
    Ok(found.cloned().unwrap_or(Value::Null))
}

#[tokio::test]
async fn a_pytorch_checkpoint_draws_what_its_twin_draws() -> anyhow::Result<()> {
    let mut cluster = Cluster::start().await?;
    let folder = cluster.folder("checkpoints");
    let tiny = folder.join("tiny_sd1_random.safetensors");
    write_torch(&tiny, &folder.join("twin.ckpt"), &|name| Some(name.to_owned()))?;
    let before = listed(&cluster, "twin.ckpt").await?;
    assert!(
        before["usable"] == true && before["note"].as_str().is_some_and(|n| n.contains("converted")),
        "{before}"
    );

    let expected = draw(&cluster, &Txt2Img::default().api()).await?;
    let twin = Txt2Img { checkpoint: "twin.ckpt", ..Txt2Img::default() };
    assert_eq!(draw(&cluster, &twin.api()).await?, expected);
    let after = listed(&cluster, "twin.ckpt").await?;
    assert!(after["family"] == "sd1" && after["note"].is_null(), "{after}");
    let converted: Vec<_> = std::fs::read_dir(cluster.folder("artifacts").join("converted"))?.collect();
    assert_eq!(converted.len(), 1, "{converted:?}");

    // A file that would run code fails its job, with a reason, and nothing else.
    let pickle = b"\x80\x02cos\nsystem\nX\x0b\0\0\0touch owned\x85R.";
    write_pickle(&folder.join("hostile.ckpt"), pickle)?;
    std::fs::write(folder.join("cut.pth"), &std::fs::read(folder.join("twin.ckpt"))?[..1_000_000])?;
    for (name, reason) in [("hostile.ckpt", "os.system"), ("cut.pth", "table of contents")] {
        let job = client::submit(&cluster, &Txt2Img { checkpoint: name, ..Txt2Img::default() }.api()).await?;
        let ended = client::wait(&cluster, &job).await?;
        assert_eq!(ended["status"], "failed", "{ended}");
        assert_eq!(ended["error"]["node_id"], "4", "{ended}");
        assert!(ended["error"]["message"].as_str().is_some_and(|m| m.contains(reason)), "{ended}");
        let refused = listed(&cluster, name).await?;
        assert!(
            refused["usable"] == false && refused["reason"].as_str().is_some_and(|r| r.contains(reason)),
            "{refused}"
        );
    }
    cluster.assert_all_alive()?;
    assert_eq!(draw(&cluster, &Txt2Img { seed: 42, ..twin }.api()).await?, expected);
    Ok(())
}

#[tokio::test]
async fn parts_in_files_of_their_own_draw_what_the_checkpoint_draws() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let tiny = cluster.folder("checkpoints").join("tiny_sd1_random.safetensors");
    let below = |prefix: &'static str| move |name: &str| name.strip_prefix(prefix).map(str::to_owned);
    for folder in ["unet", "text_encoders", "vae"] {
        std::fs::create_dir_all(cluster.folder(folder))?;
    }
    write_safetensors(
        &tiny,
        &cluster.folder("unet").join("part.safetensors"),
        &below("model.diffusion_model."),
    )?;
    write_torch(
        &tiny,
        &cluster.folder("text_encoders").join("clip.bin"),
        &below("cond_stage_model.transformer."),
    )?;
    write_torch(&tiny, &cluster.folder("vae").join("vae.pt"), &below("first_stage_model."))?;

    let whole = Txt2Img::default().api();
    let mut parts = whole.clone();
    parts["4"] = json!({"class_type": "UNETLoader", "inputs": {"unet_name": "part.safetensors", "weight_dtype": "default"}});
    parts["10"] =
        json!({"class_type": "CLIPLoader", "inputs": {"clip_name": "clip.bin", "type": "stable_diffusion"}});
    parts["11"] = json!({"class_type": "VAELoader", "inputs": {"vae_name": "vae.pt"}});
    for node in ["6", "7"] {
        parts[node]["inputs"]["clip"] = json!(["10", 0]);
    }
    parts["8"]["inputs"]["vae"] = json!(["11", 0]);
    let expected = draw(&cluster, &whole).await?;
    assert_eq!(draw(&cluster, &parts).await?, expected);

    // Eight bits per weight draw another picture.
    parts["4"]["inputs"]["weight_dtype"] = json!("fp8_e4m3fn");
    let rounded = draw(&cluster, &parts).await?;
    assert!(rounded != expected && rounded.2.len() == expected.2.len());
    Ok(())
}
