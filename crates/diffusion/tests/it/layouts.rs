//! Files of other layouts and number formats are the same networks.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use comfy_diffusion::checkpoint::{CheckpointHeader, Float8, detect};
use comfy_diffusion::families::Family;
use comfy_diffusion::sampling::ModelInputs;
use comfy_diffusion::text::ClipSkip;
use comfy_diffusion::{Error, load_clip, load_model, load_model_stored_as, load_vae};
use half::{bf16, f16};
use safetensors::{Dtype, SafeTensors, serialize_to_file, tensor::TensorView};

use crate::models::{TINY, Tiny, wave};

const UNET: &str = "model.diffusion_model.";
const VAE: &str = "first_stage_model.";

struct Part {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    data: Vec<u8>,
}

/// Rewrites the tiny checkpoint, tensor by tensor.
fn rewrite(change: impl Fn(Part) -> Vec<Part>) -> (tempfile::TempDir, PathBuf) {
    let bytes = std::fs::read(&Tiny::new().path).unwrap();
    let source = SafeTensors::deserialize(&bytes).unwrap();
    let part = |(name, view): (&str, TensorView<'_>)| Part {
        name: name.to_owned(),
        dtype: view.dtype(),
        shape: view.shape().to_vec(),
        data: view.data().to_vec(),
    };
    let parts: Vec<Part> = source.iter().map(part).flat_map(change).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file.safetensors");
    let views = parts.iter().map(|p| (&p.name, TensorView::new(p.dtype, p.shape.clone(), &p.data).unwrap()));
    serialize_to_file(views, None, &path).unwrap();
    (folder, path)
}

fn below(prefix: &'static str, to: &'static str) -> impl Fn(Part) -> Vec<Part> {
    move |part| match part.name.strip_prefix(prefix) {
        Some(rest) => vec![Part { name: format!("{to}{rest}"), ..part }],
        None => vec![],
    }
}

/// The names of the diffusers library by ours, as that library converts them; see the README of the fixtures.
fn theirs(kind: &str) -> HashMap<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/diffusers_names.txt");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    lines.filter(|words| words[0] == kind).map(|words| (words[2].to_owned(), words[1].to_owned())).collect()
}

fn as_diffusers(kind: &str) -> impl Fn(Part) -> Vec<Part> {
    let names = theirs(kind);
    move |mut part| {
        let Some((layer, end)) = part.name.rsplit_once('.') else { return vec![] };
        let Some(theirs) = names.get(layer) else { return vec![] };
        if theirs.contains("attentions.0.to_") && part.shape.len() == 4 && kind == "vae" {
            part.shape.truncate(2);
        }
        vec![Part { name: format!("{theirs}.{end}"), ..part }]
    }
}

fn same(found: &Tensor, expected: &Tensor) {
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(found.dims(), expected.dims());
    assert_eq!(values(found), values(expected));
}

fn eps(model: &comfy_diffusion::DiffusionModel) -> Tensor {
    let steps = Tensor::new(&[500f32], &Device::Cpu).unwrap();
    model.forward(&wave(&[1, 4, 8, 8], 0.2), &steps, &ModelInputs::text(wave(&[1, 77, 64], 0.4))).unwrap()
}

fn check_unet(path: &Path) {
    let detection = detect(&CheckpointHeader::read(path).unwrap());
    assert_eq!(detection.family, Family::Sd1);
    assert!(detection.vae.is_none() && detection.clip.is_none());
    same(&eps(&load_model(path, &Device::Cpu, DType::F32, &[]).unwrap()), &eps(&TINY.model));
}

fn check_vae(path: &Path) {
    let vae = load_vae(path, &Device::Cpu, DType::F32).unwrap();
    let (latent, image) = (wave(&[1, 4, 4, 8], 0.3), wave(&[1, 3, 32, 16], 0.5));
    same(&vae.decode(&latent).unwrap(), &TINY.vae.decode(&latent).unwrap());
    same(&vae.encode(&image).unwrap(), &TINY.vae.encode(&image).unwrap());
}

#[test]
fn a_unet_of_the_diffusers_layout_gives_the_same() {
    let (_folder, path) = rewrite(as_diffusers("unet"));
    check_unet(&path);
}

#[test]
fn a_unet_without_our_prefix_gives_the_same() {
    for prefix in ["", "net.", "model.", "model.model."] {
        let (_folder, path) = rewrite(below(UNET, prefix));
        check_unet(&path);
    }
}

#[test]
fn a_vae_of_the_diffusers_layout_gives_the_same() {
    let (_folder, path) = rewrite(as_diffusers("vae"));
    check_vae(&path);
    // The names of before version 0.16, and the attention as convolutions.
    let convert = as_diffusers("vae");
    let old = |part: Part| {
        let shape = part.shape.clone();
        let [mut part]: [Part; 1] = convert(part).try_into().ok()?;
        for (new, old) in [("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")] {
            part.name = part.name.replace(&format!("attentions.0.{new}."), &format!("attentions.0.{old}."));
        }
        Some(Part { shape, ..part })
    };
    let (_folder, path) = rewrite(|part| old(part).into_iter().collect());
    check_vae(&path);
}

#[test]
fn a_vae_without_our_prefix_gives_the_same() {
    let (_folder, path) = rewrite(below(VAE, ""));
    check_vae(&path);
}

#[test]
fn a_text_encoder_alone_gives_the_same() {
    for to in ["text_model.", ""] {
        let (_folder, path) = rewrite(below("cond_stage_model.transformer.text_model.", to));
        let clip = load_clip(&path, &Device::Cpu, DType::F32, &[]).unwrap();
        let encode =
            |clip: &comfy_diffusion::text::ClipTextEncoder| clip.encode("a cat", ClipSkip::LAST).unwrap();
        same(&encode(&clip).embedding, &encode(&TINY.clip).embedding);
    }
}

/// Names and shapes of the diffusers library's own SDXL network; the weights are a hole in the file.
#[test]
fn the_sdxl_network_of_the_diffusers_library_is_recognised() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/diffusers_sdxl.json");
    let shapes: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let (mut header, mut at) = (serde_json::Map::new(), 0u64);
    for (name, shape) in shapes {
        let dims: Vec<u64> = serde_json::from_value(shape.clone()).unwrap();
        let end = at + dims.iter().product::<u64>();
        header.insert(name, serde_json::json!({"dtype": "U8", "shape": shape, "data_offsets": [at, end]}));
        at = end;
    }
    let text = serde_json::Value::Object(header).to_string();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sdxl.safetensors");
    std::fs::write(&path, [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_len(8 + text.len() as u64 + at).unwrap();
    let detection = detect(&CheckpointHeader::read(&path).unwrap());
    assert_eq!(detection.family, Family::Sdxl);
    let unet = detection.unet.unwrap();
    assert_eq!((unet.input_blocks.len(), unet.output_blocks.len(), unet.middle[0].depth), (9, 9, 10));
    let depths: Vec<_> = unet.output_blocks.iter().map(|block| block.residual.depth).collect();
    assert_eq!(depths, [10, 10, 10, 2, 2, 2, 0, 0, 0]);
}

fn halves(part: &Part) -> Vec<f32> {
    let bits = part.data.chunks_exact(2).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    bits.map(|bits| f16::from_bits(bits).to_f32()).collect()
}

fn stored<const N: usize>(part: Part, dtype: Dtype, of: impl Fn(f32) -> [u8; N]) -> Vec<Part> {
    if part.dtype != Dtype::F16 {
        return vec![part];
    }
    let data = halves(&part).into_iter().flat_map(of).collect();
    vec![Part { dtype, data, ..part }]
}

#[test]
fn wider_formats_give_the_same() {
    let (_folder, path) = rewrite(|part| stored(part, Dtype::F32, f32::to_le_bytes));
    same(&eps(&load_model(&path, &Device::Cpu, DType::F32, &[]).unwrap()), &eps(&TINY.model));
    let (_folder, path) = rewrite(|part| stored(part, Dtype::F64, |value| f64::from(value).to_le_bytes()));
    same(&eps(&load_model(&path, &Device::Cpu, DType::F32, &[]).unwrap()), &eps(&TINY.model));
}

#[test]
fn bfloat16_gives_its_own_values() {
    let round = |value: f32| bf16::from_f32(value);
    let (_folder, short) = rewrite(|part| stored(part, Dtype::BF16, |value| round(value).to_le_bytes()));
    let (_folder, long) =
        rewrite(|part| stored(part, Dtype::F32, |value| round(value).to_f32().to_le_bytes()));
    let eps_of = |path: &Path| eps(&load_model(path, &Device::Cpu, DType::F32, &[]).unwrap());
    same(&eps_of(&short), &eps_of(&long));
}

/// The nearest bit pattern, by trying all.
fn nearest(table: &[f32; 256], value: f32) -> u8 {
    let distance = |bits: u8| {
        let found = (table[usize::from(bits)] - value).abs();
        if found.is_nan() { f32::INFINITY } else { found }
    };
    (0..=255).min_by(|&a, &b| distance(a).total_cmp(&distance(b))).unwrap()
}

#[test]
fn eight_bits_with_a_scale_give_their_values() {
    for (format, dtype) in [(Float8::E4m3, Dtype::F8_E4M3), (Float8::E5m2, Dtype::F8_E5M2)] {
        let table = format.table();
        // Every f16 pattern is looked up once instead of every weight.
        let bits: Vec<u8> =
            (0..=u16::MAX).map(|bits| nearest(&table, f16::from_bits(bits).to_f32() * 4.0)).collect();
        let byte = |value: f32| bits[usize::from(f16::from_f32(value).to_bits())];
        let is_scaled = |part: &Part| {
            part.name.starts_with(UNET) && part.name.ends_with(".weight") && part.shape.len() > 1
        };
        let scaled = |part: Part| {
            if !is_scaled(&part) {
                return vec![part];
            }
            let name = part.name.replace(".weight", ".scale_weight");
            let scale =
                Part { name, dtype: Dtype::F32, shape: vec![1], data: 0.25f32.to_le_bytes().to_vec() };
            let mut parts = stored(part, dtype, |value| [byte(value)]);
            parts.push(scale);
            parts
        };
        let plain = |part: Part| {
            let factor = if is_scaled(&part) { Some(0.25) } else { None };
            let of = |value: f32| factor.map_or(value, |f| table[usize::from(byte(value))] * f).to_le_bytes();
            stored(part, Dtype::F32, of)
        };
        let (_folder, short) = rewrite(scaled);
        let (_folder, long) = rewrite(plain);
        let eps_of = |path: &Path| eps(&load_model(path, &Device::Cpu, DType::F32, &[]).unwrap());
        let (found, expected) = (eps_of(&short), eps_of(&long));
        same(&found, &expected);
        assert!(crate::compare::distance(&found, &eps(&TINY.model)).cosine > 0.99);
    }
}

#[test]
fn a_scale_of_several_numbers_is_refused() {
    let (_folder, path) = rewrite(|part| {
        if part.name != format!("{UNET}time_embed.0.weight") {
            return vec![part];
        }
        let name = format!("{UNET}time_embed.0.scale_weight");
        vec![part, Part { name, dtype: Dtype::F32, shape: vec![2], data: vec![0; 8] }]
    });
    let error = load_model(&path, &Device::Cpu, DType::F32, &[]).unwrap_err();
    assert!(matches!(&error, Error::TensorShape { key, .. } if key.ends_with("scale_weight")), "{error}");
}

#[test]
fn weights_are_rounded_on_request() {
    let tiny = Tiny::new();
    for format in [Float8::E4m3, Float8::E5m2] {
        let model = load_model_stored_as(&tiny.path, &Device::Cpu, DType::F32, &[], Some(format)).unwrap();
        let (_folder, path) =
            rewrite(|part| stored(part, Dtype::F32, |value| format.round(value).to_le_bytes()));
        same(&eps(&model), &eps(&load_model(&path, &Device::Cpu, DType::F32, &[]).unwrap()));
        assert!(crate::compare::distance(&eps(&model), &eps(&TINY.model)).max_abs > 0.0);
    }
}
