//! The generated checkpoints, made once per test process.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use candle_core::{DType, Device, Tensor};
use comfy_diffusion::text::ClipTextEncoder;
use comfy_diffusion::vae::Vae;
use comfy_diffusion::{DiffusionModel, load_clip, load_model, load_vae};
use sha2::{Digest, Sha256};

use crate::random_checkpoint::{self, Layout};

/// A generated checkpoint's file; the folder is removed when the value is dropped.
pub struct Tiny {
    _folder: tempfile::TempDir,
    pub path: PathBuf,
}

impl Tiny {
    pub fn new() -> Self {
        Self::of(&random_checkpoint::TINY)
    }

    pub fn of(layout: &Layout) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(layout.name).with_extension("safetensors");
        layout.write(&path).unwrap();
        assert_eq!(sha256(&path), layout.sha256);
        Self { _folder: folder, path }
    }
}

pub struct Parts {
    pub model: DiffusionModel,
    pub clip: ClipTextEncoder,
    pub vae: Vae,
}

impl Parts {
    pub fn load(path: &Path) -> Self {
        let device = Device::Cpu;
        Self {
            model: load_model(path, &device, DType::F32, &[]).unwrap(),
            clip: load_clip(path, &device, DType::F32, &[]).unwrap(),
            vae: load_vae(path, &device, DType::F32).unwrap(),
        }
    }
}

pub static TINY: LazyLock<Parts> = LazyLock::new(|| Parts::load(&Tiny::new().path));

pub fn sha256(path: &Path) -> String {
    let mut hash = Sha256::new();
    std::io::copy(&mut std::fs::File::open(path).unwrap(), &mut hash).unwrap();
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A folder for files that a test writes; it is removed when the value is dropped.
pub struct Folder(pub tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn save(&self, name: &str, tensors: &HashMap<String, Tensor>) -> PathBuf {
        let path = self.0.path().join(name);
        candle_core::safetensors::save(tensors, &path).unwrap();
        path
    }
}

/// Reproducible values of about unit spread, for comparing a model with itself.
pub fn wave(shape: &[usize], phase: f32) -> Tensor {
    let count = shape.iter().product::<usize>();
    let values: Vec<f32> = (0..count).map(|i| ((i as f32) * 0.7 + phase).sin() * 1.4).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}
