//! Guidance on a network whose answers are known.

use std::cell::RefCell;

use candle_core::{DType, Device};

use super::super::model_inputs::ModelInputs;
use super::super::regions::Area;
use super::*;

/// Predicts x_scaled * mean(context) + timestep / 1000 and keeps the shapes it saw.
#[derive(Default)]
struct Linear {
    shapes: RefCell<Vec<(Vec<usize>, Vec<usize>)>>,
}

impl NoisePredictor for Linear {
    fn predict(&self, x: &Tensor, timestep: &Tensor, inputs: &ModelInputs) -> Result<Tensor> {
        let context = &inputs.context;
        self.shapes.borrow_mut().push((x.dims().to_vec(), context.dims().to_vec()));
        let mean = context.mean((1, 2))?.reshape(((), 1, 1, 1))?;
        let time = timestep.affine(1e-3, 0.0)?.reshape(((), 1, 1, 1))?;
        Ok(x.broadcast_mul(&mean)?.broadcast_add(&time)?)
    }
}

fn entry(value: f32, tokens: usize) -> ConditioningEntry {
    ConditioningEntry::new(Tensor::full(value, (1, tokens, 8), &Device::Cpu).unwrap())
}

fn x(batch: usize) -> Tensor {
    Tensor::ones((batch, 4, 2, 2), DType::F32, &Device::Cpu).unwrap()
}

fn first(tensor: &Tensor) -> f32 {
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()[0]
}

/// What the network above makes of one entry, as x0.
fn expected(sigma: f32, value: f32, timestep: f32) -> f32 {
    1.0 - sigma * (value / (sigma * sigma + 1.0).sqrt() + timestep / 1000.0)
}

#[test]
fn both_sides_run_in_one_call() {
    let schedule = NoiseSchedule::sd15();
    let network = Linear::default();
    let (positive, negative) = ([entry(0.5, 77)], [entry(0.25, 154)]);
    let denoiser = CfgDenoiser::new(&network, &schedule, &positive, &negative, 7.0).unwrap();
    let got = denoiser.denoise(&x(2), 1.0).unwrap();
    let (cond, uncond) = (expected(1.0, 0.5, 354.0), expected(1.0, 0.25, 354.0));
    assert!((first(&got) - (uncond + 7.0 * (cond - uncond))).abs() < 1e-5);
    assert_eq!(*network.shapes.borrow(), [(vec![4, 4, 2, 2], vec![4, 154, 8])]);
}

#[test]
fn cfg_one_skips_the_negative_side() {
    let schedule = NoiseSchedule::sd15();
    let network = Linear::default();
    let (positive, negative) = ([entry(0.5, 77)], [entry(0.25, 77)]);
    let denoiser = CfgDenoiser::new(&network, &schedule, &positive, &negative, 1.0).unwrap();
    assert!((first(&denoiser.denoise(&x(1), 1.0).unwrap()) - expected(1.0, 0.5, 354.0)).abs() < 1e-5);
    assert_eq!(network.shapes.borrow()[0].0, [1, 4, 2, 2]);
    denoiser.denoise_both(&x(1), 1.0).unwrap();
    assert_eq!(network.shapes.borrow()[1].0, [2, 4, 2, 2]);
}

#[test]
fn entries_average_by_strength_and_respect_their_range() {
    let schedule = NoiseSchedule::sd15();
    let network = Linear::default();
    let mut early = entry(0.8, 77);
    early.strength = 3.0;
    early.end_percent = 0.5;
    let positive = [entry(0.4, 77), early];
    let denoiser = CfgDenoiser::new(&network, &schedule, &positive, &[], 1.0).unwrap();
    let late = first(&denoiser.denoise(&x(1), 1.0).unwrap());
    assert!((late - expected(1.0, 0.4, 354.0)).abs() < 1e-5);
    let sigma = schedule.sigma(700.0);
    let got = first(&denoiser.denoise(&x(1), f64::from(sigma)).unwrap());
    assert!((got - expected(sigma, 0.7, 700.0)).abs() < 1e-4, "{got}");
}

#[test]
fn very_different_lengths_run_apart() {
    let schedule = NoiseSchedule::sd15();
    let network = Linear::default();
    let (positive, negative) = ([entry(0.5, 77)], [entry(0.25, 77 * 5)]);
    let denoiser = CfgDenoiser::new(&network, &schedule, &positive, &negative, 2.0).unwrap();
    denoiser.denoise(&x(1), 1.0).unwrap();
    let lengths: Vec<usize> = network.shapes.borrow().iter().map(|(_, context)| context[1]).collect();
    assert_eq!(lengths, [77, 385]);
}

#[test]
fn refuses_what_it_cannot_do() {
    let schedule = NoiseSchedule::sd15();
    let network = Linear::default();
    assert!(CfgDenoiser::new(&network, &schedule, &[], &[], f64::NAN).is_err());
    let rule = GuidanceRule::Single { cfg: 1.0 };
    assert!(CfgDenoiser::with_rule(&network, &schedule, &[&[]], rule).is_err());
    let mut outside = entry(0.5, 77);
    outside.area = Some(Region::Pixels(Area { x: 2, y: 0, width: 1, height: 1 }));
    let side = [outside];
    let denoiser = CfgDenoiser::new(&network, &schedule, &side, &[], 1.0).unwrap();
    let error = denoiser.denoise(&x(1), 1.0).unwrap_err().to_string();
    assert!(error.contains("area"), "{error}");
}

#[test]
fn two_areas_draw_their_own_prompts() {
    let schedule = NoiseSchedule::sd15();
    let network = Linear::default();
    let half = |value, x| {
        let area = Region::Pixels(Area { x, y: 0, width: 8, height: 8 });
        ConditioningEntry { area: Some(area), ..entry(value, 77) }
    };
    let positive = [half(0.2, 0), half(0.6, 8)];
    let negative = [entry(0.1, 77)];
    let wide = Tensor::ones((1, 4, 8, 16), DType::F32, &Device::Cpu).unwrap();
    let denoiser = CfgDenoiser::new(&network, &schedule, &positive, &negative, 1.0).unwrap();
    let rows: Vec<Vec<f32>> =
        denoiser.denoise(&wide, 1.0).unwrap().get(0).unwrap().get(0).unwrap().to_vec2().unwrap();
    for row in rows {
        for (column, value) in row.into_iter().enumerate() {
            let want = expected(1.0, if column < 8 { 0.2 } else { 0.6 }, 354.0);
            assert!((value - want).abs() < 1e-5, "column {column}: {value} {want}");
        }
    }
    // Both halves have one size, so they run as one batch.
    assert_eq!(*network.shapes.borrow(), [(vec![2, 4, 8, 8], vec![2, 77, 8])]);
    // With guidance the negative prompt runs on the whole picture and on each half.
    let guided = CfgDenoiser::new(&network, &schedule, &positive, &negative, 3.0).unwrap();
    let got = first(&guided.denoise(&wide, 1.0).unwrap());
    let (cond, uncond) = (expected(1.0, 0.2, 354.0), expected(1.0, 0.1, 354.0));
    assert!((got - (uncond + 3.0 * (cond - uncond))).abs() < 1e-5);
    assert_eq!(
        network.shapes.borrow()[1..],
        [(vec![4, 4, 8, 8], vec![4, 77, 8]), (vec![1, 4, 8, 16], vec![1, 77, 8])]
    );
}

#[test]
fn a_full_mask_is_no_mask() {
    let schedule = NoiseSchedule::sd15();
    let network = Linear::default();
    let values = Tensor::ones((1, 16, 16), DType::F32, &Device::Cpu).unwrap();
    let mask = RegionMask { values: values.clone(), strength: 1.0, area_from_bounds: false };
    let masked = [ConditioningEntry { mask: Some(mask.clone()), ..entry(0.3, 77) }];
    let plain = [entry(0.3, 77)];
    let run = |side: &[ConditioningEntry]| {
        let denoiser = CfgDenoiser::new(&network, &schedule, side, &plain, 5.0).unwrap();
        let x = Tensor::arange(0f32, 64.0, &Device::Cpu).unwrap().reshape((1, 4, 4, 4)).unwrap();
        denoiser.denoise(&x, 2.0).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    assert_eq!(run(&masked), run(&plain));
    // Two prompts under masks of a half each draw their halves.
    let left = values.narrow(2, 0, 8).unwrap().pad_with_zeros(2, 0, 8).unwrap();
    let half = |values: Tensor, text| {
        [ConditioningEntry { mask: Some(RegionMask { values, ..mask.clone() }), ..entry(text, 77) }]
    };
    let right = values.sub(&left).unwrap();
    let both = [half(left, 0.2), half(right, 0.6)].concat();
    let denoiser = CfgDenoiser::new(&network, &schedule, &both, &[], 1.0).unwrap();
    let got =
        denoiser.denoise(&Tensor::ones((1, 4, 16, 16), DType::F32, &Device::Cpu).unwrap(), 1.0).unwrap();
    let row: Vec<f32> = got.get(0).unwrap().get(0).unwrap().get(0).unwrap().to_vec1().unwrap();
    for (column, value) in row.into_iter().enumerate() {
        let want = expected(1.0, if column < 8 { 0.2 } else { 0.6 }, 354.0);
        assert!((value - want).abs() < 1e-5, "column {column}: {value} {want}");
    }
}

#[test]
fn a_range_of_all_is_no_range() {
    let schedule = NoiseSchedule::sd15();
    let network = Linear::default();
    let plain = [entry(0.3, 77)];
    let ranged = [ConditioningEntry { start_percent: 0.0, end_percent: 1.0, ..entry(0.3, 77) }];
    for sigma in [1e-4, 0.5, 14.6, 100.0] {
        let run = |side| {
            let denoiser = CfgDenoiser::new(&network, &schedule, side, &[], 1.0).unwrap();
            first(&denoiser.denoise(&x(1), sigma).unwrap())
        };
        assert_eq!(run(&ranged), run(&plain));
    }
}

#[test]
fn two_positive_sides_join_by_their_style() {
    let schedule = NoiseSchedule::sd15();
    let network = Linear::default();
    let sides = [[entry(0.2, 77)], [entry(0.4, 77)], [entry(0.6, 77)]];
    let sides: Vec<&[ConditioningEntry]> = sides.iter().map(|s| s.as_slice()).collect();
    let [a, b, n] = [0.2, 0.4, 0.6].map(|v| expected(1.0, v, 354.0));
    let check = |cfg_conds: f64, cfg_cond2_negative: f64, style, want: f32, rows: usize| {
        let rule = GuidanceRule::Dual { cfg_conds, cfg_cond2_negative, style };
        let denoiser = CfgDenoiser::with_rule(&network, &schedule, &sides, rule).unwrap();
        let got = first(&denoiser.denoise(&x(1), 1.0).unwrap());
        assert!((got - want).abs() < 1e-5, "{style:?} {cfg_conds} {cfg_cond2_negative}: {got} {want}");
        assert_eq!(network.shapes.borrow().last().unwrap().0[0], rows);
    };
    check(3.0, 2.0, DualStyle::Regular, n + 2.0 * (b - n) + 3.0 * (a - b), 3);
    check(3.0, 1.0, DualStyle::Regular, b + 3.0 * (a - b), 2);
    check(1.0, 1.0, DualStyle::Regular, a, 1);
    check(3.0, 2.0, DualStyle::Nested, n + 2.0 * (b + 3.0 * (a - b) - n), 3);
}
