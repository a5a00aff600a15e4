//! Guidance: from a network that predicts noise to a denoiser that follows a prompt.

use candle_core::Tensor;

use super::denoiser::{Denoiser, Guided};
use super::error::{Result, SamplingError};
use super::model_inputs::ModelInputs;
use super::prediction::Prediction;
use super::schedule::NoiseSchedule;

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

/// A rectangle of the latent, in latent pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    pub x: usize,
    pub y: usize,
    pub width: usize,
    pub height: usize,
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
    pub area: Option<Area>,
    pub mask: Option<Tensor>,
    /// Weight against the other entries of the side.
    pub strength: f64,
    /// Share of the run at which the entry starts and ends to count.
    pub start_percent: f64,
    pub end_percent: f64,
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
        }
    }

    fn validate(&self) -> Result<()> {
        let reason = || "prompts count for the whole picture".to_owned();
        if self.area.is_some() {
            return Err(SamplingError::Unsupported { feature: "conditioning area", reason: reason() });
        }
        if self.mask.is_some() {
            return Err(SamplingError::Unsupported { feature: "conditioning mask", reason: reason() });
        }
        if self.embedding.rank() != 3 {
            let reason = format!("expected 3 dimensions, got {:?}", self.embedding.dims());
            return Err(SamplingError::invalid("conditioning", reason));
        }
        if self.embedding.dim(1)? == 0 {
            return Err(SamplingError::invalid("conditioning", "the encoded text is empty"));
        }
        Ok(())
    }

    fn inputs(&self, batch: usize) -> Result<ModelInputs> {
        let (vector, concat) = (self.vector.clone(), self.concat.clone());
        ModelInputs { vector, concat, ..ModelInputs::text(self.embedding.clone()) }.fit_batch(batch)
    }

    fn active(&self, schedule: &NoiseSchedule, sigma: f64) -> bool {
        let start = schedule.percent_to_sigma(self.start_percent);
        let end = schedule.percent_to_sigma(self.end_percent);
        (end..=start).contains(&sigma)
    }
}

/// A prompt's contexts are repeated to a common length only up to this factor; beyond it they run apart.
const MAX_CONTEXT_REPEATS: usize = 4;

/// Follows the positive entries and leads away from the negative ones.
///
/// # Source
/// Ho and Salimans 2022 (classifier-free guidance), eq. 6; same values as ComfyUI's CFG guider.
pub struct CfgDenoiser<'a> {
    predictor: &'a dyn NoisePredictor,
    schedule: &'a NoiseSchedule,
    prediction: Prediction,
    positive: &'a [ConditioningEntry],
    negative: &'a [ConditioningEntry],
    cfg: f64,
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
        if !cfg.is_finite() {
            return Err(SamplingError::invalid("cfg", format!("{cfg} is not a finite number")));
        }
        positive.iter().chain(negative).try_for_each(ConditioningEntry::validate)?;
        let prediction = Prediction::default();
        Ok(Self { predictor, schedule, prediction, positive, negative, cfg })
    }

    /// Sets what the network's output means.
    pub fn prediction(mut self, prediction: Prediction) -> Self {
        self.prediction = prediction;
        self
    }

    /// Returns the estimate of x0 for each side, weighted over its active entries.
    fn evaluate<const N: usize>(
        &self,
        x: &Tensor,
        sigma: f64,
        sides: [&[ConditioningEntry]; N],
    ) -> Result<[Tensor; N]> {
        let entries: Vec<(usize, &ConditioningEntry)> = sides
            .iter()
            .enumerate()
            .flat_map(|(side, entries)| entries.iter().map(move |entry| (side, entry)))
            .filter(|(_, entry)| entry.active(self.schedule, sigma))
            .collect();
        let batch = x.dim(0)?;
        let inputs = entries.iter().map(|(_, entry)| entry.inputs(batch)).collect::<Result<Vec<_>>>()?;
        let estimates = self.estimate_all(x, sigma, &inputs)?;
        let mut sums: [Option<(Tensor, f64)>; N] = std::array::from_fn(|_| None);
        for ((side, entry), estimate) in entries.iter().zip(estimates) {
            let weighted = estimate.affine(entry.strength, 0.0)?;
            sums[*side] = Some(match sums[*side].take() {
                None => (weighted, entry.strength),
                Some((sum, weight)) => ((sum + weighted)?, weight + entry.strength),
            });
        }
        let mut results = Vec::with_capacity(N);
        for sum in sums {
            results.push(match sum {
                Some((sum, weight)) if weight != 0.0 => sum.affine(1.0 / weight, 0.0)?,
                // A side that says nothing at this level estimates nothing.
                _ => x.zeros_like()?,
            });
        }
        Ok(results.try_into().expect("one result was pushed per side"))
    }

    /// Estimates x0 once per entry, in one batch where their texts fit together.
    fn estimate_all(&self, x: &Tensor, sigma: f64, inputs: &[ModelInputs]) -> Result<Vec<Tensor>> {
        let Some(length) = common_length(inputs)? else {
            return inputs
                .iter()
                .map(|one| Ok(self.estimate(x, sigma, std::slice::from_ref(one))?.remove(0)))
                .collect();
        };
        let repeat = |one: &ModelInputs| {
            let context = one.context.repeat((1, length / one.context.dim(1)?, 1))?;
            Ok(ModelInputs { context, ..one.clone() })
        };
        self.estimate(x, sigma, &inputs.iter().map(repeat).collect::<Result<Vec<_>>>()?)
    }

    /// Estimates x0 for texts of one length in one call of the network.
    fn estimate(&self, x: &Tensor, sigma: f64, inputs: &[ModelInputs]) -> Result<Vec<Tensor>> {
        if inputs.is_empty() {
            return Ok(Vec::new());
        }
        let batch = x.dim(0)?;
        let rows = batch * inputs.len();
        let scaled = x.affine(self.prediction.input_scale(sigma), 0.0)?;
        let scaled = scaled.repeat((inputs.len(), 1, 1, 1))?;
        let timestep = self.schedule.timestep(sigma) as f32;
        let timesteps = Tensor::full(timestep, rows, x.device())?;
        let output = self.predictor.predict(&scaled, &timesteps, &ModelInputs::cat(inputs)?)?;
        let output = output.to_dtype(x.dtype())?;
        (0..inputs.len())
            .map(|i| {
                let output = output.narrow(0, i * batch, batch)?;
                self.prediction.denoised(x, &output, sigma, timestep)
            })
            .collect()
    }

    fn guide(&self, cond: &Tensor, uncond: &Tensor) -> Result<Tensor> {
        Ok((uncond + (cond - uncond)?.affine(self.cfg, 0.0)?)?)
    }
}

impl Denoiser for CfgDenoiser<'_> {
    fn denoise(&self, x: &Tensor, sigma: f64) -> Result<Tensor> {
        if (self.cfg - 1.0).abs() <= 1e-9 {
            // With cfg 1 the negative side cancels out, so it is not evaluated.
            let [cond] = self.evaluate(x, sigma, [self.positive])?;
            return Ok(cond);
        }
        Ok(self.denoise_both(x, sigma)?.denoised)
    }

    fn denoise_both(&self, x: &Tensor, sigma: f64) -> Result<Guided> {
        let [cond, uncond] = self.evaluate(x, sigma, [self.positive, self.negative])?;
        Ok(Guided { denoised: self.guide(&cond, &uncond)?, uncond })
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
        let mut limited = entry(0.5, 77);
        limited.area = Some(Area { x: 0, y: 0, width: 1, height: 1 });
        let side = [limited];
        let error = CfgDenoiser::new(&network, &schedule, &side, &[], 1.0).err().unwrap().to_string();
        assert!(error.contains("area"), "{error}");
        assert!(CfgDenoiser::new(&network, &schedule, &[], &[], f64::NAN).is_err());
    }
}
