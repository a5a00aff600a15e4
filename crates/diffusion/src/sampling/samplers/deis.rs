//! Diffusion exponential integrator with polynomial extrapolation in time.

use std::collections::VecDeque;

use candle_core::Tensor;

use super::super::denoiser::{Denoiser, SampleCtx};
use super::super::error::Result;
use super::common::{combine, derivative, steps};

const ORDER: usize = 3;

/// Points of the sum that stands for the integral; part of the figures to be matched.
const INTEGRAL_POINTS: usize = 10_000;

/// Integrates the polynomial through the last slopes over the time of the variance-preserving process.
///
/// # Source
/// Zhang and Chen 2023 (DEIS), eq. 15 (tAB-DEIS) up to order 3; same values as ComfyUI `deis`.
pub(super) fn deis(
    model: &dyn Denoiser,
    mut x: Tensor,
    sigmas: &[f64],
    ctx: &mut SampleCtx<'_>,
) -> Result<Tensor> {
    let process = Process::standard();
    let times: Vec<f64> = sigmas.iter().map(|s| process.time(*s)).collect();
    let mut slopes: VecDeque<Tensor> = VecDeque::new();
    for step in steps(sigmas) {
        let denoised = model.denoise(&x, step.sigma)?;
        step.report(ctx, &x, &denoised)?;
        slopes.push_front(derivative(&x, step.sigma, &denoised)?);
        slopes.truncate(ORDER);
        let weights = if slopes.len() == 1 || step.next <= 0.0 {
            vec![step.next - step.sigma]
        } else {
            // Newest first, as the slopes are.
            let nodes: Vec<f64> = (0..slopes.len()).map(|k| times[step.index - k]).collect();
            process.weights(&nodes, times[step.index + 1])
        };
        let mut terms = vec![(1.0, &x)];
        terms.extend(weights.into_iter().zip(&slopes));
        x = combine(&terms)?;
    }
    Ok(x)
}

/// A variance-preserving process whose beta rises linearly over 0..=1.
struct Process {
    beta_start: f64,
    beta_rise: f64,
}

impl Process {
    /// Fits the process to sigma 0.002 at time 0.001 and sigma 80 at time 1.
    ///
    /// # Source
    /// Karras et al. 2022, table 1 (VP column).
    fn standard() -> Self {
        const FIRST_TIME: f64 = 1e-3;
        const SIGMAS: (f64, f64) = (0.002, 80.0);
        let log = |sigma: f64| (sigma * sigma).ln_1p();
        let beta_rise = 2.0 * (log(SIGMAS.0) / FIRST_TIME - log(SIGMAS.1)) / (FIRST_TIME - 1.0);
        Self { beta_start: log(SIGMAS.1) - 0.5 * beta_rise, beta_rise }
    }

    fn time(&self, sigma: f64) -> f64 {
        let log = (sigma * sigma).ln_1p();
        ((self.beta_start.powi(2) + 2.0 * self.beta_rise * log).sqrt() - self.beta_start) / self.beta_rise
    }

    /// Returns how fast sigma moves the variance-preserving state at a time.
    fn rate(&self, time: f64) -> f64 {
        let log_alpha = -0.5 * time * time * self.beta_rise - time * self.beta_start;
        let log_alpha_rate = -time * self.beta_rise - self.beta_start;
        let alpha = log_alpha.exp();
        -0.5 * log_alpha_rate / (alpha * (1.0 - alpha)).sqrt()
    }

    /// Returns the weight of the slope at each node for the step from the first node to `end`.
    fn weights(&self, nodes: &[f64], end: f64) -> Vec<f64> {
        let length = end - nodes[0];
        let mut weights = vec![0.0; nodes.len()];
        for point in 0..INTEGRAL_POINTS {
            let time = nodes[0] + length * point as f64 / (INTEGRAL_POINTS - 1) as f64;
            let rate = self.rate(time);
            for (k, weight) in weights.iter_mut().enumerate() {
                let others = nodes.iter().enumerate().filter(|(other, _)| *other != k);
                let basis: f64 = others.map(|(_, node)| (time - node) / (nodes[k] - node)).product();
                *weight += rate * basis;
            }
        }
        weights.iter().map(|w| w * length / INTEGRAL_POINTS as f64).collect()
    }
}
