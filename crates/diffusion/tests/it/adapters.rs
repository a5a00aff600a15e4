//! Adapters of every kind against an independent implementation, and names against the layouts that tools write.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use comfy_diffusion::adapters::{Adapter, UsedAdapter};
use comfy_diffusion::sampling::ModelInputs;
use comfy_diffusion::{Error, load_clip, load_model};

use crate::compare::assert_close;
use crate::random_checkpoint::{self, TINY_SDXL};

const STRENGTH: f64 = 0.7;
const UNET: &str = "model.diffusion_model.";
/// A linear layer and a convolution of the tiny checkpoint, with their usual names in LoRA files.
const LINEAR: (&str, &str) = (
    "input_blocks.1.1.transformer_blocks.0.attn2.to_q",
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_q",
);

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn save(&self, name: &str, tensors: &HashMap<String, Tensor>) -> std::path::PathBuf {
        let path = self.0.path().join(name);
        candle_core::safetensors::save(tensors, &path).unwrap();
        path
    }

    fn tiny(&self) -> std::path::PathBuf {
        let path = self.0.path().join("tiny.safetensors");
        random_checkpoint::write_tiny(&path).unwrap();
        path
    }

    fn adapter(&self, tensors: &HashMap<String, Tensor>) -> Result<UsedAdapter, Error> {
        let adapter = Adapter::open(&self.save("adapter.safetensors", tensors))?;
        Ok(UsedAdapter { adapter: Arc::new(adapter), strength: STRENGTH })
    }
}

fn random(seed: u64, shape: &[usize]) -> Tensor {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(|_| next()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

#[test]
fn every_kind_changes_a_weight_as_its_papers_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/adapters.safetensors");
    let all = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let mut kinds: BTreeMap<String, HashMap<String, Tensor>> = BTreeMap::new();
    for (key, tensor) in &all {
        if let Some((kind, part)) = key.strip_prefix("adapter.").and_then(|rest| rest.split_once('.')) {
            kinds.entry(kind.into()).or_default().insert(format!("layer.{part}"), tensor.clone());
        }
    }
    assert_eq!(kinds.len(), 12);
    for (kind, parts) in kinds {
        let folder = Folder::new();
        let UsedAdapter { adapter, strength } = folder.adapter(&parts).unwrap();
        let found = adapter.apply("layer", &all[&format!("weight.{kind}")], strength).unwrap();
        assert_close(&kind, &found, &all[&format!("expected.{kind}")], 1e-6);
    }
}

/// A model loaded with a LoRA equals one loaded from a checkpoint that has the change in its weights.
#[test]
fn a_lora_equals_merged_weights() {
    let folder = Folder::new();
    let tiny = folder.tiny();
    let mut merged = candle_core::safetensors::load(&tiny, &Device::Cpu).unwrap();
    let mut lora = HashMap::new();
    let key = format!("{UNET}{}.weight", LINEAR.0);
    let text = "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight";
    for (seed, key, name) in
        [(1, key.as_str(), LINEAR.1), (2, text, "lora_te_text_model_encoder_layers_0_mlp_fc1")]
    {
        let weight = merged[key].to_dtype(DType::F32).unwrap();
        let (rows, columns) = weight.dims2().unwrap();
        let (up, down) = (random(seed, &[rows, 2]), random(seed + 10, &[2, columns]));
        let change = (up.matmul(&down).unwrap() * (STRENGTH * 1.0 / 2.0)).unwrap();
        merged.insert(key.into(), (weight + change).unwrap());
        lora.insert(format!("{name}.lora_up.weight"), up);
        lora.insert(format!("{name}.lora_down.weight"), down);
        lora.insert(format!("{name}.alpha"), Tensor::new(1f32, &Device::Cpu).unwrap());
    }
    let merged = folder.save("merged.safetensors", &merged);
    let used = [folder.adapter(&lora).unwrap()];

    let device = Device::Cpu;
    let (x, t) = (random(5, &[1, 4, 8, 8]), Tensor::new(&[500f32], &device).unwrap());
    let predict = |path, adapters: &[_]| {
        let model = load_model(path, &device, DType::F32, adapters).unwrap();
        let clip = load_clip(path, &device, DType::F32, adapters).unwrap();
        let text = clip.encode("a cat", comfy_diffusion::text::ClipSkip::LAST).unwrap().embedding;
        (model.forward(&x, &t, &ModelInputs::text(text.clone())).unwrap(), text)
    };
    let (found, expected, plain) = (predict(&tiny, &used), predict(&merged, &[]), predict(&tiny, &[]));
    assert_close("text", &found.1, &expected.1, 1e-6);
    assert_close("noise", &found.0, &expected.0, 1e-6);
    let moved = (&found.0 - &plain.0).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    assert!(moved > 1e-4, "the LoRA changes the output by no more than {moved}");
}

/// The second text encoder of SDXL stores query, key and value below each other; a LoRA names them apart.
#[test]
fn a_lora_reaches_both_text_encoders_of_sdxl() {
    let folder = Folder::new();
    let path = folder.0.path().join("sdxl.safetensors");
    TINY_SDXL.write(&path).unwrap();
    let mut merged = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    let (first, second) = (
        "conditioner.embedders.0.transformer.text_model.encoder.layers.0.self_attn.k_proj.weight",
        "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight",
    );
    let mut lora = HashMap::new();
    for (seed, key, name) in [(1, first, "lora_te1"), (2, second, "lora_te2")] {
        let weight = merged[key].to_dtype(DType::F32).unwrap();
        let width = weight.dim(1).unwrap();
        let (up, down) = (random(seed, &[width, 2]), random(seed + 10, &[2, width]));
        let change = (up.matmul(&down).unwrap() * STRENGTH).unwrap();
        let zeros = change.zeros_like().unwrap();
        let change = if key == first { change } else { Tensor::cat(&[&zeros, &change, &zeros], 0).unwrap() };
        merged.insert(key.into(), (weight + change).unwrap());
        let name = format!("{name}_text_model_encoder_layers_0_self_attn_k_proj");
        lora.insert(format!("{name}.lora_up.weight"), up);
        lora.insert(format!("{name}.lora_down.weight"), down);
    }
    let merged = folder.save("merged.safetensors", &merged);
    let used = [folder.adapter(&lora).unwrap()];
    let encode = |path, adapters: &[_]| {
        let clip = load_clip(path, &Device::Cpu, DType::F32, adapters).unwrap();
        clip.encode("a cat", comfy_diffusion::text::ClipSkip::LAST).unwrap().embedding
    };
    let (found, expected) = (encode(&path, &used), encode(&merged, &[]));
    assert_close("text", &found, &expected, 1e-6);
    let moved = (&found - encode(&path, &[])).unwrap().abs().unwrap().max_all().unwrap();
    assert!(moved.to_scalar::<f32>().unwrap() > 1e-4);
}

#[test]
fn every_way_of_naming_a_layer_is_found() {
    let folder = Folder::new();
    let tiny = folder.tiny();
    let weights = candle_core::safetensors::load(&tiny, &Device::Cpu).unwrap();
    let shape = weights[&format!("{UNET}{}.weight", LINEAR.0)].dims2().unwrap();
    let path = "down_blocks.0.attentions.0.transformer_blocks.0.attn2";
    let names = [
        (LINEAR.1.to_owned(), ".lora_up.weight", ".lora_down.weight"),
        (format!("lora_unet_{}", LINEAR.0.replace('.', "_")), ".lora_up.weight", ".lora_down.weight"),
        (format!("lycoris_{}_to_q", path.replace('.', "_")), ".lora_up.weight", ".lora_down.weight"),
        (format!("unet.{path}.to_q"), ".lora_A.weight", ".lora_B.weight"),
        (format!("unet.{path}.to_q"), ".lora.down.weight", ".lora.up.weight"),
        (format!("unet.{path}.processor.to_q"), "_lora.down.weight", "_lora.up.weight"),
        (format!("diffusion_model.{}", LINEAR.0), ".lora_A.weight", ".lora_B.weight"),
        (format!("base_model.model.unet.{path}.to_q"), ".lora_A.default.weight", ".lora_B.default.weight"),
    ];
    for (name, one, other) in names {
        let (down, up) = if one.contains("lora_up") { (other, one) } else { (one, other) };
        let lora = HashMap::from([
            (format!("{name}{up}"), random(1, &[shape.0, 2])),
            (format!("{name}{down}"), random(2, &[2, shape.1])),
        ]);
        let used = [folder.adapter(&lora).unwrap()];
        // A name that fits nothing is an error, so loading is the proof.
        load_model(&tiny, &Device::Cpu, DType::F32, &used).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn an_adapter_that_does_not_fit_says_why() {
    let folder = Folder::new();
    let tiny = folder.tiny();
    let load = |tensors: &[(&str, &[usize])]| {
        let tensors = tensors.iter().map(|(name, shape)| ((*name).to_owned(), random(1, shape))).collect();
        let used = [folder.adapter(&tensors)?];
        load_model(&tiny, &Device::Cpu, DType::F32, &used).map(drop)
    };
    let q = LINEAR.1;
    let (up, down) = (format!("{q}.lora_up.weight"), format!("{q}.lora_down.weight"));
    type Tensors<'a> = &'a [(&'a str, &'a [usize])];
    let cases: [(Tensors<'_>, &str); 5] = [
        (&[(&up, &[4, 2])], "incomplete"),
        (&[(&up, &[4, 2]), (&down, &[2, 5])], "does not fit"),
        (
            &[("lora_unet_nowhere.lora_up.weight", &[4, 2]), ("lora_unet_nowhere.lora_down.weight", &[2, 4])],
            "none of its 1 layers",
        ),
        (&[("lora_unet_mid.oft_blocks", &[4, 2, 2])], "OFT"),
        (&[("something.weight", &[4, 2])], "no adapter layer"),
    ];
    for (tensors, reason) in cases {
        let error = load(tensors).unwrap_err().to_string();
        assert!(error.contains(reason), "{tensors:?}: {error}");
    }
}
