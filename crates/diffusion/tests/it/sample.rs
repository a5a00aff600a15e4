//! Whole samples: text, sampler and autoencoder against ComfyUI's latents and pictures.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use comfy_diffusion::DiffusionModel;
use comfy_diffusion::sampling::{
    ConditioningEntry, Hooks, ModelInputs, NoisePredictor, SampleRequest, SamplingError, SamplingModel,
    sample,
};
use comfy_diffusion::text::ClipSkip;

use crate::compare::distance;
use crate::models::{Parts, TINY};

const POSITIVE: &str = "a photo of a cat";
const NEGATIVE: &str = "(masterpiece:1.3), [blurry] dog";

/// Largest difference of a latent, relative to the largest value in it.
const LATENT_TOLERANCE: f64 = 1e-4;

/// Largest difference of a picture, in 8-bit levels.
const PIXEL_TOLERANCE: u8 = 1;

/// Gives the network to the sampler.
struct Predictor<'a>(&'a DiffusionModel);

impl NoisePredictor for Predictor<'_> {
    fn predict(&self, x: &Tensor, timestep: &Tensor, inputs: &ModelInputs) -> Result<Tensor, SamplingError> {
        self.0.forward(x, timestep, inputs).map_err(|e| candle_core::Error::Msg(e.to_string()).into())
    }
}

struct Samples<'a> {
    parts: &'a Parts,
    goldens: HashMap<String, Tensor>,
}

impl<'a> Samples<'a> {
    fn load(parts: &'a Parts, name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sampling").join(name);
        Self { parts, goldens: candle_core::safetensors::load(path, &Device::Cpu).unwrap() }
    }

    fn text(&self, prompt: &str) -> [ConditioningEntry; 1] {
        [ConditioningEntry::new(self.parts.clip.encode(prompt, ClipSkip::LAST).unwrap().embedding)]
    }

    /// Samples with the goldens' prompts, seed, steps and cfg, after `edit`.
    fn run(&self, latent: &Tensor, negative: &str, edit: impl FnOnce(&mut SampleRequest<'_>)) -> Tensor {
        self.run_masked(latent, None, negative, edit)
    }

    fn run_masked(
        &self,
        latent: &Tensor,
        noise_mask: Option<&Tensor>,
        negative: &str,
        edit: impl FnOnce(&mut SampleRequest<'_>),
    ) -> Tensor {
        let (positive, negative) = (self.text(POSITIVE), self.text(negative));
        let mut request = SampleRequest::new(latent, &positive, &negative);
        request.noise_mask = noise_mask;
        (request.seed, request.steps, request.cfg) = (42, 4, 7.0);
        edit(&mut request);
        let predictor = Predictor(&self.parts.model);
        let (schedule, scale) = (self.parts.model.schedule(), self.parts.model.latent_scale());
        let model = SamplingModel::new(&predictor, schedule, scale);
        sample(&model, &request, Hooks::default()).unwrap()
    }

    fn check_latent(&self, name: &str, latent: &Tensor) {
        let distance = distance(latent, &self.goldens[name]);
        println!("{name}: {distance:?}");
        assert!(distance.relative <= LATENT_TOLERANCE, "{name}: {distance:?}");
    }

    fn check_picture(&self, name: &str, latent: &Tensor) {
        let image = self.parts.vae.decode(latent).unwrap();
        let image = image.affine(0.5, 0.5).unwrap().permute((0, 2, 3, 1)).unwrap();
        let values: Vec<f32> = image.flatten_all().unwrap().to_vec1().unwrap();
        let golden: Vec<u8> = self.goldens[&format!("{name}_rgb")].flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(values.len(), golden.len());
        let pixel = |value: &f32| (value * 255.0).clamp(0.0, 255.0) as u8;
        let differences = || values.iter().map(pixel).zip(&golden).map(|(a, b)| a.abs_diff(*b));
        let (worst, changed) = (differences().max().unwrap_or(0), differences().filter(|d| *d > 0).count());
        println!("{name}: {changed} of {} values differ, by {worst} at most", golden.len());
        assert!(worst <= PIXEL_TOLERANCE, "{name}: a pixel differs by {worst}");
    }

    fn check_text_to_image(&self) {
        for (sampler, scheduler, size) in [
            ("euler", "normal", 64),
            ("dpmpp_2m", "karras", 64),
            ("euler_ancestral", "normal", 64),
            ("dpmpp_2m_sde", "karras", 64),
            ("euler", "normal", 128),
            ("dpmpp_2m", "karras", 128),
        ] {
            let name = format!("{sampler}_{scheduler}_{size}x{size}_4steps_cfg7_seed42");
            let latent =
                self.run(&empty(1, size / 8), NEGATIVE, |r| (r.sampler, r.scheduler) = (sampler, scheduler));
            self.check_latent(&name, &latent);
            self.check_picture(&name, &latent);
        }
    }

    fn check_variants(&self) {
        let start = self.goldens["vae_encode_out"].clone();
        let partial = self.run(&start, NEGATIVE, |r| (r.steps, r.denoise) = (6, 0.6));
        self.check_latent("img2img_euler_normal_64_6steps_denoise0.6", &partial);
        let mask = Tensor::cat(&[zeros(1, 64, 32), ones(1, 64, 32)], 2).unwrap();
        let inpainted = self.run_masked(&start, Some(&mask), NEGATIVE, |_| ());
        self.check_latent("inpaint_mask_right_half", &inpainted);
        self.check_latent("batch2", &self.run(&empty(2, 8), NEGATIVE, |_| ()));
        self.check_latent("cfg1", &self.run(&empty(1, 8), NEGATIVE, |r| r.cfg = 1.0));
        let first_half =
            self.run(&empty(1, 8), NEGATIVE, |r| (r.start_step, r.end_step) = (Some(0), Some(2)));
        self.check_latent("advanced_first_half", &first_half);
        let second_half = self.run(&first_half, NEGATIVE, |r| {
            (r.start_step, r.end_step) = (Some(2), Some(10_000));
            (r.add_noise, r.force_full_denoise) = (false, true);
        });
        self.check_latent("euler_normal_64x64_4steps_cfg7_seed42", &second_half);
        let long = ["cat"; 80].join(" ");
        self.check_latent("neg_long_prompt", &self.run(&empty(1, 8), &long, |_| ()));
    }
}

fn zeros(batch: usize, height: usize, width: usize) -> Tensor {
    Tensor::zeros((batch, height, width), DType::F32, &Device::Cpu).unwrap()
}

fn ones(batch: usize, height: usize, width: usize) -> Tensor {
    Tensor::ones((batch, height, width), DType::F32, &Device::Cpu).unwrap()
}

fn empty(batch: usize, size: usize) -> Tensor {
    Tensor::zeros((batch, 4, size, size), DType::F32, &Device::Cpu).unwrap()
}

#[test]
fn tiny_text_to_image_agrees() {
    Samples::load(&TINY, "samples_tiny.safetensors").check_text_to_image();
}

#[test]
fn tiny_variants_agree() {
    Samples::load(&TINY, "samples_tiny.safetensors").check_variants();
}

/// Runs with `COMFY_TEST_FULL=1`; `COMFY_TEST_SD15` names the file, which is written if it is not there.
#[test]
fn sd15_samples_agree() {
    if std::env::var("COMFY_TEST_FULL").as_deref() != Ok("1") {
        println!("skipped: set COMFY_TEST_FULL=1 to run the full-size model");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = std::env::var_os("COMFY_TEST_SD15")
        .map_or_else(|| folder.path().join("sd15.safetensors"), PathBuf::from);
    if !path.exists() {
        crate::random_checkpoint::write_sd15(&path).unwrap();
    }
    let parts = Parts::load(&path);
    let samples = Samples::load(&parts, "samples_sd15.safetensors");
    samples.check_text_to_image();
    samples.check_variants();
}
