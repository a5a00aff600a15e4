//! Upscalers against an independent implementation.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use comfy_diffusion::Error;
use comfy_diffusion::upscale::Upscaler;

use crate::compare::assert_close;
use crate::scattered::{self, fixture};

/// A key of Real-ESRGAN under its name in the original release.
fn old_name(key: &str) -> String {
    let table = [
        ("conv_first.", "model.0."),
        ("conv_body.", "model.1.sub.1."),
        ("conv_up1.", "model.3."),
        ("conv_up2.", "model.6."),
        ("conv_hr.", "model.8."),
        ("conv_last.", "model.10."),
    ];
    if let Some((new, old)) = table.into_iter().find(|(new, _)| key.starts_with(new)) {
        return key.replacen(new, old, 1);
    }
    let parts: Vec<_> = key.split('.').collect();
    let &["body", block, unit, conv, kind] = parts.as_slice() else { panic!("{key}") };
    format!("model.1.sub.{block}.{}.{conv}.0.{kind}", unit.to_uppercase())
}

#[test]
fn every_architecture_and_naming_gives_the_reference_picture() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/upscalers.safetensors");
    let all = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
    let part = |prefix: &str| -> HashMap<String, Tensor> {
        let named =
            |(key, tensor): (&String, &Tensor)| Some((key.strip_prefix(prefix)?.to_owned(), tensor.clone()));
        all.iter().filter_map(named).collect()
    };
    let new = part("esrgan.");
    let old = new.iter().map(|(key, tensor)| (old_name(key), tensor.clone())).collect();
    let folded = new.clone().into_iter().chain(part("folded.")).collect();
    let double = new.clone().into_iter().filter(|(key, _)| !key.starts_with("conv_up2.")).collect();
    let folder = tempfile::tempdir().unwrap();
    for (name, factor, network) in [
        ("old", 4, old),
        ("new", 4, new),
        ("folded", 2, folded),
        ("double", 2, double),
        ("compact", 4, part("compact.")),
    ] {
        let file = folder.path().join(format!("{name}.safetensors"));
        candle_core::safetensors::save(&network, &file).unwrap();
        let upscaler = Upscaler::load(&file, &Device::Cpu, DType::F32).unwrap();
        assert_eq!(upscaler.factor(), factor, "{name}");
        let found = upscaler.forward(&all["picture"]).unwrap();
        assert_close(name, &found, &all[&format!("expected.{name}")], 1e-5);
    }
}

#[test]
fn transformers_over_windows_give_the_reference_picture() {
    let goldens = candle_core::safetensors::load(fixture("swinir.safetensors"), &Device::Cpu).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (name, factor) in [("classical", 4), ("tripled", 3), ("light", 2), ("real", 4), ("jpeg", 1)] {
        let file = folder.path().join(format!("{name}.safetensors"));
        candle_core::safetensors::save(&scattered::weights("swinir.json", name, 1.0), &file).unwrap();
        let upscaler = Upscaler::load(&file, &Device::Cpu, DType::F32).unwrap();
        assert_eq!(upscaler.factor(), factor, "{name}");
        let found = upscaler.forward(&goldens["picture"]).unwrap();
        assert_close(name, &found, &goldens[name], 2e-5);
    }
}

#[test]
fn other_files_are_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |tensors: &[(&str, &[usize])]| {
        let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        let tensors: HashMap<_, _> =
            tensors.iter().map(|(name, shape)| ((*name).to_owned(), zeros(shape))).collect();
        let path = folder.path().join("network.safetensors");
        candle_core::safetensors::save(&tensors, &path).unwrap();
        Upscaler::load(&path, &Device::Cpu, DType::F32).unwrap_err()
    };
    let other = refused(&[("layers.0.weight", &[2, 2])]).to_string();
    assert!(other.contains("ESRGAN"), "{other}");
    let channels =
        refused(&[("body.0.rdb1.conv1.weight", &[4, 8, 3, 3]), ("conv_first.weight", &[8, 5, 3, 3])]);
    assert!(channels.to_string().contains("5 input channels"), "{channels}");
    let missing =
        refused(&[("body.0.rdb1.conv1.weight", &[4, 8, 3, 3]), ("conv_first.weight", &[8, 3, 3, 3])]);
    assert!(matches!(missing, Error::MissingTensor { .. }), "{missing}");
}
