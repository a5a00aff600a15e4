//! Damaged and malicious weight files give errors: no panic, no huge allocation.

use std::path::PathBuf;

use candle_core::{DType, Device};
use comfy_diffusion::checkpoint::{CheckpointHeader, HeaderProblem, detect};
use comfy_diffusion::families::{Family, Support};
use comfy_diffusion::{Error, load_clip, load_model, load_vae};

use crate::models::Tiny;

struct Folder(tempfile::TempDir);

impl Folder {
    fn write(&self, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join("file.safetensors");
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

fn file(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

fn problem(bytes: &[u8]) -> HeaderProblem {
    let folder = Folder(tempfile::tempdir().unwrap());
    let path = folder.write(bytes);
    for result in [
        CheckpointHeader::read(&path).map(drop),
        load_model(&path, &Device::Cpu, DType::F32, &[]).map(drop),
        load_clip(&path, &Device::Cpu, DType::F32, &[]).map(drop),
        load_vae(&path, &Device::Cpu, DType::F32).map(drop),
    ] {
        assert!(matches!(result, Err(Error::Malformed { .. })), "{result:?}");
    }
    match CheckpointHeader::read(&path) {
        Err(Error::Malformed { problem, .. }) => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn length_lies_are_caught() {
    assert_eq!(problem(b""), HeaderProblem::TooShort { bytes: 0 });
    assert_eq!(problem(b"1234567"), HeaderProblem::TooShort { bytes: 7 });
    assert_eq!(problem(&u64::MAX.to_le_bytes()), HeaderProblem::HeaderTooLong { declared: u64::MAX });
    let past = [&1000u64.to_le_bytes()[..], b"{}"].concat();
    assert_eq!(problem(&past), HeaderProblem::HeaderPastEnd { declared: 1000, available: 2 });
    assert!(matches!(problem(&0u64.to_le_bytes()), HeaderProblem::Json(_)));
}

#[test]
fn other_formats_are_named() {
    assert_eq!(problem(b"PK\x03\x04 and the rest of a zip archive"), HeaderProblem::Pickle);
    assert_eq!(problem(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j"), HeaderProblem::Pickle);
}

#[test]
fn header_text_is_checked() {
    assert_eq!(problem(&file(b"{\"\xff\xfe\":1}", b"")), HeaderProblem::NotUtf8);
    for header in [
        "[]",
        "{",
        "null",
        r#"{"a":1}"#,
        r#"{"a":{"dtype":"F32","shape":[1]}}"#,
        r#"{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
        r#"{"__metadata__":{"a":{"b":"c"}}}"#,
    ] {
        assert!(matches!(problem(&file(header.as_bytes(), &[0; 4])), HeaderProblem::Json(_)), "{header}");
    }
    let deep = "[".repeat(100_000);
    assert!(matches!(problem(&file(deep.as_bytes(), b"")), HeaderProblem::Json(_)));
}

#[test]
fn offsets_are_checked() {
    let two = |a: [u64; 2], b: [u64; 2]| {
        let header = format!(
            r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":{a:?}}},"b":{{"dtype":"F16","shape":[4],"data_offsets":{b:?}}}}}"#
        );
        problem(&file(header.as_bytes(), &[0; 16]))
    };
    assert!(matches!(two([0, 8], [4, 12]), HeaderProblem::NotContiguous { .. }));
    assert!(matches!(two([0, 8], [9, 17]), HeaderProblem::NotContiguous { .. }));
    assert!(matches!(two([8, 0], [8, 16]), HeaderProblem::NotContiguous { .. }));
    assert!(matches!(two([0, 4], [4, 16]), HeaderProblem::WrongSize { .. }));
    assert!(matches!(two([0, u64::MAX], [u64::MAX, u64::MAX]), HeaderProblem::WrongSize { .. }));
    let huge = r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,16]}}"#;
    assert!(matches!(problem(&file(huge.as_bytes(), &[0; 16])), HeaderProblem::TooManyElements { .. }));
    let claims = r#"{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}"#;
    assert!(matches!(problem(&file(claims.as_bytes(), &[0; 16])), HeaderProblem::DataSize { .. }));
}

#[test]
fn truncated_checkpoints_are_refused() {
    let tiny = Tiny::new();
    let bytes = std::fs::read(&tiny.path).unwrap();
    for keep in [4, 100, 90_000, bytes.len() / 2, bytes.len() - 1] {
        problem(&bytes[..keep]);
    }
    problem(&[&bytes[..], &[0]].concat());
}

#[test]
fn sound_files_that_are_no_checkpoint_are_explained() {
    let folder = Folder(tempfile::tempdir().unwrap());
    for (key, reason) in [
        ("lora_unet_x.lora_up.weight", "this is a LoRA"),
        ("control_model.zero_convs.0.0.weight", "this is a ControlNet"),
        ("double_blocks.0.img_attn.norm.key_norm.scale", "this is a Flux model"),
        ("decoder.conv_in.weight", "this is a VAE"),
        ("something", "no `model.diffusion_model.input_blocks.0.0.weight`"),
    ] {
        let header = format!(r#"{{"{key}":{{"dtype":"F16","shape":[1],"data_offsets":[0,2]}}}}"#);
        let path = folder.write(&file(header.as_bytes(), &[0; 2]));
        let family = detect(&CheckpointHeader::read(&path).unwrap()).family;
        assert_eq!(family, Family::Unknown { reason: reason.into() });
        assert_eq!(family.support(), Support::Unknown);
        let error = load_model(&path, &Device::Cpu, DType::F32, &[]).unwrap_err();
        assert!(matches!(&error, Error::Unsupported { .. }) && error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn a_missing_or_misshapen_tensor_is_named() {
    let tiny = Tiny::new();
    let bytes = std::fs::read(&tiny.path).unwrap();
    let folder = Folder(tempfile::tempdir().unwrap());
    let with = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let mut bytes = bytes.clone();
        let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        load_model(&folder.write(&bytes), &Device::Cpu, DType::F32, &[]).unwrap_err()
    };
    let error = with("middle_block.0.in_layers.0.bias", "middle_block.0.in_layers.0.bios");
    assert!(matches!(&error, Error::MissingTensor { key } if key.ends_with("in_layers.0.bias")), "{error}");
    let error = with(
        r#"attn1.to_q.weight":{"dtype":"F16","shape":[128,128]"#,
        r#"attn1.to_q.weight":{"dtype":"F16","shape":[256,064]"#,
    );
    assert!(matches!(&error, Error::Malformed { .. }), "{error}");
    let error = with(
        r#"attn1.to_q.weight":{"dtype":"F16","shape":[128,128]"#,
        r#"attn1.to_q.weight":{"dtype":"F16","shape":[64, 256]"#,
    );
    assert!(matches!(&error, Error::TensorShape { .. }), "{error}");
    let error = with(r#"attn1.to_q.weight":{"dtype":"F16""#, r#"attn1.to_q.weight":{"dtype":"I16""#);
    assert!(matches!(&error, Error::TensorType { .. }), "{error}");
}
