//! Listings of folders with good, bad and unconverted files.

use super::*;
use clap::Parser as _;
use comfy_graph::ErrorCode;

#[test]
fn another_kind_than_asked_for_is_named() {
    let check = |kind: &str, family: &Family, expected: Option<&str>| {
        let config = Config::parse_from(["stage-sampler", "--pipeline-kind", kind]);
        let found = ModelFiles::new(&config).wrong_kind(family);
        assert_eq!(found.as_deref(), expected, "{kind} {family}");
    };
    check("auto", &Family::Sd2, None);
    check("sd15", &Family::Sd1Inpaint, None);
    check("sd15", &Family::Sdxl, Some("it is Stable Diffusion XL, but PIPELINE_KIND is `sd15`"));
    check("sdxl", &Family::SdxlRefiner, None);
    check("sdxl", &Family::Sd2, Some("it is Stable Diffusion 2, but PIPELINE_KIND is `sdxl`"));
}

/// Writes a safetensors file of the given names and shapes whose numbers are a hole.
fn write(path: &Path, tensors: &[(String, Vec<u64>)]) {
    let (mut header, mut at) = (serde_json::Map::new(), 0);
    for (name, shape) in tensors {
        let end = at + shape.iter().product::<u64>();
        let entry = serde_json::json!({"dtype": "U8", "shape": shape, "data_offsets": [at, end]});
        header.insert(name.clone(), entry);
        at = end;
    }
    let text = serde_json::Value::Object(header).to_string();
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()).unwrap();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_len(8 + text.len() as u64 + at).unwrap();
}

fn clip(layers: usize) -> Vec<(String, Vec<u64>)> {
    let name = |name: &str| format!("text_model.{name}");
    let mut tensors = vec![
        (name("embeddings.token_embedding.weight"), vec![49408, 64]),
        (name("embeddings.position_embedding.weight"), vec![77, 64]),
        (name("encoder.layers.0.mlp.fc1.weight"), vec![256, 64]),
    ];
    let norm = |i| (name(&format!("encoder.layers.{i}.layer_norm1.weight")), vec![64]);
    tensors.extend((0..layers).map(norm));
    tensors
}

fn files(folder: &Path) -> ModelFiles {
    let place = |name: &str| folder.join(name).display().to_string();
    let (models, artifacts) = (place(""), place("artifacts"));
    let flags = ["stage-sampler", "--models-dir", &models, "--artifacts-root", &artifacts];
    ModelFiles::new(&Config::parse_from(flags))
}

fn names(files: &ModelFiles, folder: &str) -> Vec<String> {
    files.options(folder).unwrap().into_iter().map(|option| option.value).collect()
}

#[test]
fn both_places_of_a_folder_are_listed_and_the_first_wins() {
    let folder = tempfile::tempdir().unwrap();
    let at = |place: &str| folder.path().join(place);
    write(&at("text_encoders/both.safetensors"), &clip(12));
    write(&at("clip/both.safetensors"), &clip(11));
    write(&at("clip/sub/old.safetensors"), &clip(12));
    let files = files(folder.path());
    assert_eq!(names(&files, "text_encoders"), ["both.safetensors", "sub/old.safetensors"]);
    let found = files.find("text_encoders", "both.safetensors", &|| Ok(())).unwrap();
    assert_eq!(found.path, at("text_encoders/both.safetensors"));
    assert!(files.options("diffusion_models").unwrap().is_empty());
    assert!(files.options("nonsense").is_none());
}

#[test]
fn files_that_cannot_be_used_are_listed_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let at = |place: &str| folder.path().join(place);
    write(&at("text_encoders/large.safetensors"), &[("decoder.conv_in.weight".into(), vec![1])]);
    write(&at("text_encoders/other.safetensors"), &[("x".into(), vec![1])]);
    let files = files(folder.path());
    assert!(names(&files, "text_encoders").is_empty());
    let listed = files.describe("text_encoders");
    assert!(listed[0].reason.contains("token_embedding"), "{listed:?}");
    assert!(listed[1].reason.contains("token_embedding"), "{listed:?}");
    let error = files.find("text_encoders", "large.safetensors", &|| Ok(())).err().unwrap();
    assert!(error.message.contains("token_embedding"), "{error:?}");
    let error = files.find("text_encoders", "gone.bin", &|| Ok(())).err().unwrap();
    assert!(error.code == ErrorCode::NotFound && error.message.contains("`large.safetensors`"), "{error:?}");
}

#[test]
fn embeddings_are_found_without_their_ending() {
    let folder = tempfile::tempdir().unwrap();
    let at = |place: &str| folder.path().join("embeddings").join(place);
    write(&at("style.safetensors"), &[("emb_params".into(), vec![2, 64])]);
    write(&at("sub/old.pt"), &[]);
    write(&at("style.pt"), &[]);
    let files = files(folder.path());
    for (name, file) in [
        ("style", Some("style.safetensors")),
        ("style.pt", Some("style.pt")),
        ("sub/old", Some("sub/old.pt")),
        ("old", None),
        ("../embeddings/style", None),
    ] {
        assert_eq!(files.embedding_file(name).as_deref(), file, "{name}");
    }
    let reason = &files.describe(EMBEDDINGS)[1].reason;
    assert!(reason.contains("no embedding"), "{reason}");
}

#[test]
fn pytorch_files_are_offered_before_they_are_converted() {
    let folder = tempfile::tempdir().unwrap();
    for (place, name) in [("checkpoints", "a.ckpt"), ("vae", "b.pt"), ("unet", "c.pth"), ("clip", "d.bin")] {
        std::fs::create_dir_all(folder.path().join(place)).unwrap();
        std::fs::write(folder.path().join(place).join(name), "x").unwrap();
        std::fs::write(folder.path().join(place).join("note.txt"), "x").unwrap();
    }
    let files = files(folder.path());
    for (kind, name) in [
        ("checkpoints", "a.ckpt"),
        ("vae", "b.pt"),
        ("diffusion_models", "c.pth"),
        ("text_encoders", "d.bin"),
    ] {
        assert_eq!(names(&files, kind), [name]);
        assert!(files.describe(kind)[0].note.contains("converted"));
    }
    // The converter is not beside the program that runs these tests.
    let error = files.find("vae", "b.pt", &|| Ok(())).err().unwrap();
    assert!(error.message.contains("`pickle-convert`, which is missing"), "{error:?}");
}
