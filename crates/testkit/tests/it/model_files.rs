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

#[tokio::test]
async fn the_parts_of_xl_draw_what_its_checkpoint_draws() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let deep = cluster.folder("checkpoints").join("deep.safetensors");
    comfy_testkit::random_checkpoint::TINY_SDXL_DEEP.write(&deep)?;
    let below = |prefix: &'static str| move |name: &str| name.strip_prefix(prefix).map(str::to_owned);
    std::fs::create_dir_all(cluster.folder("clip"))?;
    let (large, small) = ("conditioner.embedders.1.model.", "conditioner.embedders.0.transformer.");
    write_safetensors(&deep, &cluster.folder("clip").join("g.safetensors"), &below(large))?;
    write_safetensors(&deep, &cluster.folder("clip").join("l.safetensors"), &below(small))?;

    let whole = Txt2Img { checkpoint: "deep.safetensors", ..Txt2Img::default() }.api();
    let mut parts = whole.clone();
    parts["10"] = json!({"class_type": "DualCLIPLoader", "inputs": {
        "clip_name1": "g.safetensors", "clip_name2": "l.safetensors", "type": "sdxl"}});
    for node in ["6", "7"] {
        parts[node]["inputs"]["clip"] = json!(["10", 0]);
    }
    assert_eq!(draw(&cluster, &parts).await?, draw(&cluster, &whole).await?);
    Ok(())
}

/// An embedding file that is replaced or put there later is read anew, and the page can list it.
#[tokio::test]
async fn embeddings_are_read_as_they_are_now() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let tiny = cluster.folder("checkpoints").join("tiny_sd1_random.safetensors");
    let folder = cluster.folder("embeddings");
    std::fs::create_dir_all(&folder)?;
    // Some matrices of the checkpoint happen to be as wide as its text.
    let layer = |i: usize| {
        format!(
            "cond_stage_model.transformer.text_model.encoder.layers.0.self_attn.{}_proj.bias",
            ["q", "k"][i]
        )
    };
    let only = |i: usize| move |name: &str| (name == layer(i)).then(|| "emb_params".to_owned());
    let mut graph = Txt2Img::default().api();
    graph["6"]["inputs"]["text"] = json!("a photo of (embedding:style:1.2)");
    let without = draw(&cluster, &graph).await?;
    write_torch(&tiny, &folder.join("style.pt"), &only(0))?;
    let first = draw(&cluster, &graph).await?;
    write_torch(&tiny, &folder.join("style.pt"), &only(1))?;
    let second = draw(&cluster, &graph).await?;
    assert!(without != first && first != second && second != without);
    assert_eq!(client::get(&cluster, "/embeddings").await?, json!(["style"]));
    Ok(())
}

#[tokio::test]
async fn merged_models_are_drawn_and_saved() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let tiny = cluster.folder("checkpoints").join("tiny_sd1_random.safetensors");
    // Another model of the same layout: the tiny one with two matrices in each other's place.
    let swap = |name: &str| {
        let (a, b) = ("out_layers.3.weight", "in_layers.2.weight");
        let block = "model.diffusion_model.middle_block.0.";
        Some(match name.strip_prefix(block) {
            Some(inner) if inner == a => format!("{block}{b}"),
            Some(inner) if inner == b => format!("{block}{a}"),
            _ => name.to_owned(),
        })
    };
    write_safetensors(&tiny, &cluster.folder("checkpoints").join("swapped.safetensors"), &swap)?;
    let plain = Txt2Img::default().api();
    let mut graph = plain.clone();
    graph["10"] =
        json!({"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "swapped.safetensors"}});
    graph["11"] = json!({"class_type": "ModelMergeSimple", "inputs": {
        "model1": ["4", 0], "model2": ["10", 0], "ratio": 0.5}});
    graph["3"]["inputs"]["model"] = json!(["11", 0]);
    let (first, mixed) = (draw(&cluster, &plain).await?, draw(&cluster, &graph).await?);
    assert_ne!(first, mixed);

    graph["12"] = json!({"class_type": "CheckpointSave", "inputs": {
        "model": ["11", 0], "clip": ["4", 1], "vae": ["4", 2], "filename_prefix": "checkpoints/%year%/mixed_%width%"}});
    draw(&cluster, &graph).await?;
    let years: Vec<_> =
        std::fs::read_dir(cluster.folder("output").join("checkpoints"))?.collect::<Result<_, _>>()?;
    let [year] = &years[..] else { panic!("one folder of a year, got {years:?}") };
    assert!(year.file_name().to_str().and_then(|year| year.parse::<u32>().ok()) >= Some(2025), "{year:?}");
    let saved = year.path().join("mixed_0_00001_.safetensors");
    std::fs::copy(&saved, cluster.folder("checkpoints").join("mixed.safetensors"))?;
    let again =
        draw(&cluster, &Txt2Img { checkpoint: "mixed.safetensors", ..Txt2Img::default() }.api()).await?;
    // The file holds the weights in 16 bits, the recipe in 32.
    let differing = again.2.iter().zip(&mixed.2).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(differing <= Some(3), "{differing:?}");
    Ok(())
}
