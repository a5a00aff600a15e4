//! The main job: a workflow in either format gives the right picture.

use crate::client::{self, Txt2Img};
use crate::cluster::Cluster;
use crate::pictures::{largest_difference, pixels, reference, text_chunk};
use serde_json::{Value, json};

const SETTINGS: [(&str, &str, u32); 6] = [
    ("euler", "normal", 64),
    ("dpmpp_2m", "karras", 64),
    ("euler_ancestral", "normal", 64),
    ("dpmpp_2m_sde", "karras", 64),
    ("euler", "normal", 128),
    ("dpmpp_2m", "karras", 128),
];

async fn check_references(cluster: &Cluster, prefix: &str, checkpoint: &'static str) -> anyhow::Result<()> {
    for (sampler, scheduler, side) in SETTINGS {
        let workflow = Txt2Img { checkpoint, sampler, scheduler, side, ..Txt2Img::default() };
        let job = client::submit(cluster, &workflow.api()).await?;
        let png = client::picture(cluster, &job).await?;
        let name = format!("{prefix}_{sampler}_{scheduler}_{side}x{side}_4steps_cfg7_seed42.png");
        let difference = largest_difference(&png, &reference(&name));
        println!("{name}: largest difference {difference}");
        assert!(difference <= 1, "{name}: differs by {difference} levels");
    }
    Ok(())
}

#[tokio::test]
async fn the_tiny_checkpoint_draws_the_reference_pictures() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    check_references(&cluster, "tiny", "tiny_sd1_random.safetensors").await
}

/// The full-size layout takes 2 GB of disk and minutes of work, so it runs when `COMFY_TEST_FULL=1` asks for it.
#[tokio::test]
async fn the_full_size_checkpoint_draws_the_reference_pictures() -> anyhow::Result<()> {
    if std::env::var("COMFY_TEST_FULL").as_deref() != Ok("1") {
        println!("skipped: set COMFY_TEST_FULL=1 to run it");
        return Ok(());
    }
    let cluster = Cluster::start().await?;
    let path = cluster.folder("checkpoints").join("sd15_random.safetensors");
    comfy_testkit::random_checkpoint::write_sd15(&path)?;
    check_references(&cluster, "sd15", "sd15_random.safetensors").await
}

#[tokio::test]
async fn both_formats_and_both_apis_give_the_same_pixels() -> anyhow::Result<()> {
    let cluster = Cluster::with_starter().await?;
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ui/public/workflows");
    let ui: Value = serde_json::from_slice(&std::fs::read(root.join("default.json"))?)?;
    let job = client::submit(&cluster, &ui).await?;
    let from_ui = client::picture(&cluster, &job).await?;
    assert_eq!(from_ui[..4], *b"\x89PNG");
    let workflow: Value = serde_json::from_str(&text_chunk(&from_ui, "workflow").expect("a workflow chunk"))?;
    assert_eq!(workflow, ui, "the picture holds the workflow it was drawn from");
    // ComfyUI's route takes the drawn workflow too, as a prompt and as it is.
    for body in [json!({"prompt": ui}), ui.clone()] {
        let (status, accepted) = client::post(&cluster, "/prompt", &body).await?;
        assert_eq!((status, &accepted["node_errors"]), (200, &json!({})), "{accepted}");
        let job = accepted["prompt_id"].as_str().expect("an accepted prompt has an id");
        assert_eq!(pixels(&client::picture(&cluster, job).await?), pixels(&from_ui));
    }

    // The graph that the picture holds can be run as it is, by a script that knows only ComfyUI.
    let graph: Value = serde_json::from_str(&text_chunk(&from_ui, "prompt").expect("a prompt chunk"))?;
    let save = graph.as_object().and_then(|g| g.iter().find(|(_, n)| n["class_type"] == "SaveImage"));
    let (id, _) = save.expect("the default workflow saves");
    let mut renamed = graph.as_object().cloned().unwrap_or_default();
    let node = renamed.remove(id).expect("just found");
    renamed.insert("9".to_owned(), node);
    let (frames, from_api) = client::comfy_script(&cluster, &Value::Object(renamed)).await?;
    assert_eq!(pixels(&from_ui), pixels(&from_api));
    let kinds: Vec<_> = frames.iter().filter_map(|f| f["type"].as_str()).collect();
    for kind in ["status", "execution_start", "execution_cached", "execution_success", "executing"] {
        assert!(kinds.contains(&kind), "no {kind} in {kinds:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_script_sees_progress_and_a_second_run_comes_from_the_cache() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let graph = Txt2Img::default().api();
    let (frames, first) = client::comfy_script(&cluster, &graph).await?;
    let steps: Vec<_> =
        frames.iter().filter(|f| f["type"] == "progress").map(|f| f["data"]["value"].clone()).collect();
    assert_eq!(steps, [1, 2, 3, 4], "{frames:#?}");
    let (frames, second) = client::comfy_script(&cluster, &graph).await?;
    assert_eq!(first, second);
    let cached = frames.iter().find(|f| f["type"] == "execution_cached").expect("always sent");
    let mut nodes: Vec<_> = cached["data"]["nodes"].as_array().cloned().unwrap_or_default();
    nodes.sort_by_key(ToString::to_string);
    assert_eq!(Value::Array(nodes), json!(["3", "4", "5", "6", "7", "8", "9"]));
    // A new seed reuses what does not depend on it.
    let (frames, _) =
        client::comfy_script(&cluster, &Txt2Img { seed: 43, ..Txt2Img::default() }.api()).await?;
    let cached = frames.iter().find(|f| f["type"] == "execution_cached").expect("always sent");
    let mut nodes: Vec<_> = cached["data"]["nodes"].as_array().cloned().unwrap_or_default();
    nodes.sort_by_key(ToString::to_string);
    assert_eq!(Value::Array(nodes), json!(["4", "5", "6", "7"]));
    Ok(())
}
