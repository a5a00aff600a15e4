//! Calling the network for the entries of prompts, as many at a time as go together.

use std::cell::RefCell;

use candle_core::Tensor;

use super::error::{Result, SamplingError};
use super::model_inputs::ModelInputs;
use super::prediction::Prediction;
use super::regions::Placed;
use super::schedule::NoiseSchedule;
use crate::blocks::{AttentionMap, MiddleAttention};

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

    /// As [`NoisePredictor::predict`], with a wish for the self-attention in the middle of the network.
    ///
    /// # Errors
    /// As [`NoisePredictor::predict`]; also if the network has no such thing.
    fn predict_watched(
        &self,
        x_scaled: &Tensor,
        timestep: &Tensor,
        inputs: &ModelInputs,
        middle: MiddleAttention<'_>,
    ) -> Result<Tensor> {
        match middle {
            MiddleAttention::Plain => self.predict(x_scaled, timestep, inputs),
            _ => Err(SamplingError::Unsupported {
                feature: "guidance by attention",
                reason: "the network has no self-attention in its middle".into(),
            }),
        }
    }
}

/// A prompt's contexts are repeated to a common length only up to this factor; beyond it they run apart.
const MAX_CONTEXT_REPEATS: usize = 4;

/// A network and how to use it.
pub(super) struct Network<'a> {
    pub predictor: &'a dyn NoisePredictor,
    pub schedule: &'a NoiseSchedule,
    pub prediction: Prediction,
}

impl Network<'_> {
    /// Estimates x0 once per entry, each for its part of the latent; parts of one size go together, unless other
    /// control networks or boxes count for them.
    pub(super) fn estimate_all(
        &self,
        x: &Tensor,
        sigma: f64,
        entries: &[(usize, &Placed)],
        view: View<'_>,
        watched: &dyn Fn(usize) -> bool,
    ) -> Result<Vec<Tensor>> {
        let mut estimates = vec![None; entries.len()];
        let mut left: Vec<usize> = (0..entries.len()).collect();
        while let Some(&first) = left.first() {
            let (group, rest): (Vec<_>, Vec<_>) =
                left.into_iter().partition(|i| entries[*i].1.goes_with(entries[first].1, sigma));
            let mut calls = Vec::with_capacity(group.len());
            for i in &group {
                let (result, entry) = entries[*i];
                let inputs = entry.inputs_at(x, sigma)?;
                calls.push(Call { x: entry.crop(x)?, inputs, watched: watched(result) });
            }
            for (i, estimate) in group.into_iter().zip(self.estimate_group(sigma, calls, view)?) {
                estimates[i] = Some(estimate);
            }
            left = rest;
        }
        Ok(estimates.into_iter().flatten().collect())
    }

    /// Estimates x0 for latents of one size, in one batch where their texts fit together.
    fn estimate_group(&self, sigma: f64, mut calls: Vec<Call>, view: View<'_>) -> Result<Vec<Tensor>> {
        let Some(length) = common_length(&calls)? else {
            let alone = |call| Ok(self.estimate(sigma, std::slice::from_ref(call), view)?.remove(0));
            return calls.iter().map(alone).collect();
        };
        for Call { inputs, .. } in &mut calls {
            inputs.context = inputs.context.repeat((1, length / inputs.context.dim(1)?, 1))?;
        }
        self.estimate(sigma, &calls, view)
    }

    /// Estimates x0 for latents of one size and texts of one length in one call of the network.
    fn estimate(&self, sigma: f64, calls: &[Call], view: View<'_>) -> Result<Vec<Tensor>> {
        let Some(first) = calls.first() else {
            return Ok(Vec::new());
        };
        let batch = first.x.dim(0)?;
        let xs: Vec<&Tensor> = calls.iter().map(|call| &call.x).collect();
        let inputs: Vec<ModelInputs> = calls.iter().map(|call| call.inputs.clone()).collect();
        let scaled = Tensor::cat(&xs, 0)?.affine(self.prediction.input_scale(sigma), 0.0)?;
        let timestep = self.schedule.timestep(sigma);
        let timesteps = Tensor::full(timestep, batch * calls.len(), first.x.device())?;
        let map = AttentionMap::default();
        let middle = match view {
            View::Plain => MiddleAttention::Plain,
            View::Perturbed => MiddleAttention::Identity,
            View::Watched(..) => MiddleAttention::Watched(&map),
        };
        let inputs = ModelInputs { sigma: Some(sigma), ..ModelInputs::cat(&inputs)? };
        let output = self.predictor.predict_watched(&scaled, &timesteps, &inputs, middle)?;
        if let (View::Watched(_, seen), Some(at)) = (view, calls.iter().position(|call| call.watched)) {
            let received = map.take().map(|received| received.narrow(0, at * batch, batch)).transpose()?;
            seen.replace(received);
        }
        let output = output.to_dtype(first.x.dtype())?;
        xs.iter()
            .enumerate()
            .map(|(i, x)| self.prediction.denoised(x, &output.narrow(0, i * batch, batch)?, sigma, timestep))
            .collect()
    }
}

/// One entry's share of a call of the network.
struct Call {
    x: Tensor,
    inputs: ModelInputs,
    /// Whether its attention is asked for.
    watched: bool,
}

/// How the network is looked at.
#[derive(Clone, Copy)]
pub(super) enum View<'a> {
    Plain,
    /// Without self-attention in the middle.
    Perturbed,
    /// The attention of a side is put down: that of the first entry in the last call that has any.
    Watched(usize, &'a RefCell<Option<Tensor>>),
}

/// Returns the least common length of the contexts, or none if repeating to it would cost too much.
fn common_length(calls: &[Call]) -> Result<Option<usize>> {
    let mut lengths = Vec::with_capacity(calls.len());
    for call in calls {
        lengths.push(call.inputs.context.dim(1)?);
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
