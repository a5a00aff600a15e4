//! Levels made from figures, against published programs.

use super::super::schedulers::{SCHEDULERS, find_scheduler};
use super::super::{fixtures, sample, samplers};
use super::*;

/// Largest relative difference from the independent figures.
const TOLERANCE: f64 = 2e-6;

fn check(name: &str, got: &[f64], golden: &serde_json::Value) {
    let expected = fixtures::floats(&golden[name]);
    assert_eq!(got.len(), expected.len(), "{name}: {got:?} {expected:?}");
    for (got, expected) in got.iter().zip(&expected) {
        let error = if *expected == 0.0 { got.abs() } else { ((got - expected) / expected).abs() };
        assert!(error <= TOLERANCE, "{name}: {got} {expected}");
    }
}

#[test]
fn schedules_match_independent_figures() {
    let golden = fixtures::json("custom_sigmas.json");
    let schedule = NoiseSchedule::sd15();
    for steps in [1, 3, 10, 20] {
        for (max, min, rho) in [(14.614642, 0.0291675, 7.0), (80.0, 0.002, 3.0)] {
            let name = |kind: &str| format!("{kind}|{steps}|{max}|{min}");
            check(&format!("{}|{rho}", name("karras")), &karras(steps, max, min, rho).unwrap(), &golden);
            check(&name("exponential"), &exponential(steps, max, min).unwrap(), &golden);
            for rho in [1.0, 1.5] {
                let got = polyexponential(steps, max, min, rho).unwrap();
                check(&format!("{}|{rho}", name("polyexponential")), &got, &golden);
            }
            for (mu, beta) in [(0.0, 0.5), (1.0, 0.8)] {
                let got = laplace(steps, max, min, mu, beta).unwrap();
                check(&format!("{}|{mu}|{beta}", name("laplace")), &got, &golden);
            }
        }
        for (beta_d, beta_min, eps_s) in [(19.9, 0.1, 0.001), (12.0, 0.5, 0.01)] {
            let got = variance_preserving(steps, beta_d, beta_min, eps_s).unwrap();
            check(&format!("vp|{steps}|{beta_d}|{beta_min}|{eps_s}"), &got, &golden);
        }
        for (alpha, shape) in [(0.6, 0.6), (2.0, 5.0), (0.3, 1.7), (30.0, 12.0)] {
            let got = beta(&schedule, steps, alpha, shape).unwrap();
            check(&format!("beta|{steps}|{alpha}|{shape}"), &got, &golden);
        }
        for model in AlignedModel::ALL {
            for denoise in [1.0, 0.5] {
                let got = align_your_steps(model, steps, denoise).unwrap();
                check(&format!("ays|{}|{steps}|{denoise}", model.name()), &got, &golden);
            }
        }
    }
    for (steps, denoise) in [(1, 1.0), (4, 1.0), (10, 1.0), (3, 0.55), (4, 0.0)] {
        check(&format!("turbo|{steps}|{denoise}"), &turbo(&schedule, steps, denoise).unwrap(), &golden);
    }
}

/// The optimised levels are those of training steps that the guide names.
#[test]
fn aligned_levels_are_training_levels() {
    let schedule = NoiseSchedule::sd15();
    let sd1 = [999, 850, 736, 645, 545, 455, 343, 233, 124, 24, 0];
    let sdxl = [999, 845, 730, 587, 443, 310, 193, 116, 53, 13, 0];
    for (model, steps) in [(AlignedModel::Sd1, sd1), (AlignedModel::Sdxl, sdxl)] {
        for (level, step) in model.levels().into_iter().zip(steps) {
            let found = schedule.timestep(level);
            assert!((found - step as f32).abs() <= 1.0, "{model:?} {level}: {found} {step}");
        }
    }
}

#[test]
fn zero_terminal_snr_matches() {
    let golden = fixtures::json("sigmas_zsnr.json");
    let schedule = NoiseSchedule::sd15().zero_terminal_snr();
    for (name, expected) in golden.as_object().unwrap() {
        let (scheduler, steps) = name.split_once('|').unwrap();
        let scheduler = find_scheduler(scheduler).unwrap();
        let euler = samplers::find_sampler("euler").unwrap();
        let got = sample::run_sigmas(&schedule, scheduler, euler, steps.parse().unwrap(), 1.0).unwrap();
        let expected = fixtures::floats(expected);
        assert_eq!(got.len(), expected.len(), "{name}");
        for (got, expected) in got.iter().zip(&expected) {
            assert!((got - expected).abs() <= 1e-5 * expected, "{name}: {got} {expected}");
        }
    }
    assert!(golden.as_object().unwrap().len() >= 2 * SCHEDULERS.len());
}

#[test]
fn a_basic_schedule_keeps_the_last_steps() {
    let schedule = NoiseSchedule::sd15();
    let levels =
        |name, steps, denoise| basic(&schedule, find_scheduler(name).unwrap(), steps, denoise).unwrap();
    let whole = levels("normal", 20, 1.0);
    assert_eq!(levels("normal", 10, 0.5), whole[10..]);
    assert!(levels("normal", 10, 0.0).is_empty());
    // This one makes a step more than asked for.
    assert_eq!(levels("ddim_uniform", 30, 1.0).len(), 31);
    assert!(basic(&schedule, find_scheduler("normal").unwrap(), 0, 1.0).is_err());
    assert!(basic(&schedule, find_scheduler("normal").unwrap(), 10, 1e-9).is_err());
    assert!(basic(&schedule, find_scheduler("kl_optimal").unwrap(), 1, 1.0).is_err());
}

#[test]
fn figures_without_levels_are_refused() {
    assert!(karras(4, 1.0, 0.1, 0.0).is_err());
    assert!(exponential(4, 1.0, 0.0).is_err());
    assert!(polyexponential(0, 1.0, 0.1, 1.0).is_err());
    assert!(variance_preserving(4, 5000.0, 0.1, 0.001).is_err());
    assert!(beta(&NoiseSchedule::sd15(), 4, 0.0, 1.0).is_err());
    assert!("SD3".parse::<AlignedModel>().unwrap_err().to_string().contains("`SDXL`"));
    assert!("cubic".parse::<Spacing>().unwrap_err().to_string().contains("`cosine`"));
}

#[test]
fn levels_are_cut_and_turned() {
    let sigmas = [4.0, 3.0, 2.0, 1.0, 0.0];
    assert_eq!(split(&sigmas, 1), (vec![4.0, 3.0], vec![3.0, 2.0, 1.0, 0.0]));
    assert_eq!(split(&sigmas, 0), (vec![4.0], sigmas.to_vec()));
    assert_eq!(split(&sigmas, 9), (sigmas.to_vec(), vec![]));
    assert_eq!(split_denoise(&sigmas, 0.5), (vec![4.0, 3.0, 2.0], vec![2.0, 1.0, 0.0]));
    assert_eq!(split_denoise(&sigmas, 0.0), (vec![], vec![0.0]));
    assert_eq!(split_denoise(&sigmas, 1.0), (vec![4.0], sigmas.to_vec()));
    assert_eq!(split_denoise(&[], 1.0), (vec![], vec![]));
    assert_eq!(flip(&[2.0, 1.0, 0.0]), [f64::from(0.0001f32), 1.0, 2.0]);
    assert_eq!(flip(&[]), [0.0; 0]);
}

#[test]
fn steps_are_split_within_a_range() {
    let sigmas = [8.0, 4.0, 0.0];
    let extend =
        |sigmas: &[f64], parts, within, spacing| super::extend(sigmas, parts, within, spacing).unwrap();
    let linear = extend(&sigmas, 4, (0.0, 5.0), Spacing::Linear);
    assert_eq!(linear, [8.0, 4.0, 3.0, 2.0, 1.0, 0.0]);
    let near = |got: &[f64], want: &[f64]| {
        assert_eq!(got.len(), want.len());
        assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{got:?} {want:?}");
    };
    let half = std::f64::consts::FRAC_1_SQRT_2;
    near(&extend(&sigmas, 2, (5.0, f64::INFINITY), Spacing::Cosine), &[8.0, 8.0 - 4.0 * half, 4.0, 0.0]);
    near(&extend(&sigmas, 2, (0.0, 9.0), Spacing::Sine), &[8.0, 4.0 + 4.0 * half, 4.0, 4.0 * half, 0.0]);
    assert_eq!(extend(&sigmas, 1, (0.0, 9.0), Spacing::Linear), sigmas);
    assert_eq!(extend(&[], 3, (0.0, 9.0), Spacing::Linear), [0.0; 0]);
    assert!(super::extend(&vec![1.0; 20_000], 100, (0.0, 9.0), Spacing::Linear).is_err());
}
