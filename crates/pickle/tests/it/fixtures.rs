//! Files written by PyTorch hold what PyTorch says.

use crate::archive;
use comfy_pickle::{Container, PickleIndex};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::path::{Path, PathBuf};

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Every fixture: name and bytes.
pub fn all() -> Vec<(String, Vec<u8>)> {
    let names = expected();
    let names = names.as_object().unwrap().keys();
    names.map(|name| (name.clone(), std::fs::read(folder().join(name)).unwrap())).collect()
}

fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(folder().join("expected.json")).unwrap()).unwrap()
}

/// An 8-bit float with `mantissa` bits of fraction; these fixtures hold no NaN.
fn eight_bits(byte: u8, mantissa: i32, bias: i32) -> f64 {
    let magnitude = i32::from(byte & 0x7f);
    let (exponent, fraction) = (magnitude >> mantissa, f64::from(magnitude & ((1 << mantissa) - 1)));
    let unit = 2f64.powi(-mantissa);
    let value = match exponent {
        0 => fraction * unit * 2f64.powi(1 - bias),
        _ => (1.0 + fraction * unit) * 2f64.powi(exponent - bias),
    };
    if byte & 0x80 == 0 { value } else { -value }
}

fn half(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023) / 1024.0);
    sign * if exponent == 0 { fraction * 2f64.powi(-14) } else { (1.0 + fraction) * 2f64.powi(exponent - 15) }
}

fn numbers(dtype: Dtype, data: &[u8]) -> Vec<f64> {
    let two = |bytes: &[u8]| u16::from_le_bytes(bytes.try_into().unwrap());
    let four = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    let eight = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    let of = |width: usize, read: &dyn Fn(&[u8]) -> f64| data.chunks_exact(width).map(read).collect();
    match dtype {
        Dtype::F64 => of(8, &|b| f64::from_bits(eight(b))),
        Dtype::F32 => of(4, &|b| f32::from_bits(four(b)).into()),
        Dtype::F16 => of(2, &|b| half(two(b))),
        Dtype::BF16 => of(2, &|b| f32::from_bits(u32::from(two(b)) << 16).into()),
        Dtype::F8_E4M3 => of(1, &|b| eight_bits(b[0], 3, 7)),
        Dtype::F8_E5M2 => of(1, &|b| eight_bits(b[0], 2, 15)),
        Dtype::I64 => of(8, &|b| eight(b) as i64 as f64),
        Dtype::I32 => of(4, &|b| f64::from(four(b) as i32)),
        Dtype::I16 => of(2, &|b| f64::from(two(b) as i16)),
        Dtype::I8 => of(1, &|b| f64::from(b[0] as i8)),
        Dtype::U8 | Dtype::BOOL => of(1, &|b| f64::from(b[0])),
        other => panic!("{other:?}"),
    }
}

fn torch_name(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F64 => "float64",
        Dtype::F32 => "float32",
        Dtype::F16 => "float16",
        Dtype::BF16 => "bfloat16",
        Dtype::F8_E4M3 => "float8_e4m3fn",
        Dtype::F8_E5M2 => "float8_e5m2",
        Dtype::I64 => "int64",
        Dtype::I32 => "int32",
        Dtype::I16 => "int16",
        Dtype::I8 => "int8",
        Dtype::U8 => "uint8",
        Dtype::BOOL => "bool",
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_tensor_has_the_values_that_pytorch_gives() {
    let mut compared = 0;
    for (file, wanted) in expected().as_object().unwrap() {
        let bytes = std::fs::read(folder().join(file)).unwrap();
        let output = archive::convert(&bytes).unwrap_or_else(|error| panic!("{file}: {error}"));
        let found = SafeTensors::deserialize(&output).unwrap();
        let mut names: Vec<_> = found.names().into_iter().map(str::to_owned).collect();
        names.sort();
        let mut wanted_names: Vec<_> = wanted.as_object().unwrap().keys().cloned().collect();
        wanted_names.sort();
        assert_eq!(names, wanted_names, "{file}");
        for (name, wanted) in wanted.as_object().unwrap() {
            let tensor = found.tensor(name).unwrap();
            assert_eq!(wanted["dtype"], torch_name(tensor.dtype()), "{file} {name}");
            assert_eq!(wanted["shape"], serde_json::json!(tensor.shape()), "{file} {name}");
            let values: Vec<f64> = serde_json::from_value(wanted["values"].clone()).unwrap();
            assert_eq!(numbers(tensor.dtype(), tensor.data()), values, "{file} {name}");
            compared += 1;
        }
    }
    println!("{compared} tensors compared");
    assert!(compared > 60);
}

#[test]
fn both_containers_are_told_apart() {
    for (file, container) in [("zip.pt", Container::Zip), ("legacy.pth", Container::Legacy)] {
        assert_eq!(PickleIndex::open(&folder().join(file)).unwrap().container, container);
    }
}

#[test]
fn a_shared_storage_is_read_by_each_of_its_tensors() {
    let index = PickleIndex::open(&folder().join("zip.pt")).unwrap();
    let (whole, tail) = (&index.tensors["whole"], &index.tensors["tail"]);
    assert_eq!(whole.storage, tail.storage);
    assert_eq!((whole.offset, tail.offset, tail.shape.as_slice()), (0, 4, &[6][..]));
}

#[test]
fn pairs_of_networks_and_plain_values_are_kept() {
    let folder_of_result = tempfile::tempdir().unwrap();
    let output = folder_of_result.path().join("out.safetensors");
    comfy_pickle::convert(&folder().join("hypernetwork.pt"), &output).unwrap();
    let bytes = std::fs::read(output).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let plain = header.metadata().clone().unwrap();
    for (name, value) in
        [("activation_func", "mish"), ("is_layer_norm", "true"), ("step", "3"), ("format", "pt")]
    {
        assert_eq!(plain[name], value, "{name}");
    }
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    // Two widths, two networks each, two layers of a weight and a bias with a normalisation each.
    assert_eq!(tensors.len(), 2 * 2 * 2 * 4);
    assert_eq!(tensors.tensor("128.1.linear.3.weight").unwrap().shape(), [128, 256]);
}
