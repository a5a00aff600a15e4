//! Guidance: from a network that predicts noise to a denoiser that follows a prompt.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use candle_core::Tensor;

use super::denoiser::{Denoiser, Guided};
use super::error::{Result, SamplingError};
use super::model_inputs::ModelInputs;
use super::prediction::Prediction;
use super::regions::{Placed, Region, RegionMask, Sum, place};
use super::rules::{DualStyle, GuidanceRule, is_one, rescaled, toward};
use super::schedule::NoiseSchedule;
use crate::control::ControlUse;

/// Predicts the noise in a latent; the network behind a checkpoint's model part.
pub trait NoisePredictor {
    /// Returns what the network predicts.
    ///
    /// # Shapes
    /// `x_scaled` and the result: `[B,C,H,W]`, `timestep`: `[B]` f32, `inputs`: of batch B.
    ///
    /// # Errors
    /// Fails if the network does.
    fn predict(&self, x_scaled: &Tensor, timestep: &Tensor, inputs: &ModelInputs) -> Result<Tensor>;
}

/// One prompt of a side, with where, when and how strongly it counts.
#[derive(Debug, Clone)]
pub struct ConditioningEntry {
    /// Encoded text, `[B,T,D]` or `[1,T,D]`.
    pub embedding: Tensor,
    /// The vector of the model families that are conditioned on one, `[B,V]` or `[1,V]`.
    pub vector: Option<Tensor>,
    /// Channels put behind those of the latent, for the model families that take them, `[B,C,h,w]` or `[1,C,h,w]`.
    pub concat: Option<Tensor>,
    pub area: Option<Region>,
    pub mask: Option<RegionMask>,
    /// Weight against the other entries of the side.
    pub strength: f64,
    /// Share of the run at which the entry starts and ends to count.
    pub start_percent: f64,
    pub end_percent: f64,
    /// Control networks, one after the other.
    pub controls: Vec<Arc<ControlUse>>,
    /// Whether they also count for the other sides, where these have none of their own.
    pub control_for_all: bool,
}

impl ConditioningEntry {
    /// Builds an entry that counts everywhere, always and fully.
    pub fn new(embedding: Tensor) -> Self {
        Self {
            embedding,
            vector: None,
            concat: None,
            area: None,
            mask: None,
            strength: 1.0,
            start_percent: 0.0,
            end_percent: 1.0,
            controls: Vec::new(),
            control_for_all: false,
        }
    }

    fn validate(&self) -> Result<()> {
        if self.embedding.rank() != 3 {
            let reason = format!("expected 3 dimensions, got {:?}", self.embedding.dims());
            return Err(SamplingError::invalid("conditioning", reason));
        }
        if self.embedding.dim(1)? == 0 {
            return Err(SamplingError::invalid("conditioning", "the encoded text is empty"));
        }
        Ok(())
    }
}

/// A prompt's contexts are repeated to a common length only up to this factor; beyond it they run apart.
const MAX_CONTEXT_REPEATS: usize = 4;

/// Follows the positive entries and leads away from the negative ones.
///
/// # Source
/// Ho and Salimans 2022 (classifier-free guidance), eq. 6; Brooks et al. 2023 (InstructPix2Pix), eq. 3, for two
/// positive sides; same values as ComfyUI's CFG guiders.
pub struct CfgDenoiser<'a> {
    predictor: &'a dyn NoisePredictor,
    schedule: &'a NoiseSchedule,
    prediction: Prediction,
    sides: Vec<&'a [ConditioningEntry]>,
    rule: GuidanceRule,
    /// Share of the guided estimate that is brought back to the deviation of the positive one.
    rescale: Option<f64>,
    /// The sides at the size of the latent that was last seen.
    placed: RefCell<Option<PlacedSides>>,
}

/// All sides at the size of one latent.
struct PlacedSides {
    shape: Vec<usize>,
    sides: Rc<Vec<Vec<Placed>>>,
}

impl<'a> CfgDenoiser<'a> {
    /// Guides `predictor` with the strength `cfg`.
    ///
    /// # Errors
    /// Fails on an entry that cannot be used.
    pub fn new(
        predictor: &'a dyn NoisePredictor,
        schedule: &'a NoiseSchedule,
        positive: &'a [ConditioningEntry],
        negative: &'a [ConditioningEntry],
        cfg: f64,
    ) -> Result<Self> {
        Self::with_rule(predictor, schedule, &[positive, negative], GuidanceRule::Single { cfg })
    }

    /// Guides `predictor` by a rule.
    ///
    /// # Errors
    /// Fails on an entry that cannot be used, and unless there are as many sides as the rule joins.
    pub fn with_rule(
        predictor: &'a dyn NoisePredictor,
        schedule: &'a NoiseSchedule,
        sides: &[&'a [ConditioningEntry]],
        rule: GuidanceRule,
    ) -> Result<Self> {
        let (count, strengths) = match rule {
            GuidanceRule::Single { cfg } => (2, vec![cfg]),
            GuidanceRule::Dual { cfg_conds, cfg_cond2_negative, .. } => {
                (3, vec![cfg_conds, cfg_cond2_negative])
            }
        };
        if let Some(cfg) = strengths.iter().find(|cfg| !cfg.is_finite()) {
            return Err(SamplingError::invalid("cfg", format!("{cfg} is not a finite number")));
        }
        if sides.len() != count {
            let reason = format!("{count} sides are joined, got {}", sides.len());
            return Err(SamplingError::invalid("conditioning", reason));
        }
        sides.iter().copied().flatten().try_for_each(ConditioningEntry::validate)?;
        let (sides, prediction) = (sides.to_vec(), Prediction::default());
        Ok(Self { predictor, schedule, prediction, sides, rule, rescale: None, placed: RefCell::default() })
    }

    /// Sets what the network's output means.
    pub fn prediction(mut self, prediction: Prediction) -> Self {
        self.prediction = prediction;
        self
    }

    /// Brings a share of every guided estimate back to the deviation of the positive one.
    pub fn rescale(mut self, share: Option<f64>) -> Self {
        self.rescale = share;
        self
    }

    fn placed(&self, x: &Tensor) -> Result<Rc<Vec<Vec<Placed>>>> {
        if let Some(placed) = self.placed.borrow().as_ref().filter(|placed| placed.shape == x.dims()) {
            return Ok(placed.sides.clone());
        }
        if x.rank() != 4 {
            let reason = format!("expected `[batch, channels, height, width]`, got {:?}", x.dims());
            return Err(SamplingError::invalid("latent", reason));
        }
        let sides = Rc::new(place(&self.sides, self.schedule, x.dims())?);
        *self.placed.borrow_mut() = Some(PlacedSides { shape: x.dims().to_vec(), sides: sides.clone() });
        Ok(sides)
    }

    /// Returns the estimate of x0 for each side (by its place), weighted over its active entries.
    fn evaluate<const N: usize>(&self, x: &Tensor, sigma: f64, sides: [usize; N]) -> Result<[Tensor; N]> {
        let placed = self.placed(x)?;
        let entries: Vec<(usize, &Placed)> = sides
            .iter()
            .enumerate()
            .flat_map(|(result, side)| placed[*side].iter().map(move |entry| (result, entry)))
            .filter(|(_, entry)| entry.active(sigma))
            .collect();
        let estimates = self.estimate_all(x, sigma, &entries)?;
        let mut sums: [Sum; N] = std::array::from_fn(|_| Sum::default());
        for ((result, entry), estimate) in entries.iter().zip(estimates) {
            sums[*result].add(entry, &estimate, x.dims())?;
        }
        let results = sums.into_iter().map(|sum| sum.mean(x)).collect::<Result<Vec<_>>>()?;
        Ok(results.try_into().expect("one result was made per side"))
    }

    /// Estimates x0 once per entry, each for its part of the latent; parts of one size go together, unless other
    /// control networks count for them.
    fn estimate_all(&self, x: &Tensor, sigma: f64, entries: &[(usize, &Placed)]) -> Result<Vec<Tensor>> {
        let mut estimates = vec![None; entries.len()];
        let mut left: Vec<usize> = (0..entries.len()).collect();
        while let Some(&first) = left.first() {
            let (group, rest): (Vec<_>, Vec<_>) =
                left.into_iter().partition(|i| entries[*i].1.goes_with(entries[first].1, sigma));
            let mut calls = Vec::with_capacity(group.len());
            for i in &group {
                let entry = entries[*i].1;
                calls.push((entry.crop(x)?, entry.inputs_at(x, sigma)?));
            }
            for (i, estimate) in group.into_iter().zip(self.estimate_group(sigma, calls)?) {
                estimates[i] = Some(estimate);
            }
            left = rest;
        }
        Ok(estimates.into_iter().flatten().collect())
    }

    /// Estimates x0 for latents of one size, in one batch where their texts fit together.
    fn estimate_group(&self, sigma: f64, calls: Vec<(Tensor, ModelInputs)>) -> Result<Vec<Tensor>> {
        let (xs, inputs): (Vec<Tensor>, Vec<ModelInputs>) = calls.into_iter().unzip();
        let Some(length) = common_length(&inputs)? else {
            return std::iter::zip(&xs, &inputs)
                .map(|(x, one)| {
                    Ok(self.estimate(sigma, std::slice::from_ref(x), std::slice::from_ref(one))?.remove(0))
                })
                .collect();
        };
        let repeat = |one: &ModelInputs| {
            let context = one.context.repeat((1, length / one.context.dim(1)?, 1))?;
            Ok(ModelInputs { context, ..one.clone() })
        };
        self.estimate(sigma, &xs, &inputs.iter().map(repeat).collect::<Result<Vec<_>>>()?)
    }

    /// Estimates x0 for latents of one size and texts of one length in one call of the network.
    fn estimate(&self, sigma: f64, xs: &[Tensor], inputs: &[ModelInputs]) -> Result<Vec<Tensor>> {
        let Some(first) = xs.first() else {
            return Ok(Vec::new());
        };
        let batch = first.dim(0)?;
        let scaled = Tensor::cat(xs, 0)?.affine(self.prediction.input_scale(sigma), 0.0)?;
        let timestep = self.schedule.timestep(sigma);
        let timesteps = Tensor::full(timestep, batch * xs.len(), first.device())?;
        let output = self.predictor.predict(&scaled, &timesteps, &ModelInputs::cat(inputs)?)?;
        let output = output.to_dtype(first.dtype())?;
        xs.iter()
            .enumerate()
            .map(|(i, x)| self.prediction.denoised(x, &output.narrow(0, i * batch, batch)?, sigma, timestep))
            .collect()
    }

    fn guide(&self, x: &Tensor, sigma: f64, cond: &Tensor, uncond: &Tensor, cfg: f64) -> Result<Tensor> {
        match self.rescale {
            None => toward(uncond, cond, cfg),
            Some(share) => rescaled(x, sigma, cond, uncond, cfg, share),
        }
    }

    /// Joins three sides; the estimate guided away from comes second.
    fn dual(
        &self,
        x: &Tensor,
        sigma: f64,
        strengths: (f64, f64),
        style: DualStyle,
    ) -> Result<(Tensor, Tensor)> {
        let [first, second, negative] = self.evaluate(x, sigma, [0, 1, 2])?;
        let (cfg_conds, cfg_negative) = strengths;
        match style {
            DualStyle::Nested => {
                let pair = self.guide(x, sigma, &first, &second, cfg_conds)?;
                Ok((toward(&negative, &pair, cfg_negative)?, second))
            }
            DualStyle::Regular => {
                let base = self.guide(x, sigma, &second, &negative, cfg_negative)?;
                Ok(((base + (first - second)?.affine(cfg_conds, 0.0)?)?, negative))
            }
        }
    }
}

impl Denoiser for CfgDenoiser<'_> {
    fn denoise(&self, x: &Tensor, sigma: f64) -> Result<Tensor> {
        // With strength 1 a side cancels out, so it is not evaluated.
        match self.rule {
            GuidanceRule::Single { cfg } if is_one(cfg) => {
                let [cond] = self.evaluate(x, sigma, [0])?;
                Ok(cond)
            }
            GuidanceRule::Dual { cfg_conds, cfg_cond2_negative, style: DualStyle::Regular }
                if is_one(cfg_cond2_negative) =>
            {
                if is_one(cfg_conds) {
                    let [first] = self.evaluate(x, sigma, [0])?;
                    return Ok(first);
                }
                let [first, second] = self.evaluate(x, sigma, [0, 1])?;
                toward(&second, &first, cfg_conds)
            }
            _ => Ok(self.denoise_both(x, sigma)?.denoised),
        }
    }

    fn denoise_both(&self, x: &Tensor, sigma: f64) -> Result<Guided> {
        match self.rule {
            GuidanceRule::Single { cfg } => {
                let [cond, uncond] = self.evaluate(x, sigma, [0, 1])?;
                Ok(Guided { denoised: self.guide(x, sigma, &cond, &uncond, cfg)?, uncond })
            }
            GuidanceRule::Dual { cfg_conds, cfg_cond2_negative, style } => {
                let (denoised, uncond) = self.dual(x, sigma, (cfg_conds, cfg_cond2_negative), style)?;
                Ok(Guided { denoised, uncond })
            }
        }
    }
}

/// Returns the least common length of the contexts, or none if repeating to it would cost too much.
fn common_length(inputs: &[ModelInputs]) -> Result<Option<usize>> {
    let mut lengths = Vec::with_capacity(inputs.len());
    for one in inputs {
        lengths.push(one.context.dim(1)?);
    }
    let Some(shortest) = lengths.iter().copied().min() else {
        return Ok(Some(0));
    };
    let common = lengths.into_iter().fold(1, least_common_multiple);
    Ok((common / shortest <= MAX_CONTEXT_REPEATS).then_some(common))
}

fn least_common_multiple(a: usize, b: usize) -> usize {
    let (mut divisor, mut rest) = (a, b);
    while rest != 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    a / divisor * b
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use candle_core::{DType, Device};

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
}
