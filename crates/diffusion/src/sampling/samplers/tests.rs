//! Every sampler against ComfyUI's final latents on a model with a closed form.

use std::cell::RefCell;

use candle_core::{DType, Device, Tensor};

use super::super::denoiser::Guided;
use super::super::noise::prepare_noise;
use super::super::options::{CfgPlusPlusForm, NoiseScale, SaSolverOptions, SamplerOptions, StepControl};
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

/// Runs a sampler with options from the noise of [`SEED`] at the first level.
fn run_with(name: &str, sigmas: &[f64], options: SamplerOptions) -> Tensor {
    let schedule = NoiseSchedule::sd15();
    let noise = prepare_noise(&Tensor::zeros((1, 4, 4, 4), DType::F32, &Device::Cpu).unwrap(), SEED, None);
    let x = noise.unwrap().affine(sigmas[0], 0.0).unwrap();
    let toy = Toy { calls: RefCell::default() };
    options.validate().unwrap();
    let mut ctx = SampleCtx::new(SEED, &schedule).with_options(options);
    (find_sampler(name).unwrap().run)(&toy, x, sigmas, &mut ctx).unwrap()
}

fn options_of(case: &str) -> (&str, SamplerOptions) {
    let parts: Vec<&str> = case.split('|').collect();
    let number = |i: usize| parts[i].parse::<f64>().unwrap();
    let options = match parts[0] {
        "lms" => SamplerOptions { order: parts[1].parse().ok(), ..SamplerOptions::default() },
        "dpm_adaptive" => {
            let order = parts[1].parse().ok();
            match parts[2] {
                "eta" => SamplerOptions { order, ..SamplerOptions::noisy(0.6, 0.9) },
                "pid" => SamplerOptions {
                    order,
                    step_control: StepControl {
                        relative_tolerance: 0.02,
                        absolute_tolerance: 0.01,
                        first_length: 0.1,
                        proportional: 0.2,
                        integral: 0.9,
                        derivative: 0.1,
                        accept_from: 0.7,
                    },
                    ..SamplerOptions::default()
                },
                _ => SamplerOptions { order, ..SamplerOptions::default() },
            }
        }
        _ => {
            let r = parts.get(3).map(|r| r.parse().unwrap());
            SamplerOptions { r, ..SamplerOptions::noisy(number(1), number(2)) }
        }
    };
    (parts[0], options)
}

#[test]
fn options_match_independent_figures() {
    let goldens = fixtures::json("sampler_options.json");
    let mut failures = Vec::new();
    let mut worst = 0f32;
    for (case, golden) in goldens.as_object().unwrap() {
        let (name, options) = options_of(case);
        let got = run_with(name, &fixtures::floats(&golden["sigmas"]), options);
        let expected: Vec<f32> = fixtures::floats(&golden["latent"]).iter().map(|v| *v as f32).collect();
        let expected = Tensor::from_vec(expected, (1, 4, 4, 4), &Device::Cpu).unwrap();
        let difference = fixtures::relative_diff(&got, &expected);
        // The inner level of this one differs in its last bit, by which a Brownian path moves visibly.
        let tolerance = if name == "dpmpp_sde" { 10.0 * TOLERANCE } else { TOLERANCE };
        if difference.is_nan() || difference > tolerance {
            failures.push(format!("{case}: {difference:e}"));
        } else {
            worst = worst.max(difference);
        }
    }
    println!("{} runs, worst passing difference {worst:e}", goldens.as_object().unwrap().len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

const LEVELS: [f64; 9] = [14.6, 7.9, 4.03, 1.91, 0.83, 0.32, 0.107, 0.0292, 0.0];

fn assert_same(what: &str, a: &Tensor, b: &Tensor) {
    let difference = fixtures::relative_diff(a, b);
    assert!(difference < 1e-5, "{what}: {difference:e}");
}

/// Solvers of first order are Euler steps in other words.
#[test]
fn first_order_solvers_are_euler_steps() {
    let plain = run_with("euler", &LEVELS, SamplerOptions::default());
    let ancestral = run_with("euler_ancestral", &LEVELS, SamplerOptions::default());
    let er_sde = |eta| SamplerOptions {
        order: Some(1),
        noise_scale: NoiseScale::ReverseTime { eta },
        ..SamplerOptions::noisy(1.0, if eta > 0.0 { 1.0 } else { 0.0 })
    };
    assert_same("er_sde, ode", &run_with("er_sde", &LEVELS, er_sde(0.0)), &plain);
    assert_same("er_sde, sde", &run_with("er_sde", &LEVELS, er_sde(1.0)), &ancestral);
    let sa_solver = |eta| SamplerOptions {
        sa_solver: SaSolverOptions {
            noisy: Some((1e9, 0.0)),
            predictor_order: 1,
            corrector_order: 0,
            ..SaSolverOptions::default()
        },
        ..SamplerOptions::noisy(eta, 1.0)
    };
    assert_same("sa_solver, ode", &run_with("sa_solver", &LEVELS, sa_solver(0.0)), &plain);
    assert_same("sa_solver, sde", &run_with("sa_solver", &LEVELS, sa_solver(1.0)), &ancestral);
    let still = SamplerOptions::noisy(0.0, 1.0);
    let cfg_pp = run_with("euler_cfg_pp", &LEVELS, SamplerOptions::default());
    assert_same("cfg++", &run_with("euler_ancestral_cfg_pp", &LEVELS, still), &cfg_pp);
}

/// Higher orders come closer to the solution with the same steps, and evaluating twice is the `_pece` row.
#[test]
fn solver_orders_pay() {
    let levels = |steps: usize| -> Vec<f64> {
        (0..=steps).map(|i| 10.0 * (0.1f64 / 10.0).powf(i as f64 / steps as f64)).chain([0.0]).collect()
    };
    let exact = run_with("dpmpp_2m", &levels(2000), SamplerOptions::default());
    let error = |name: &str, steps: usize, options: SamplerOptions| {
        fixtures::relative_diff(&run_with(name, &levels(steps), options), &exact)
    };
    let er_sde = |order| SamplerOptions {
        order: Some(order),
        noise_scale: NoiseScale::ReverseTime { eta: 0.0 },
        ..SamplerOptions::noisy(0.0, 0.0)
    };
    let sa_solver = |predictor_order, simple_order_2| SamplerOptions {
        sa_solver: SaSolverOptions {
            predictor_order,
            corrector_order: predictor_order,
            simple_order_2,
            ..SaSolverOptions::default()
        },
        ..SamplerOptions::noisy(0.0, 1.0)
    };
    let first = error("euler", 40, SamplerOptions::default());
    for options in [er_sde(2), er_sde(3)] {
        let (coarse, fine) = (error("er_sde", 40, options.clone()), error("er_sde", 80, options));
        assert!(coarse < 0.5 * first && fine < 0.4 * coarse, "er_sde: {first} {coarse} {fine}");
    }
    for options in [sa_solver(2, false), sa_solver(2, true), sa_solver(3, false)] {
        let (coarse, fine) = (error("sa_solver", 40, options.clone()), error("sa_solver", 80, options));
        assert!(coarse < 0.5 * first && fine < 0.4 * coarse, "sa_solver: {first} {coarse} {fine}");
    }
    let twice = SamplerOptions {
        sa_solver: SaSolverOptions { evaluate_corrected: true, ..SaSolverOptions::default() },
        ..SamplerOptions::default()
    };
    let pece = run_with("sa_solver_pece", &LEVELS, SamplerOptions::default());
    assert_eq!(fixtures::relative_diff(&run_with("sa_solver", &LEVELS, twice), &pece), 0.0);
}

/// With one estimate for both sides there is no guidance to move x by.
#[test]
fn the_alternative_form_differs_only_by_the_guidance() {
    struct Same;
    impl Denoiser for Same {
        fn denoise(&self, x: &Tensor, sigma: f64) -> error::Result<Tensor> {
            Ok(x.affine(0.9 / (1.0 + sigma), 0.1)?)
        }

        fn denoise_both(&self, x: &Tensor, sigma: f64) -> error::Result<Guided> {
            let denoised = self.denoise(x, sigma)?;
            Ok(Guided { uncond: denoised.clone(), denoised })
        }
    }
    let schedule = NoiseSchedule::sd15();
    let x = Tensor::full(14.6f32, (1, 4, 2, 2), &Device::Cpu).unwrap();
    let run = |name: &str, options| {
        let mut ctx = SampleCtx::new(SEED, &schedule).with_options(options);
        (find_sampler(name).unwrap().run)(&Same, x.clone(), &LEVELS, &mut ctx).unwrap()
    };
    let alternative =
        SamplerOptions { euler_cfg_pp: CfgPlusPlusForm::Alternative, ..SamplerOptions::default() };
    assert_same(
        "alternative",
        &run("euler_cfg_pp", alternative.clone()),
        &run("euler", SamplerOptions::default()),
    );
    let regular = run_with("euler_cfg_pp", &LEVELS, SamplerOptions::default());
    assert!(fixtures::relative_diff(&run_with("euler_cfg_pp", &LEVELS, alternative), &regular) > 1e-3);
}

#[test]
fn a_bad_option_is_named() {
    let check = |edit: fn(&mut SamplerOptions), expected: &str| {
        let mut options = SamplerOptions::default();
        edit(&mut options);
        let error = options.validate().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(|o| o.eta = Some(-1.0), "eta");
    check(|o| o.s_noise = Some(f64::NAN), "s_noise");
    check(|o| o.r = Some(0.0), "`r`");
    check(|o| o.order = Some(0), "order");
    check(|o| o.step_control.first_length = 0.0, "h_init");
    check(|o| o.sa_solver.predictor_order = 0, "predictor_order");
}
