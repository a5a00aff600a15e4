//! Weights that follow a rule, so that fixtures need not hold them.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

pub fn fixture(name: &str) -> PathBuf {
    // Tests of the stage include this module too.
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../diffusion/tests/fixtures").join(name)
}

/// A network's weights by the rule of `vision.py`; `shapes` names the fixture with its tensors.
pub fn weights(shapes: &str, network: &str, gain: f64) -> HashMap<String, Tensor> {
    let text = std::fs::read_to_string(fixture(shapes)).unwrap();
    let shapes: HashMap<String, BTreeMap<String, Vec<usize>>> = serde_json::from_str(&text).unwrap();
    let tensor = |(number, (name, shape)): (usize, (&String, &Vec<usize>))| {
        (name.clone(), scattered(number, name, shape, gain))
    };
    shapes[network].iter().enumerate().map(tensor).collect()
}

fn scattered(number: usize, name: &str, shape: &[usize], gain: f64) -> Tensor {
    let count = shape.iter().product::<usize>();
    let norm = ["norm", "layrnorm", "ln_"].iter().any(|part| name.contains(part));
    let value = |i: usize| {
        let place = (i * i % 2003 * 31 + i * 7919 + number * 104_729) % 2003;
        let value = place as f64 / 2003.0 - 0.5;
        let value = match shape.len() {
            1 => value * 0.2 + if norm && name.ends_with("weight") { 1.0 } else { 0.0 },
            _ => value * (gain * (12.0 / (count / shape[0]) as f64).sqrt()),
        };
        value as f32
    };
    Tensor::from_vec((0..count).map(value).collect::<Vec<f32>>(), shape, &Device::Cpu).unwrap()
}
