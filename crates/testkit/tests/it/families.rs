//! Every model family through the whole stack: the pictures of another implementation.

use crate::client;
use crate::cluster::Cluster;
use crate::pictures::{largest_difference, reference};
use comfy_testkit::random_checkpoint::{self as layouts, Layout};
use serde_json::{Value, json};

const POSITIVE: &str = "a photo of a cat";
const NEGATIVE: &str = "(cat:1.3)";
const WIDTH: u32 = 96;
const HEIGHT: u32 = 64;

/// A workflow that draws with a checkpoint from an empty latent, for the others to be made of.
fn workflow(layout: &Layout) -> Value {
    json!({
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": file_name(layout)}},
        "2": {"class_type": "EmptyLatentImage", "inputs": {"width": WIDTH, "height": HEIGHT, "batch_size": 1}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"text": POSITIVE, "clip": ["1", 1]}},
        "4": {"class_type": "CLIPTextEncode", "inputs": {"text": NEGATIVE, "clip": ["1", 1]}},
        "5": {"class_type": "KSampler", "inputs": {
            "seed": 42, "steps": 4, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0,
            "model": ["1", 0], "positive": ["3", 0], "negative": ["4", 0], "latent_image": ["2", 0]}},
        "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "family", "images": ["6", 0]}}
    })
}

fn file_name(layout: &Layout) -> String {
    format!("{}.safetensors", layout.name)
}

/// Puts a conditioning node between the prompts and the sampler, which gives the latent too.
fn condition_on_picture(graph: &mut Value, class: &str, more: Value) {
    graph["7"] = json!({"class_type": "LoadImage", "inputs": {"image": "pattern.png"}});
    let mut inputs = json!({
        "positive": ["3", 0], "negative": ["4", 0], "vae": ["1", 2], "pixels": ["7", 0]
    });
    for (name, value) in more.as_object().expect("inputs by name") {
        inputs[name] = value.clone();
    }
    graph["8"] = json!({"class_type": class, "inputs": inputs});
    for (i, name) in ["positive", "negative", "latent_image"].into_iter().enumerate() {
        graph["5"]["inputs"][name] = json!(["8", i]);
    }
    graph.as_object_mut().expect("a graph").remove("2");
}

/// A pattern of bytes with a transparent rectangle, which loading turns into a mask.
fn write_pattern(cluster: &Cluster) -> anyhow::Result<()> {
    let picture = image::RgbaImage::from_fn(WIDTH, HEIGHT, |x, y| {
        let inside = (24..72).contains(&x) && (16..48).contains(&y);
        let byte = |value: u32| (value % 256) as u8;
        let alpha = if inside { 0 } else { 255 };
        image::Rgba([byte(5 * x + 3 * y), byte(2 * x + 7 * y), byte(x * x / 16 + y), alpha])
    });
    let folder = cluster.folder("input");
    std::fs::create_dir_all(&folder)?;
    Ok(picture.save(folder.join("pattern.png"))?)
}

/// Draws with a checkpoint that is written for the purpose, and compares with the reference of its name.
async fn check(cluster: &Cluster, layout: &Layout, graph: &Value) -> anyhow::Result<()> {
    write(cluster, layout)?;
    let job = client::submit(cluster, graph).await?;
    let picture = client::picture(cluster, &job).await?;
    let difference = largest_difference(&picture, &reference(&format!("{}.png", layout.name)));
    println!("{}: largest difference {difference}", layout.name);
    assert!(difference <= 1, "{}: differs by {difference} levels", layout.name);
    Ok(())
}

fn write(cluster: &Cluster, layout: &Layout) -> anyhow::Result<()> {
    Ok(layout.write(&cluster.folder("checkpoints").join(file_name(layout)))?)
}

#[tokio::test]
async fn xl_and_its_refiner_draw_the_reference_pictures() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    let mut graph = workflow(&layouts::TINY_SDXL);
    graph["3"] = json!({"class_type": "CLIPTextEncodeSDXL", "inputs": {
        "clip": ["1", 1], "width": 1024, "height": 768, "crop_w": 32, "crop_h": 16, "target_width": 640,
        "target_height": 512, "text_g": POSITIVE, "text_l": NEGATIVE}});
    check(&cluster, &layouts::TINY_SDXL, &graph).await?;

    let mut graph = workflow(&layouts::TINY_SDXL_REFINER);
    graph["3"] = json!({"class_type": "CLIPTextEncodeSDXLRefiner", "inputs": {
        "ascore": 7.5, "width": 1024, "height": 768, "text": POSITIVE, "clip": ["1", 1]}});
    check(&cluster, &layouts::TINY_SDXL_REFINER, &graph).await?;

    let mut graph = workflow(&layouts::TINY_SDXL_PIX2PIX);
    write_pattern(&cluster)?;
    condition_on_picture(&mut graph, "InstructPixToPixConditioning", json!({}));
    check(&cluster, &layouts::TINY_SDXL_PIX2PIX, &graph).await?;

    // Text of another family does not fit, which is said before anything is drawn.
    let mut mixed = workflow(&layouts::TINY_SDXL);
    mixed["10"] = workflow(&layouts::TINY_SDXL_REFINER)["1"].clone();
    mixed["3"]["inputs"]["clip"] = json!(["10", 1]);
    let found = client::wait(&cluster, &client::submit(&cluster, &mixed).await?).await?;
    assert_eq!(found["status"], "failed", "{found}");
    let error = &found["error"];
    assert_eq!(error["code"], "invalid_argument", "{found}");
    assert!(error["message"].to_string().contains("128 wide"), "{found}");
    Ok(())
}

#[tokio::test]
async fn velocities_and_inpainting_draw_the_reference_pictures() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    check(&cluster, &layouts::TINY_SD2_V, &workflow(&layouts::TINY_SD2_V)).await?;

    let layout = &layouts::TINY_SD1_INPAINT;
    let mut graph = workflow(layout);
    write_pattern(&cluster)?;
    let more = json!({"mask": ["7", 1], "noise_mask": false});
    condition_on_picture(&mut graph, "InpaintModelConditioning", more);
    check(&cluster, layout, &graph).await?;

    // Without a picture to inpaint, and with one that only the latent knows, such a model draws too.
    let plain = workflow(layout);
    let mut masked = workflow(layout);
    masked["7"] = json!({"class_type": "LoadImage", "inputs": {"image": "pattern.png"}});
    masked["2"] = json!({"class_type": "VAEEncodeForInpaint", "inputs": {
        "pixels": ["7", 0], "vae": ["1", 2], "mask": ["7", 1], "grow_mask_by": 6}});
    let mut pictures = Vec::new();
    for graph in [&plain, &masked] {
        let job = client::submit(&cluster, graph).await?;
        pictures.push(client::picture(&cluster, &job).await?);
    }
    assert!(largest_difference(&pictures[0], &pictures[1]) > 8);
    Ok(())
}

#[tokio::test]
async fn the_listing_names_the_families() -> anyhow::Result<()> {
    let cluster = Cluster::start().await?;
    write(&cluster, &layouts::TINY_SDXL_REFINER)?;
    layouts::TOO_NARROW.write(&cluster.folder("checkpoints").join("narrow.safetensors"))?;
    let listing = client::get(&cluster, "/v1/checkpoints").await?;
    let found = |name: &str| {
        let all = listing["checkpoints"].as_array().expect("a list");
        all.iter().find(|entry| entry["name"] == name).cloned().expect("listed")
    };
    let refiner = found("tiny-sdxl-refiner.safetensors");
    assert_eq!((&refiner["family"], &refiner["usable"]), (&json!("sdxl-refiner"), &json!(true)), "{refiner}");
    let narrow = found("narrow.safetensors");
    assert!(narrow["usable"] == false && narrow["reason"].to_string().contains("64 wide"), "{narrow}");
    Ok(())
}
