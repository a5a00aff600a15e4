//! Steps that several samplers share.
//!
//! Noise is scaled so that x = x0 + sigma * noise. Half the log of the signal-to-noise ratio, called lambda below, is
//! then -ln(sigma).

use candle_core::Tensor;

use super::super::denoiser::{Guided, SampleCtx, StepInfo};
use super::super::error::Result;

/// Returns the sum of tensors, each times its factor.
pub(super) fn combine(terms: &[(f64, &Tensor)]) -> Result<Tensor> {
    let (factor, first) = terms[0];
    let mut sum = first.affine(factor, 0.0)?;
    for (factor, tensor) in &terms[1..] {
        sum = (sum + tensor.affine(*factor, 0.0)?)?;
    }
    Ok(sum)
}

/// Returns the direction of the probability flow, (x - x0) / sigma.
pub(super) fn derivative(x: &Tensor, sigma: f64, denoised: &Tensor) -> Result<Tensor> {
    Ok((x - denoised)?.affine(1.0 / sigma, 0.0)?)
}

/// Splits a step into a deterministic part down to the first level and noise of the second one added back.
///
/// # Source
/// Song et al. 2020 (DDIM), eq. 16, in the sigma form.
pub(super) fn ancestral(from: f64, to: f64, eta: f64) -> (f64, f64) {
    if eta == 0.0 || to == 0.0 {
        return (to, 0.0);
    }
    let up = to.min(eta * (to * to * (from * from - to * to) / (from * from)).sqrt());
    ((to * to - up * up).sqrt(), up)
}

pub(super) fn lambda(sigma: f64) -> f64 {
    -sigma.ln()
}

pub(super) fn sigma_of(lambda: f64) -> f64 {
    (-lambda).exp()
}

/// The steps of a run: pairs of neighbouring levels.
pub(super) struct Step {
    pub index: usize,
    pub total: usize,
    pub sigma: f64,
    pub next: f64,
}

pub(super) fn steps(sigmas: &[f64]) -> impl Iterator<Item = Step> + '_ {
    let total = sigmas.len().saturating_sub(1);
    sigmas.windows(2).enumerate().map(move |(index, pair)| Step {
        index,
        total,
        sigma: pair[0],
        next: pair[1],
    })
}

impl Step {
    /// Reports the step's first estimate.
    pub(super) fn report(&self, ctx: &mut SampleCtx<'_>, x: &Tensor, denoised: &Tensor) -> Result<()> {
        ctx.report(&StepInfo { step: self.index, total: self.total, sigma: self.sigma, denoised, x })
    }
}

/// Adds noise of a level to `x`; at level 0 none is drawn.
pub(super) fn add_noise(x: Tensor, level: f64, noise: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
    if level == 0.0 {
        return Ok(x);
    }
    combine(&[(1.0, &x), (level, &noise()?)])
}

/// Draws noise of the shape of `x` from a sampler's own stream.
pub(super) fn draw(noise: &mut super::super::noise::TorchGenerator, x: &Tensor) -> Result<Tensor> {
    noise.randn_tensor(x.dims(), x.device())
}

/// Whether a sampler guides itself (CFG++) or takes the guided estimate as it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Guidance {
    Plain,
    PlusPlus,
}

impl Guidance {
    /// Evaluates the model; in the plain case the unconditional estimate is the guided one.
    pub(super) fn evaluate(
        self,
        model: &dyn super::super::denoiser::Denoiser,
        x: &Tensor,
        sigma: f64,
    ) -> Result<Guided> {
        match self {
            Self::PlusPlus => model.denoise_both(x, sigma),
            Self::Plain => {
                let denoised = model.denoise(x, sigma)?;
                Ok(Guided { uncond: denoised.clone(), denoised })
            }
        }
    }
}
