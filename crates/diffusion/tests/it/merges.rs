//! Merged, factored and saved weights against torch, and saved files against what they were made of.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use comfy_diffusion::adapters::{Adapter, UsedAdapter};
use comfy_diffusion::changes::{
    AttentionFactors, AttentionKind, Change, Merge, ModelSource, Shares, TextFiles, TextSource,
};
use comfy_diffusion::{Error, SavedFile, load_clip_from, load_model_from, load_vae};

use crate::compare::assert_close;
use crate::models::{Folder, Tiny, wave};
use crate::random_checkpoint::{TINY, TINY_SD2, TINY_SDXL, TINY_SDXL_DEEP, TINY_SDXL_V};
use crate::text_files::{as_hugging_face, below};

type Tensors = HashMap<String, Tensor>;

const UNET: &str = "model.diffusion_model.";
const LARGE: &str = "conditioner.embedders.1.model.";
const QUERY: &str = "input_blocks.1.1.transformer_blocks.0.attn2.to_q";

/// Writes a model as a saved file and reads that.
fn written(folder: &Folder, file: SavedFile) -> (PathBuf, Tensors) {
    let path = folder.0.path().join("saved.safetensors");
    file.write(&path, &mut |_, _| Ok::<(), Error>(())).unwrap();
    let tensors = read(&path);
    (path, tensors)
}

fn read(path: &Path) -> Tensors {
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn goldens() -> Tensors {
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/merges.safetensors"))
}

/// Each tensor with its numbers in the other direction and halved.
fn backwards(tensors: &Tensors) -> Tensors {
    let turn = |tensor: &Tensor| {
        let mut values: Vec<f32> =
            tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        values.reverse();
        values.iter_mut().for_each(|value| *value *= 0.5);
        Tensor::from_vec(values, tensor.shape(), &Device::Cpu).unwrap().to_dtype(tensor.dtype()).unwrap()
    };
    tensors.iter().map(|(name, tensor)| (name.clone(), turn(tensor))).collect()
}

/// What the goldens hold of a tensor.
fn digest(tensor: &Tensor) -> Tensor {
    let values: Vec<f32> = tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let sum = |each: fn(f64) -> f64| values.iter().map(|v| each(f64::from(*v))).sum::<f64>() as f32;
    let mut kept: Vec<f32> = values.iter().take(48).copied().collect();
    kept.extend([sum(|v| v), sum(f64::abs)]);
    Tensor::new(kept, &Device::Cpu).unwrap()
}

fn check(recipe: &str, saved: &Tensors, prefix: &str) {
    let mut compared = 0;
    for (name, golden) in goldens() {
        let Some(name) = name.strip_prefix(recipe).and_then(|rest| rest.strip_prefix('|')) else { continue };
        assert_close(&format!("{recipe} {name}"), &digest(&saved[&format!("{prefix}{name}")]), &golden, 1e-6);
        compared += 1;
    }
    assert!(compared >= 2, "{recipe}");
}

fn merge(other: ModelSource, shares: Shares) -> Change<ModelSource> {
    Change::Merge(Merge { other: Box::new(other), shares, by_prefix: Vec::new() })
}

#[test]
fn merged_weights_are_those_of_torch() {
    let folder = Folder::new();
    let tiny = Tiny::of(&TINY);
    let all = read(&tiny.path);
    let other = ModelSource::new(folder.save("other.safetensors", &backwards(&all)));
    let merged = |changes: Vec<Change<ModelSource>>| {
        let source = ModelSource { changes, ..ModelSource::new(&tiny.path) };
        written(&folder, SavedFile::model(&source).unwrap()).1
    };
    let quarter = || merge(other.clone(), Shares::ratio(0.25));
    check("ratio", &merged(vec![quarter()]), UNET);
    let half = Shares { own: 0.5, other: -0.5 };
    check("subtract", &merged(vec![merge(other.clone(), half)]), UNET);
    let whole = Shares { own: 1.0, other: 1.0 };
    check("add", &merged(vec![merge(other.clone(), whole)]), UNET);
    let by_prefix = [
        ("time_embed.", 0.1),
        ("input_blocks.1.", 0.3),
        ("middle_block.0.", 0.5),
        ("output_blocks.3.", 0.7),
        ("out.", 0.9),
    ];
    let by_prefix = by_prefix.map(|(prefix, own)| (prefix.to_owned(), Shares::ratio(own))).into();
    let blocks = Merge { other: Box::new(other.clone()), shares: Shares::ratio(0.1), by_prefix };
    check("blocks", &merged(vec![Change::Merge(blocks)]), UNET);
}

#[test]
fn changes_are_made_one_after_the_other() {
    let folder = Folder::new();
    let tiny = Tiny::of(&TINY);
    let all = read(&tiny.path);
    let mut other = ModelSource::new(folder.save("other.safetensors", &backwards(&all)));
    let factors = |kind, q, out| Change::Attention(AttentionFactors { kind, q, k: 1.0, v: 1.0, out });
    other.changes.push(factors(AttentionKind::UnetCross, 2.0, 1.0));
    let diff = Tensors::from([(format!("diffusion_model.{QUERY}.diff"), goldens()["diff"].clone())]);
    let adapter = Arc::new(Adapter::open(&folder.save("diff.safetensors", &diff)).unwrap());
    let changes = vec![
        Change::Adapter(UsedAdapter { adapter, strength: 0.7 }),
        merge(other, Shares::ratio(0.25)),
        factors(AttentionKind::UnetSelf, 1.0, 3.0),
    ];
    let source = ModelSource { changes, ..ModelSource::new(&tiny.path) };
    let (path, saved) = written(&folder, SavedFile::model(&source).unwrap());
    check("chain", &saved, UNET);
    // What is drawn with the recipe is drawn with the saved file, but for the precision it is saved in.
    let run = |source: &ModelSource| {
        let model = load_model_from(source, &Device::Cpu, DType::F32).unwrap();
        let steps = Tensor::new(&[500f32], &Device::Cpu).unwrap();
        let text = comfy_diffusion::sampling::ModelInputs::text(wave(&[1, 77, 64], 0.4));
        model.forward(&wave(&[1, 4, 8, 8], 0.2), &steps, &text).unwrap()
    };
    let drawn = crate::compare::distance(&run(&ModelSource::new(path)), &run(&source));
    assert!(drawn.cosine > 0.9999 && drawn.relative < 0.02, "{drawn:?}");
}

#[test]
fn a_layer_of_another_shape_keeps_its_own_share() {
    let folder = Folder::new();
    let tiny = Tiny::of(&TINY);
    let mut wide = backwards(&read(&tiny.path));
    let stem = format!("{UNET}input_blocks.0.0.weight");
    wide.insert(stem.clone(), Tensor::cat(&[&wide[&stem], &wide[&stem]], 1).unwrap());
    let other = ModelSource::new(folder.save("wide.safetensors", &wide));
    let changes = vec![merge(other, Shares::ratio(0.25))];
    let source = ModelSource { changes, ..ModelSource::new(&tiny.path) };
    check("wide", &written(&folder, SavedFile::model(&source).unwrap()).1, UNET);
    // Of a model of another family hardly anything fits.
    let xl = Tiny::of(&TINY_SDXL);
    let changes = vec![merge(ModelSource::new(&xl.path), Shares::ratio(0.5))];
    let source = ModelSource { changes, ..ModelSource::new(&tiny.path) };
    let error = load_model_from(&source, &Device::Cpu, DType::F32).unwrap_err().to_string();
    assert!(error.contains("cannot be merged"), "{error}");
}

/// Text encoders are merged by what they are, whatever their files look like.
#[test]
fn text_encoders_of_other_layouts_are_merged() {
    let folder = Folder::new();
    let deep = Tiny::of(&TINY_SDXL_DEEP);
    let all = read(&deep.path);
    let small = folder.save("small.safetensors", &below(&all, "conditioner.embedders.0.transformer."));
    let open = below(&all, LARGE);
    let turned = backwards(&open);
    let mut whole = all;
    whole.extend(turned.iter().map(|(name, tensor)| (format!("{LARGE}{name}"), tensor.clone())));
    let checkpoint = |path: PathBuf| TextSource::new(TextFiles::Checkpoint(path));
    let converted = |name: &str, large: &Tensors| {
        let large = folder.save(name, &as_hugging_face(large));
        TextSource::new(TextFiles::Encoders(vec![large, small.clone()]))
    };
    let ours = [checkpoint(deep.path.clone()), converted("ours.safetensors", &open)];
    let theirs =
        [checkpoint(folder.save("turned.safetensors", &whole)), converted("theirs.safetensors", &turned)];
    let xl = Tiny::of(&TINY_SDXL);
    for (own, other) in ours.iter().flat_map(|own| theirs.iter().map(move |other| (own, other))) {
        let (other, shares) = (Box::new(other.clone()), Shares::ratio(0.25));
        let changes = vec![Change::Merge(Merge { other, shares, by_prefix: Vec::new() })];
        let text = TextSource { changes, ..own.clone() };
        let file = SavedFile::checkpoint(&ModelSource::new(&xl.path), &text, &xl.path).unwrap();
        check("text", &written(&folder, file).1, "");
    }
    // Encoders that are not of one kind have nothing to merge.
    let sd2 = Tiny::of(&TINY_SD2);
    let other = Box::new(checkpoint(sd2.path.clone()));
    let merge = Merge { other, shares: Shares::ratio(0.5), by_prefix: Vec::new() };
    let text = TextSource { changes: vec![Change::Merge(merge)], ..ours[0].clone() };
    let error = load_clip_from(&text, &Device::Cpu, DType::F32).unwrap_err().to_string();
    assert!(error.contains("`clip_h`"), "{error}");
}

#[test]
fn a_saved_checkpoint_is_the_one_it_was_made_of() {
    for layout in [&TINY, &TINY_SDXL_V] {
        let folder = Folder::new();
        let tiny = Tiny::of(layout);
        let (model, text) =
            (ModelSource::new(&tiny.path), TextSource::new(TextFiles::Checkpoint(tiny.path.clone())));
        let mut file = SavedFile::checkpoint(&model, &text, &tiny.path).unwrap();
        file.metadata([("prompt".to_owned(), "{\"1\": \"ü\"}".to_owned())]);
        let (path, saved) = written(&folder, file);
        let mut expected = read(&tiny.path);
        // What is left of training, and positions, which count from zero in every file.
        expected.retain(|name, _| {
            !["betas", "alphas_cumprod"].contains(&name.as_str()) && !name.ends_with("position_ids")
        });
        let names = |tensors: &Tensors| {
            let mut names: Vec<String> = tensors.keys().cloned().collect();
            names.sort();
            names
        };
        assert_eq!(names(&saved), names(&expected), "{}", layout.name);
        for (name, tensor) in &expected {
            let bytes =
                |t: &Tensor| t.flatten_all().unwrap().to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap();
            assert_eq!((saved[name].dims(), bytes(&saved[name])), (tensor.dims(), bytes(tensor)), "{name}");
        }
        let header = comfy_diffusion::checkpoint::CheckpointHeader::read(&path).unwrap();
        assert_eq!(header.metadata()["prompt"], "{\"1\": \"ü\"}");
        load_vae(&path, &Device::Cpu, DType::F32).unwrap();
    }
}

#[test]
fn saved_text_encoders_have_the_names_of_transformers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/merges_names.json");
    let wanted: HashMap<String, HashMap<String, Vec<usize>>> =
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let folder = Folder::new();
    let tiny = Tiny::of(&TINY_SDXL);
    let text = TextSource::new(TextFiles::Checkpoint(tiny.path.clone()));
    for (name, file) in SavedFile::text_encoders(&text).unwrap() {
        let (_, saved) = written(&folder, file);
        let mut wanted = wanted[name].clone();
        // The checkpoint has none for the smaller encoder, whose pooled text nobody uses.
        if name == "clip_l" {
            wanted.remove("text_projection.weight");
        }
        let found: HashMap<String, Vec<usize>> =
            saved.iter().map(|(name, tensor)| (name.clone(), tensor.dims().to_vec())).collect();
        assert_eq!(found, wanted, "{name}");
    }
    let wrong = SavedFile::checkpoint(&ModelSource::new(&Tiny::of(&TINY).path), &text, &tiny.path);
    let reason = wrong.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(reason.contains("`clip_l`"), "{reason}");
}

#[test]
fn an_autoencoder_is_saved_without_a_prefix() {
    let folder = Folder::new();
    let tiny = Tiny::of(&TINY);
    let (path, saved) = written(&folder, SavedFile::vae(&tiny.path).unwrap());
    assert!(saved.contains_key("decoder.conv_in.weight") && !saved.contains_key("betas"));
    let decode = |path: &Path| {
        load_vae(path, &Device::Cpu, DType::F32).unwrap().decode(&wave(&[1, 4, 4, 4], 0.3)).unwrap()
    };
    assert_close("decoded", &decode(&path), &decode(&tiny.path), 1e-7);
}
