//! The network with its attention changed, against diffusers with the same changes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use candle_core::{DType, Device, Tensor};
use comfy_diffusion::checkpoint::CheckpointHeader;
use comfy_diffusion::sampling::{
    AfterGuidance, ConditioningEntry, Hooks, ModelInputs, NoisePredictor, ResizeMethod, SampleRequest,
    SamplingError, SamplingModel, sample,
};
use comfy_diffusion::{
    DeepShrink, HyperTile, HyperTileRun, Hypernetwork, MiddleAttention, UnetChanges, UsedHypernetwork,
};

use crate::compare::{assert_close, distance};
use crate::models::TINY;

const UNET_TOLERANCE: f64 = 2e-5;
const SAMPLE_TOLERANCE: f64 = 1e-4;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

static GOLDENS: LazyLock<HashMap<String, Tensor>> = LazyLock::new(|| {
    candle_core::safetensors::load(fixture("network_changes.safetensors"), &Device::Cpu).unwrap()
});

fn check(name: &str, changes: UnetChanges<'_>) {
    let inputs = ModelInputs::text(GOLDENS["context"].clone());
    let run = || TINY.model.forward_with(&GOLDENS["x"], &GOLDENS["timesteps"], &inputs, changes).unwrap();
    let found = run();
    assert_close(name, &found, &GOLDENS[name], UNET_TOLERANCE);
    if name != "plain" {
        assert!(distance(&found, &GOLDENS["plain"]).relative > 1e-3, "{name} changes nothing");
    }
}

#[test]
fn without_changes_it_is_the_network() {
    check("plain", UnetChanges::default());
}

#[test]
fn hypernetworks_agree() {
    let network = Hypernetwork::load(&fixture("hypernetwork.safetensors"), &Device::Cpu, DType::F32).unwrap();
    let used = [UsedHypernetwork { network: Arc::new(network), strength: 0.7 }];
    check("hypernetwork", UnetChanges { hypernetworks: &used, ..UnetChanges::default() });
}

#[test]
fn other_files_are_no_hypernetworks() {
    let reason = |name: &str| Hypernetwork::refusal(&CheckpointHeader::read(&fixture(name)).unwrap());
    assert_eq!(reason("hypernetwork.safetensors"), None);
    assert!(reason("adapters.safetensors").unwrap().contains("named by the width"));
}

#[test]
fn tiles_agree() {
    let narrow = HyperTile { tile_size: 1, swap_size: 3, max_depth: 1, scale_depth: false };
    let deep = HyperTile { tile_size: 40, swap_size: 2, max_depth: 2, scale_depth: true };
    for (name, settings) in [("hyper_tile_narrow", narrow), ("hyper_tile_deep", deep)] {
        let run = HyperTileRun::new(settings);
        check(name, UnetChanges { hyper_tile: Some(&run), ..UnetChanges::default() });
    }
}

#[test]
fn shrunk_features_agree() {
    use ResizeMethod::{Area, Bicubic, Bilinear, NearestExact};
    let goldens = candle_core::safetensors::load(fixture("deep_shrink.safetensors"), &Device::Cpu).unwrap();
    let inputs = ModelInputs::text(GOLDENS["context"].clone());
    for (name, block, factor, after_skip, down, up) in [
        ("after_3", 3, 2.0, true, Bicubic, Bicubic),
        ("before_4", 4, 1.7, false, Area, NearestExact),
        ("after_1", 1, 1.5, true, Bilinear, Bilinear),
        ("larger_6", 6, 0.5, true, NearestExact, Area),
    ] {
        let shrink = [DeepShrink { block, factor, after_skip, down, up }];
        let changes = UnetChanges { deep_shrink: &shrink, ..UnetChanges::default() };
        let found = TINY.model.forward_with(&GOLDENS["x"], &GOLDENS["timesteps"], &inputs, changes).unwrap();
        assert_close(name, &found, &goldens[name], UNET_TOLERANCE);
        assert!(distance(&found, &GOLDENS["plain"]).relative > 1e-3, "{name} changes nothing");
    }
    let nothing_left = [DeepShrink { block: 9, factor: 9.0, after_skip: true, down: Area, up: Area }];
    let changes = UnetChanges { deep_shrink: &nothing_left, ..UnetChanges::default() };
    let error = TINY.model.forward_with(&GOLDENS["x"], &GOLDENS["timesteps"], &inputs, changes).unwrap_err();
    assert!(error.to_string().contains("cannot be shrunk"), "{error}");
}

struct Watched;

impl NoisePredictor for Watched {
    fn predict(&self, x: &Tensor, timestep: &Tensor, inputs: &ModelInputs) -> Result<Tensor, SamplingError> {
        self.predict_watched(x, timestep, inputs, MiddleAttention::Plain)
    }

    fn predict_watched(
        &self,
        x: &Tensor,
        timestep: &Tensor,
        inputs: &ModelInputs,
        middle: MiddleAttention<'_>,
    ) -> Result<Tensor, SamplingError> {
        let changes = UnetChanges { middle, ..UnetChanges::default() };
        let failed = |e: comfy_diffusion::Error| candle_core::Error::Msg(e.to_string()).into();
        TINY.model.forward_with(x, timestep, inputs, changes).map_err(failed)
    }
}

fn sampled(after: &[AfterGuidance], cfg: f64) -> Tensor {
    let entry = |row| [ConditioningEntry::new(GOLDENS["context"].narrow(0, row, 1).unwrap())];
    let (positive, negative) = (entry(0), entry(1));
    let latent = Tensor::zeros((1, 4, 24, 32), DType::F32, &Device::Cpu).unwrap();
    let mut request = SampleRequest::new(&latent, &positive, &negative);
    (request.seed, request.steps, request.cfg) = (42, 4, cfg);
    let mut model = SamplingModel::new(&Watched, TINY.model.schedule(), TINY.model.latent_scale());
    model.after_guidance = after;
    (sample(&model, &request, Hooks::default()).unwrap() * TINY.model.latent_scale()).unwrap()
}

#[test]
fn guidance_by_attention_agrees() {
    let perturbed = AfterGuidance::PerturbedAttention { scale: 3.0 };
    let attended = AfterGuidance::SelfAttention { scale: 0.75, blur_sigma: 2.0 };
    let plain = sampled(&[], 5.0);
    for (name, after) in [("perturbed", perturbed), ("self_attention", attended)] {
        let found = sampled(&[after], 5.0);
        assert_close(name, &found, &GOLDENS[name], SAMPLE_TOLERANCE);
        assert!(distance(&found, &plain).relative > 1e-3, "{name} changes nothing");
    }
}

#[test]
fn guidance_by_attention_works_without_cfg() {
    let plain = sampled(&[], 1.0);
    for (after, changes) in [
        (AfterGuidance::PerturbedAttention { scale: 0.0 }, false),
        (AfterGuidance::PerturbedAttention { scale: 3.0 }, true),
        (AfterGuidance::SelfAttention { scale: 0.75, blur_sigma: 2.0 }, true),
        // Without a blur only the network's own error is left, which is not nothing.
        (AfterGuidance::SelfAttention { scale: 0.0, blur_sigma: 0.0 }, false),
    ] {
        let apart = distance(&sampled(&[after], 1.0), &plain).relative;
        assert_eq!(apart > 1e-4, changes, "{after:?}: {apart:e}");
    }
}
