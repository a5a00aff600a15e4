//! Text encoders in files of their own, and prompts with embeddings, against transformers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use comfy_diffusion::adapters::{Adapter, UsedAdapter};
use comfy_diffusion::changes::{Change, TextFiles, TextSource};
use comfy_diffusion::text::{
    ClipSkip, ClipTextEncoder, Embedding, EmbeddingSet, PromptWarning, embedding_names,
};
use comfy_diffusion::{load_clip, load_clip_from};

use crate::compare::assert_close;
use crate::families::kept;
use crate::models::Tiny;
use crate::random_checkpoint::{TINY, TINY_SD2, TINY_SDXL_DEEP};

type Tensors = HashMap<String, Tensor>;

const SMALL: &str = "conditioner.embedders.0.transformer.";
const LARGE: &str = "conditioner.embedders.1.model.";
const TOLERANCE: f64 = 1e-5;

fn goldens() -> Tensors {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/text_files.safetensors");
    candle_core::safetensors::load(path, &Device::Cpu).unwrap()
}

fn save(folder: &tempfile::TempDir, name: &str, tensors: &Tensors) -> PathBuf {
    let path = folder.path().join(name);
    candle_core::safetensors::save(tensors, &path).unwrap();
    path
}

/// The tensors below a prefix, without it.
pub fn below(tensors: &Tensors, prefix: &str) -> Tensors {
    let cut =
        |(name, tensor): (&String, &Tensor)| Some((name.strip_prefix(prefix)?.to_owned(), tensor.clone()));
    tensors.iter().filter_map(cut).collect()
}

/// OpenCLIP tensors as Hugging Face's converter stores them: named otherwise, query, key and value apart, the
/// projection turned.
pub fn as_hugging_face(open: &Tensors) -> Tensors {
    let mut converted = Tensors::new();
    for (name, tensor) in open {
        if name == "text_projection" {
            let turned = tensor.t().unwrap().contiguous().unwrap();
            converted.insert("text_projection.weight".into(), turned);
            continue;
        }
        if let Some((layer, end)) = name.split_once("attn.in_proj_") {
            let layer = layer.replace("transformer.resblocks", "text_model.encoder.layers");
            for (third, part) in tensor.chunk(3, 0).unwrap().into_iter().zip(["q", "k", "v"]) {
                let name = format!("{layer}self_attn.{part}_proj.{end}");
                converted.insert(name, third.contiguous().unwrap());
            }
            continue;
        }
        let mut name = format!("text_model.{name}");
        for (theirs, ours) in [
            ("token_embedding", "embeddings.token_embedding"),
            ("positional_embedding", "embeddings.position_embedding.weight"),
            ("transformer.resblocks", "encoder.layers"),
            (".attn.out_proj", ".self_attn.out_proj"),
            ("ln_1", "layer_norm1"),
            ("ln_2", "layer_norm2"),
            ("c_fc", "fc1"),
            ("c_proj", "fc2"),
            ("ln_final", "final_layer_norm"),
        ] {
            name = name.replace(theirs, ours);
        }
        converted.insert(name, tensor.clone());
    }
    converted
}

fn load(paths: &[&PathBuf], changes: Vec<Change<TextSource>>) -> comfy_diffusion::Result<ClipTextEncoder> {
    let files = TextFiles::Encoders(paths.iter().map(|path| (*path).clone()).collect());
    load_clip_from(&TextSource { files, changes }, &Device::Cpu, DType::F32)
}

fn check(
    clip: &ClipTextEncoder,
    prompt: &str,
    embeddings: &EmbeddingSet,
    golden: &str,
) -> Vec<PromptWarning> {
    let goldens = goldens();
    let found = clip.encode_with(prompt, ClipSkip::DEFAULT, embeddings).unwrap();
    assert_close(golden, &kept(&found.embedding), &goldens[&format!("text_{golden}")], TOLERANCE);
    assert_close(golden, &found.pooled, &goldens[&format!("pooled_{golden}")], TOLERANCE);
    found.warnings
}

const PLAIN: &str = "a photo of a (cat:1.3)";

#[test]
fn the_encoders_of_xl_in_two_files_agree_with_transformers() {
    let tiny = Tiny::of(&TINY_SDXL_DEEP);
    let folder = tempfile::tempdir().unwrap();
    let all = candle_core::safetensors::load(&tiny.path, &Device::Cpu).unwrap();
    let open = below(&all, LARGE);
    let small = save(&folder, "small.safetensors", &below(&all, SMALL));
    let large = save(&folder, "large.safetensors", &open);
    let converted = save(&folder, "converted.safetensors", &as_hugging_face(&open));
    let none = EmbeddingSet::new();
    let whole = load_clip(&tiny.path, &Device::Cpu, DType::F32, &[]).unwrap();
    for paths in [[&small, &large], [&large, &small], [&small, &converted]] {
        let clip = load(&paths, vec![]).unwrap();
        assert_eq!(clip.weight_bytes(), whole.weight_bytes());
        check(&clip, PLAIN, &none, "xl_plain");
    }
    // CLIP-G alone is the refiner's.
    check(&load(&[&converted], vec![]).unwrap(), PLAIN, &none, "large_plain");
    for paths in [&[&small, &small][..], &[&large, &converted], &[&small, &large, &large]] {
        let error = load(paths, vec![]).unwrap_err().to_string();
        assert!(error.contains("XL takes CLIP-L and CLIP-G"), "{error}");
    }
}

/// A LoRA reaches each encoder in its own file, as it does in a checkpoint.
#[test]
fn a_lora_reaches_both_files() {
    let tiny = Tiny::of(&TINY_SDXL_DEEP);
    let folder = tempfile::tempdir().unwrap();
    let all = candle_core::safetensors::load(&tiny.path, &Device::Cpu).unwrap();
    let small = save(&folder, "small.safetensors", &below(&all, SMALL));
    let open = below(&all, LARGE);
    let large = save(&folder, "large.safetensors", &open);
    let converted = save(&folder, "converted.safetensors", &as_hugging_face(&open));
    let mut lora = Tensors::new();
    for (encoder, width) in [("lora_te1", 64), ("lora_te2", 128)] {
        let name = format!("{encoder}_text_model_encoder_layers_1_self_attn_v_proj");
        lora.insert(format!("{name}.lora_up.weight"), crate::models::wave(&[width, 2], 0.1));
        lora.insert(format!("{name}.lora_down.weight"), crate::models::wave(&[2, width], 0.7));
    }
    let adapter = Arc::new(Adapter::open(&save(&folder, "lora.safetensors", &lora)).unwrap());
    let used = UsedAdapter { adapter, strength: 0.3 };
    let encode = |clip: &ClipTextEncoder| clip.encode(PLAIN, ClipSkip::DEFAULT).unwrap();
    let plain = encode(&load_clip(&tiny.path, &Device::Cpu, DType::F32, &[]).unwrap());
    let expected =
        encode(&load_clip(&tiny.path, &Device::Cpu, DType::F32, std::slice::from_ref(&used)).unwrap());
    for second in [&large, &converted] {
        let clip = load(&[second, &small], vec![Change::Adapter(used.clone())]).unwrap();
        let found = encode(&clip);
        assert_close("text", &found.embedding, &expected.embedding, 1e-6);
        assert_close("pooled", &found.pooled, &expected.pooled, 1e-6);
        for (at, width) in [(0, 64), (64, 128)] {
            let part = |t: &Tensor| t.narrow(2, at, width).unwrap().contiguous().unwrap();
            let moved = crate::compare::distance(&part(&found.embedding), &part(&plain.embedding));
            assert!(moved.max_abs > 1e-4, "{moved:?}");
        }
    }
}

/// Writes vectors as an embedding file and opens it under the name `x`.
fn embedding(tensors: &[(&str, &Tensor)]) -> EmbeddingSet {
    let folder = tempfile::tempdir().unwrap();
    let tensors = tensors.iter().map(|(name, tensor)| ((*name).to_owned(), (*tensor).clone())).collect();
    let embedding = Embedding::open(&save(&folder, "x.safetensors", &tensors)).unwrap();
    EmbeddingSet::from([("x".to_owned(), Arc::new(embedding))])
}

#[test]
fn embeddings_take_the_place_of_words() {
    let goldens = goldens();
    let (l, h, g) = (&goldens["vectors_l"], &goldens["vectors_h"], &goldens["vectors_g"]);
    let load = |layout| load_clip(&Tiny::of(layout).path, &Device::Cpu, DType::F32, &[]).unwrap();
    let within = "a photo of embedding:x cat";
    let sd1 = load(&TINY);
    // The names that different programs write, among other tensors where they do so.
    let index = Tensor::new(&[265i64], &Device::Cpu).unwrap();
    for tensors in [
        &[("emb_params", l)][..],
        &[("<my-word>", l)],
        &[("string_to_param.*", l), ("string_to_token.*", &index)],
        &[("clip_l", l), ("clip_g", g)],
        &[("bundle_emb.x.string_to_param.*", l), ("lora_unet_a.alpha", h)],
        &[("bundle_emb.x.clip_l", l), ("bundle_emb.x.clip_g", g)],
    ] {
        assert_eq!(check(&sd1, within, &embedding(tensors), "sd1_within"), []);
    }
    let set = embedding(&[("emb_params", l)]);
    assert_eq!(check(&sd1, "(embedding:x:1.2) cat", &set, "sd1_weighted"), []);
}

#[test]
fn every_encoder_takes_its_own_vectors() {
    let goldens = goldens();
    let (l, h, g) = (&goldens["vectors_l"], &goldens["vectors_h"], &goldens["vectors_g"]);
    let load = |layout| load_clip(&Tiny::of(layout).path, &Device::Cpu, DType::F32, &[]).unwrap();
    let within = "a photo of embedding:x cat";
    assert_eq!(check(&load(&TINY_SD2), within, &embedding(&[("emb_params", h)]), "sd2_within"), []);
    let both = embedding(&[("clip_g", g), ("clip_l", l)]);
    assert_eq!(check(&load(&TINY_SDXL_DEEP), within, &both, "xl_within"), []);
}

#[test]
fn what_cannot_be_used_is_left_out_with_a_warning() {
    let goldens = goldens();
    let sd1 = load_clip(&Tiny::of(&TINY).path, &Device::Cpu, DType::F32, &[]).unwrap();
    let within = "a photo of embedding:x cat";
    let wide = embedding(&[("emb_params", &goldens["vectors_h"])]);
    let warnings = check(&sd1, within, &wide, "sd1_without");
    let width =
        PromptWarning::EmbeddingWidth { name: "x".into(), encoder: "clip_l", found: 128, expected: 64 };
    assert_eq!(warnings, [width]);
    let warnings = check(&sd1, within, &EmbeddingSet::new(), "sd1_without");
    assert_eq!(warnings, [PromptWarning::EmbeddingMissing { name: "x".into() }]);
    let folder = tempfile::tempdir().unwrap();
    let number = Tensor::new(&[265i64], &Device::Cpu).unwrap();
    let path = save(&folder, "n.safetensors", &Tensors::from([("n".into(), number)]));
    assert!(Embedding::open(&path).unwrap_err().to_string().contains("no embedding"));
}

#[test]
fn names_end_at_white_space_and_may_lack_their_commas() {
    let names = embedding_names("a embedding:one, (embedding:sub/two.pt:1.2)\nembedding:three x");
    assert_eq!(names, ["one", "one,", "sub/two.pt", "three"]);
    assert!(embedding_names("xembedding:a").is_empty());
}
