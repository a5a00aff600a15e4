//! Every sampler against ComfyUI's final latents on a model with a closed form.

use std::cell::RefCell;

use candle_core::{DType, Device, Tensor};

use super::super::denoiser::Guided;
use super::super::noise::prepare_noise;
use super::super::sample::scale_noise;
use super::super::schedule::NoiseSchedule;
use super::super::{error, fixtures};
use super::*;

/// Largest difference of a latent, relative to the largest value in it.
const TOLERANCE: f32 = 1e-4;

/// D_c = 0.8 tanh(x / sqrt(1 + s^2)) + 0.1 sin(s), D_u = 0.6 x / (1 + s^2), guided with cfg 2.
struct Toy {
    calls: RefCell<Vec<f64>>,
}

impl Denoiser for Toy {
    fn denoise(&self, x: &Tensor, sigma: f64) -> error::Result<Tensor> {
        Ok(self.denoise_both(x, sigma)?.denoised)
    }

    fn denoise_both(&self, x: &Tensor, sigma: f64) -> error::Result<Guided> {
        self.calls.borrow_mut().push(sigma);
        let variance = 1.0 + sigma * sigma;
        let cond = x.affine(1.0 / variance.sqrt(), 0.0)?.tanh()?.affine(0.8, 0.1 * sigma.sin())?;
        let uncond = x.affine(0.6 / variance, 0.0)?;
        let denoised = (&uncond + (cond - &uncond)?.affine(2.0, 0.0)?)?;
        Ok(Guided { denoised, uncond })
    }
}

fn run_golden(
    sampler: &Sampler,
    case: &str,
    golden: &serde_json::Value,
    shape: &[usize],
) -> (Tensor, Vec<f64>) {
    let schedule = NoiseSchedule::sd15();
    let zeros = Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let noise = prepare_noise(&zeros, SEED, None).unwrap();
    let latent = if case.contains("latent=") {
        prepare_noise(&zeros, 99, None).unwrap().affine(0.7, 0.0).unwrap()
    } else {
        zeros
    };
    let sigmas = fixtures::floats(&golden["sigmas"]);
    let x = scale_noise(&schedule, &noise, &latent, sigmas[0]).unwrap();
    let toy = Toy { calls: RefCell::default() };
    let out = (sampler.run)(&toy, x, &sigmas, &mut SampleCtx::new(SEED, &schedule)).unwrap();
    (out, toy.calls.into_inner())
}

/// Seed the goldens were drawn with.
const SEED: u64 = 1234;

#[test]
fn every_sampler_matches() {
    let goldens = fixtures::json("samplers.json");
    let latents = fixtures::tensors("samplers.safetensors");
    let mut failures = Vec::new();
    let mut worst = 0f32;
    let mut checked = std::collections::BTreeMap::<&str, usize>::new();
    for (name, golden) in goldens.as_object().unwrap() {
        let (sampler, case) = name.split_once('|').unwrap();
        let sampler = find_sampler(sampler).unwrap();
        let expected = &latents[name];
        let (got, calls) = run_golden(sampler, case, golden, expected.dims());
        let difference = fixtures::relative_diff(&got, expected);
        let expected_count = golden["n_model_calls"].as_u64().unwrap() as usize;
        // The runs on a partly noised latent were recorded without the levels of their calls.
        let expected_calls = golden.get("model_call_sigmas").map(fixtures::floats);
        let same_levels =
            |expected: &Vec<f64>| calls.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-4 * b);
        let same_calls = calls.len() == expected_count && expected_calls.as_ref().is_none_or(same_levels);
        if difference.is_nan() || difference > TOLERANCE || !same_calls {
            failures.push(format!(
                "{name}: difference {difference:e}, calls {} of {expected_count}",
                calls.len()
            ));
        } else {
            worst = worst.max(difference);
        }
        *checked.entry(sampler.name).or_default() += 1;
    }
    println!("worst passing difference {worst:e}");
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), latents.len(), failures.join("\n"));
    for sampler in SAMPLERS {
        assert!(checked.get(sampler.name).is_some_and(|n| *n >= 7), "`{}` has no golden", sampler.name);
    }
}

#[test]
fn cancelling_ends_between_steps() {
    let schedule = NoiseSchedule::sd15();
    let x = Tensor::ones((1, 4, 2, 2), DType::F32, &Device::Cpu).unwrap();
    for sampler in SAMPLERS {
        let toy = Toy { calls: RefCell::default() };
        let seen = std::cell::Cell::new(0);
        let mut count = |info: &super::super::denoiser::StepInfo<'_>| {
            assert!(info.step < info.total);
            seen.set(seen.get() + 1);
        };
        let stop = || seen.get() == 2;
        let mut ctx = SampleCtx::new(1, &schedule).on_step(&mut count).cancelled(&stop);
        let result = (sampler.run)(&toy, x.clone(), &[10.0, 5.0, 2.0, 1.0, 0.5, 0.0], &mut ctx);
        assert!(matches!(result, Err(SamplingError::Cancelled)), "{}", sampler.name);
        assert_eq!(seen.get(), 2, "{}", sampler.name);
    }
}

#[test]
fn unknown_sampler_names_the_choices() {
    let error = find_sampler("eulr").unwrap_err().to_string();
    assert!(error.contains("`eulr`") && error.contains("`euler`"), "{error}");
}
