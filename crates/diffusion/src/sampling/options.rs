//! What a sampler may be told beyond its name.

use serde::{Deserialize, Serialize};

use super::error::{Result, SamplingError};
use super::latent::ResizeMethod;

/// Options of the samplers. What is left out keeps the sampler's default; a sampler ignores what it has no use for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplerOptions {
    /// Share of the noise that every step replaces: 0 follows the flow, 1 is fully stochastic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta: Option<f64>,
    /// Factor of the noise that is added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s_noise: Option<f64>,
    /// Where the inner point of a step lies, as a share of the step in lambda.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r: Option<f64>,
    /// Order of the method, or how many estimates it remembers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<usize>,
    /// How `dpm_adaptive` chooses its steps.
    #[serde(skip_serializing_if = "is_default")]
    pub step_control: StepControl,
    /// How `er_sde` spreads its noise.
    #[serde(skip_serializing_if = "is_default")]
    pub noise_scale: NoiseScale,
    /// Set-up of `sa_solver`.
    #[serde(skip_serializing_if = "is_default")]
    pub sa_solver: SaSolverOptions,
    /// Which of its two forms `euler_cfg_pp` takes.
    #[serde(skip_serializing_if = "is_default")]
    pub euler_cfg_pp: CfgPlusPlusForm,
    /// How `lcm` grows the latent on the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upscale: Option<Upscale>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The step length controller of `dpm_adaptive`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepControl {
    pub relative_tolerance: f64,
    pub absolute_tolerance: f64,
    pub first_length: f64,
    /// Weights of the last error, of its sum and of its change.
    pub proportional: f64,
    pub integral: f64,
    pub derivative: f64,
    /// Smallest growth of the step length with which a step is kept.
    pub accept_from: f64,
}

impl Default for StepControl {
    fn default() -> Self {
        Self {
            relative_tolerance: 0.05,
            absolute_tolerance: 0.0078,
            first_length: 0.05,
            proportional: 0.0,
            integral: 1.0,
            derivative: 0.0,
            accept_from: 0.81,
        }
    }
}

/// The function of sigma that says how much of the noise `er_sde` renews.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoiseScale {
    /// sigma (exp(sigma^0.3) + 10).
    #[default]
    Extended,
    /// sigma^(eta + 1); eta 0 is the ordinary differential equation.
    ReverseTime { eta: f64 },
}

/// Orders and noisy part of `sa_solver`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaSolverOptions {
    /// Levels between which noise is added; from 20 % to 80 % of the run if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub noisy: Option<(f64, f64)>,
    pub predictor_order: usize,
    /// 0 leaves the corrector out.
    pub corrector_order: usize,
    /// Evaluates the model again on the corrected state. The `sa_solver_pece` row always does.
    pub evaluate_corrected: bool,
    /// Takes simpler weights where two estimates are used.
    pub simple_order_2: bool,
}

impl Default for SaSolverOptions {
    fn default() -> Self {
        Self {
            noisy: None,
            predictor_order: 3,
            corrector_order: 4,
            evaluate_corrected: false,
            simple_order_2: false,
        }
    }
}

/// The forms of `euler_cfg_pp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CfgPlusPlusForm {
    /// Renoises the guided estimate along the unconditional direction.
    #[default]
    Regular,
    /// Moves x by the guidance and takes a plain Euler step from there.
    Alternative,
}

/// A latent that grows step by step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upscale {
    /// Factor of the sides at the end.
    pub factor: f64,
    /// In how many steps; half of the run if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    pub method: ResizeMethod,
}

impl SamplerOptions {
    /// Options of a sampler that adds noise.
    pub fn noisy(eta: f64, s_noise: f64) -> Self {
        Self { eta: Some(eta), s_noise: Some(s_noise), ..Self::default() }
    }

    pub(super) fn eta(&self) -> f64 {
        self.eta.unwrap_or(1.0)
    }

    pub(super) fn s_noise(&self) -> f64 {
        self.s_noise.unwrap_or(1.0)
    }

    /// Checks that every figure is one that some sampler can use.
    ///
    /// # Errors
    /// Names the option and what is wrong with it.
    pub fn validate(&self) -> Result<()> {
        let control = self.step_control;
        let reverse_eta = match self.noise_scale {
            NoiseScale::Extended => 0.0,
            NoiseScale::ReverseTime { eta } => eta,
        };
        let not_negative = [
            ("eta", self.eta()),
            ("eta", reverse_eta),
            ("s_noise", self.s_noise()),
            ("rtol", control.relative_tolerance),
            ("atol", control.absolute_tolerance),
            ("pcoeff", control.proportional),
            ("icoeff", control.integral),
            ("dcoeff", control.derivative),
            ("accept_safety", control.accept_from),
        ];
        for (field, value) in not_negative {
            if !(value.is_finite() && value >= 0.0) {
                return Err(SamplingError::invalid(field, format!("{value} is not 0 or more")));
            }
        }
        let factor = self.upscale.map_or(1.0, |upscale| upscale.factor);
        let positive =
            [("r", self.r.unwrap_or(1.0)), ("h_init", control.first_length), ("scale_ratio", factor)];
        for (field, value) in positive {
            if !(value.is_finite() && value > 0.0) {
                return Err(SamplingError::invalid(field, format!("{value} is not above 0")));
            }
        }
        let orders =
            [("order", self.order.unwrap_or(1)), ("predictor_order", self.sa_solver.predictor_order)];
        for (field, order) in orders {
            if order == 0 {
                return Err(SamplingError::invalid(field, "an order of at least 1 is needed"));
            }
        }
        Ok(())
    }
}
