//! Texts in boxes, against diffusers with the same layers.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use comfy_diffusion::checkpoint::CheckpointHeader;
use comfy_diffusion::sampling::{
    BoxPlace, ConditioningEntry, Denoiser, GroundedText, ModelInputs, NoisePredictor, SamplingError,
};
use comfy_diffusion::{Gligen, GroundedBox, Grounding};
use serde_json::Value;

use crate::compare::{assert_close, distance};
use crate::models::TINY;

const TOLERANCE: f64 = 2e-5;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gligen.safetensors")
}

/// Values without order, of mean 0 and deviation 1.
fn formula(count: usize, number: f64) -> impl Iterator<Item = f64> {
    // Rounded as the script rounds: the argument is large, so the last digit of it tells.
    let wave = move |i: usize| (i as f64 * 12.9898 + number * 78.233).sin() * 43_758.545_3;
    (0..count).map(move |i| (wave(i) - wave(i).floor() - 0.5) * 12f64.sqrt())
}

/// The layers, as the fixture describes them.
fn layers() -> HashMap<String, Tensor> {
    let header = CheckpointHeader::read(&fixture()).unwrap();
    let described: serde_json::Map<String, Value> =
        serde_json::from_str(&header.metadata()["layers"]).unwrap();
    let layer = |(name, layer): (String, Value)| {
        let number = |key: &str| layer[key].as_f64().unwrap();
        let shape: Vec<usize> =
            layer["shape"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect();
        let (spread, mean) = (number("spread"), number("mean"));
        let values = formula(shape.iter().product(), number("number"));
        let values: Vec<f32> = values.map(|value| value as f32 * spread as f32 + mean as f32).collect();
        (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
    };
    described.into_iter().map(layer).collect()
}

struct Case {
    gligen: Arc<Gligen>,
    goldens: HashMap<String, Tensor>,
}

fn case() -> Case {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gligen.safetensors");
    candle_core::safetensors::save(&layers(), &path).unwrap();
    assert_eq!(Gligen::refusal(&CheckpointHeader::read(&path).unwrap()), None);
    Case {
        gligen: Arc::new(Gligen::load(&path, &Device::Cpu, DType::F32).unwrap()),
        goldens: candle_core::safetensors::load(fixture(), &Device::Cpu).unwrap(),
    }
}

impl Case {
    fn boxes(&self) -> Vec<GroundedBox> {
        let corners: Vec<Vec<f32>> = self.goldens["corners"].to_vec2().unwrap();
        let grounded = |(i, corner): (usize, Vec<f32>)| GroundedBox {
            text: self.goldens["texts"].narrow(0, i, 1).unwrap(),
            left: corner[0] / 12.0,
            top: corner[1] / 8.0,
            right: corner[2] / 12.0,
            bottom: corner[3] / 8.0,
        };
        corners.into_iter().enumerate().map(grounded).collect()
    }
}

#[test]
fn the_network_sees_the_boxes() {
    let case = case();
    let objects = case.gligen.objects(&case.boxes()).unwrap();
    let grounding = Grounding { gligen: case.gligen.clone(), objects: objects.repeat((2, 1, 1)).unwrap() };
    let plain = ModelInputs::text(case.goldens["context"].clone());
    let grounded = ModelInputs { grounding: Some(grounding), ..plain.clone() };
    for (name, inputs) in [("plain", plain), ("grounded", grounded)] {
        let found = TINY.model.forward(&case.goldens["x"], &case.goldens["timesteps"], &inputs).unwrap();
        assert_close(name, &found, &case.goldens[name], TOLERANCE);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let case = case();
    let boxes = case.boxes();
    let many = vec![boxes[0].clone(); 31];
    assert!(case.gligen.objects(&many).unwrap_err().to_string().contains("31 boxes"));
    let wide =
        GroundedBox { text: Tensor::zeros((1, 65), DType::F32, &Device::Cpu).unwrap(), ..boxes[0].clone() };
    assert!(case.gligen.objects(&[wide]).unwrap_err().to_string().contains("65 wide"));
    assert!(Gligen::refusal(&CheckpointHeader::read(&fixture()).unwrap()).unwrap().contains("fuser"));
}

/// Runs the network and counts the calls.
struct Counted<'a>(&'a std::cell::Cell<usize>);

impl NoisePredictor for Counted<'_> {
    fn predict(&self, x: &Tensor, timestep: &Tensor, inputs: &ModelInputs) -> Result<Tensor, SamplingError> {
        self.0.set(self.0.get() + 1);
        assert!(inputs.grounding.is_some(), "both sides see the boxes");
        TINY.model.forward(x, timestep, inputs).map_err(|e| candle_core::Error::Msg(e.to_string()).into())
    }
}

#[test]
fn boxes_of_the_positive_side_reach_the_negative_one() {
    let case = case();
    let corners: Vec<Vec<f32>> = case.goldens["corners"].to_vec2().unwrap();
    let place = |(i, corner): (usize, &Vec<f32>)| BoxPlace {
        text: case.goldens["texts"].narrow(0, i, 1).unwrap(),
        x: corner[0] as u32,
        y: corner[1] as u32,
        width: (corner[2] - corner[0]) as u32,
        height: (corner[3] - corner[1]) as u32,
    };
    let boxes = corners.iter().enumerate().map(place).collect();
    let entry = |row| ConditioningEntry::new(case.goldens["context"].narrow(0, row, 1).unwrap());
    let grounding = Some(GroundedText { gligen: case.gligen.clone(), boxes });
    let (positive, negative) = ([ConditioningEntry { grounding, ..entry(0) }], [entry(1)]);
    let calls = std::cell::Cell::new(0);
    let counted = Counted(&calls);
    let guide = comfy_diffusion::sampling::CfgDenoiser::new(
        &counted,
        TINY.model.schedule(),
        &positive,
        &negative,
        3.0,
    );
    let guide = guide.unwrap();
    let x = case.goldens["x"].narrow(0, 0, 1).unwrap();
    let sigma = f64::from(TINY.model.schedule().sigmas()[900]);
    let found = guide.denoise(&x, sigma).unwrap();
    assert_eq!(calls.get(), 1);
    // The same by hand.
    let objects = case.gligen.objects(&case.boxes()).unwrap();
    let scaled = (&x / (sigma * sigma + 1.0).sqrt()).unwrap();
    let estimate = |row: usize| {
        let grounding = Grounding { gligen: case.gligen.clone(), objects: objects.clone() };
        let context = case.goldens["context"].narrow(0, row, 1).unwrap();
        let inputs = ModelInputs { grounding: Some(grounding), ..ModelInputs::text(context) };
        let timestep = Tensor::new(&[900f32], &Device::Cpu).unwrap();
        let noise = TINY.model.forward(&scaled, &timestep, &inputs).unwrap();
        (&x - (noise * sigma).unwrap()).unwrap()
    };
    let (cond, uncond) = (estimate(0), estimate(1));
    let expected = (&uncond + ((cond - &uncond).unwrap() * 3.0).unwrap()).unwrap();
    assert!(distance(&found, &expected).relative < 1e-5);
}
