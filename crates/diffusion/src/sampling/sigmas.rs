//! Lists of noise levels made from figures instead of a model, and tools to cut and change them.

use super::error::{Result, SamplingError};
pub use super::gits::gits;
use super::schedule::NoiseSchedule;
use super::schedulers::{Scheduler, beta_levels, ended, karras_levels, linspace};

/// Most steps of a schedule, before a partial denoise takes its share of them.
pub(super) const MAX_STEPS: usize = 1_000_000;

pub(super) fn check_steps(steps: usize) -> Result<()> {
    match steps {
        0 => Err(SamplingError::invalid("steps", "at least one step is needed")),
        steps if steps > MAX_STEPS => {
            Err(SamplingError::invalid("steps", format!("{steps} planned steps are more than {MAX_STEPS}")))
        }
        _ => Ok(()),
    }
}

fn check_above_zero(figures: &[(&'static str, f64)]) -> Result<()> {
    match figures.iter().find(|(_, value)| !(value.is_finite() && *value > 0.0)) {
        None => Ok(()),
        Some((field, value)) => Err(SamplingError::invalid(field, format!("{value} is not above 0"))),
    }
}

fn finite(sigmas: Vec<f64>) -> Result<Vec<f64>> {
    if sigmas.iter().all(|sigma| sigma.is_finite()) {
        return Ok(sigmas);
    }
    Err(SamplingError::invalid("sigmas", "these figures give no finite noise levels"))
}

/// Makes a scheduler's levels and keeps the last `steps` steps, all of them with `denoise` 1.
///
/// # Errors
/// Fails on a number of steps or a `denoise` that gives no schedule.
///
/// # Source
/// Same values as ComfyUI `BasicScheduler`.
pub fn basic(
    schedule: &NoiseSchedule,
    scheduler: &Scheduler,
    steps: usize,
    denoise: f64,
) -> Result<Vec<f64>> {
    check_steps(steps)?;
    if denoise <= 0.0 {
        return Ok(Vec::new());
    }
    let planned = if denoise < 1.0 { (steps as f64 / denoise) as usize } else { steps };
    check_steps(planned)?;
    let mut sigmas = (scheduler.sigmas)(schedule, planned);
    sigmas.drain(..sigmas.len().saturating_sub(steps + 1));
    finite(sigmas)
}

/// Spaces the root of sigma of degree `rho` evenly.
///
/// # Errors
/// Fails on figures that are not above 0.
///
/// # Source
/// Karras et al. 2022, eq. 5; same values as ComfyUI `KarrasScheduler`.
pub fn karras(steps: usize, sigma_max: f64, sigma_min: f64, rho: f64) -> Result<Vec<f64>> {
    check_steps(steps)?;
    check_above_zero(&[("rho", rho), ("sigma_max", sigma_max)])?;
    finite(karras_levels(steps, sigma_max, sigma_min, rho))
}

/// Spaces the logarithm of sigma evenly.
///
/// # Errors
/// Fails on levels that are not above 0.
///
/// # Source
/// Same values as ComfyUI `ExponentialScheduler`.
pub fn exponential(steps: usize, sigma_max: f64, sigma_min: f64) -> Result<Vec<f64>> {
    check_steps(steps)?;
    check_above_zero(&[("sigma_max", sigma_max), ("sigma_min", sigma_min)])?;
    let levels = linspace(sigma_max.ln() as f32, sigma_min.ln() as f32, steps);
    finite(ended(levels.into_iter().map(f32::exp)))
}

/// Spaces the logarithm of sigma by a power of the share of steps that is left.
///
/// # Errors
/// Fails on levels that are not above 0.
///
/// # Source
/// k-diffusion's polyexponential schedule; same values as ComfyUI `PolyexponentialScheduler`.
pub fn polyexponential(steps: usize, sigma_max: f64, sigma_min: f64, rho: f64) -> Result<Vec<f64>> {
    check_steps(steps)?;
    check_above_zero(&[("sigma_max", sigma_max), ("sigma_min", sigma_min)])?;
    let (low, span) = (sigma_min.ln() as f32, (sigma_max.ln() - sigma_min.ln()) as f32);
    let level = |left: f32| (left.powf(rho as f32) * span + low).exp();
    finite(ended(linspace(1.0, 0.0, steps).into_iter().map(level)))
}

/// Spaces the logarithm of sigma by the quantiles of a Laplace distribution. It ends at `sigma_min`, not at 0.
///
/// # Errors
/// Fails on figures without finite levels.
///
/// # Source
/// Hang et al. 2024 (improved noise schedules), the Laplace schedule; same values as ComfyUI `LaplaceScheduler`.
pub fn laplace(steps: usize, sigma_max: f64, sigma_min: f64, mu: f64, beta: f64) -> Result<Vec<f64>> {
    /// Keeps the ends of the quantile finite.
    const EPSILON: f32 = 1e-5;
    check_steps(steps)?;
    let (mu, beta, low, high) = (mu as f32, beta as f32, sigma_min as f32, sigma_max as f32);
    let level = |place: f32| {
        let side = 0.5 - place;
        // The middle has no side, and there the logarithm is next to 0 anyway.
        let sign = if side == 0.0 { 0.0 } else { side.signum() };
        let log_sigma = mu - beta * sign * (1.0 - 2.0 * side.abs() + EPSILON).ln();
        f64::from(log_sigma.exp().max(low).min(high))
    };
    finite(linspace(0.0, 1.0, steps).into_iter().map(level).collect())
}

/// Follows a variance-preserving process whose beta rises linearly.
///
/// # Errors
/// Fails on figures without finite levels.
///
/// # Source
/// Song et al. 2021, eq. 33, as levels of sigma; same values as ComfyUI `VPScheduler`.
pub fn variance_preserving(steps: usize, beta_d: f64, beta_min: f64, eps_s: f64) -> Result<Vec<f64>> {
    check_steps(steps)?;
    let (beta_d, beta_min) = (beta_d as f32, beta_min as f32);
    let level = |time: f32| (beta_d * (time * time) / 2.0 + beta_min * time).exp_m1().sqrt();
    finite(ended(linspace(1.0, eps_s as f32, steps).into_iter().map(level)))
}

/// Spreads the time index by the quantiles of a beta distribution.
///
/// # Errors
/// Fails on shapes that are not above 0.
///
/// # Source
/// Lee et al. 2024 ("Beta Sampling is All You Need"); same values as ComfyUI `BetaSamplingScheduler`.
pub fn beta(schedule: &NoiseSchedule, steps: usize, alpha: f64, beta: f64) -> Result<Vec<f64>> {
    check_steps(steps)?;
    check_above_zero(&[("alpha", alpha), ("beta", beta)])?;
    finite(beta_levels(schedule, steps, alpha, beta))
}

/// Takes every hundredth time index from a place that `denoise` moves down.
///
/// # Errors
/// Fails on a `denoise` outside of 0..=1.
///
/// # Source
/// Sauer et al. 2023 (SD-Turbo); same values as ComfyUI `SDTurboScheduler`.
pub fn turbo(schedule: &NoiseSchedule, steps: usize, denoise: f64) -> Result<Vec<f64>> {
    const PLACES: usize = 10;
    check_steps(steps)?;
    if !(0.0..=1.0).contains(&denoise) {
        return Err(SamplingError::invalid("denoise", format!("{denoise} is not within 0 to 1")));
    }
    let start = PLACES - (PLACES as f64 * denoise) as usize;
    let times = (start..PLACES).take(steps).map(|place| ((PLACES - place) * 100 - 1) as f32);
    finite(ended(times.map(|time| schedule.sigma(time))))
}

/// A model family that Align Your Steps was optimised for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlignedModel {
    Sd1,
    Sdxl,
    Svd,
}

impl AlignedModel {
    pub const ALL: [Self; 3] = [Self::Sd1, Self::Sdxl, Self::Svd];

    pub fn name(self) -> &'static str {
        match self {
            Self::Sd1 => "SD1",
            Self::Sdxl => "SDXL",
            Self::Svd => "SVD",
        }
    }

    /// The optimised levels of ten steps.
    ///
    /// # Source
    /// Sabour et al. 2024 (Align Your Steps), the quick-start guide.
    fn levels(self) -> [f64; 11] {
        match self {
            Self::Sd1 => [
                14.6146412293,
                6.4745760956,
                3.8636745985,
                2.6946151520,
                1.8841921177,
                1.3943805092,
                0.9642583904,
                0.6523686016,
                0.3977456272,
                0.1515232662,
                0.0291671582,
            ],
            Self::Sdxl => [
                14.6146412293,
                6.3184485287,
                3.7681790315,
                2.1811480769,
                1.3405244945,
                0.8620721141,
                0.5550693289,
                0.3798540708,
                0.2332364134,
                0.1114188177,
                0.0291671582,
            ],
            Self::Svd => [700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002],
        }
    }
}

impl std::str::FromStr for AlignedModel {
    type Err = SamplingError;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|model| model.name() == name)
            .ok_or_else(|| SamplingError::unknown("model type", name, Self::ALL.iter().map(|m| m.name())))
    }
}

/// Interpolates the logarithm of a model's optimised levels.
///
/// # Errors
/// Fails on a number of steps that gives no schedule.
///
/// # Source
/// Sabour et al. 2024 (Align Your Steps); same values as ComfyUI `AlignYourStepsScheduler`.
pub fn align_your_steps(model: AlignedModel, steps: usize, denoise: f64) -> Result<Vec<f64>> {
    check_steps(steps)?;
    if denoise <= 0.0 {
        return Ok(Vec::new());
    }
    let levels = model.levels();
    let kept = if denoise < 1.0 { (steps as f64 * denoise).round_ties_even() as usize } else { steps };
    let sigmas = if steps + 1 == levels.len() { levels.to_vec() } else { log_linear(&levels, steps) };
    last_steps(sigmas, kept)
}

/// Interpolates the logarithm of levels, spread evenly over a number of steps.
pub(super) fn log_linear(levels: &[f64], steps: usize) -> Vec<f64> {
    let intervals = levels.len() - 1;
    let at = |i: usize| {
        let place = i as f64 * intervals as f64 / steps as f64;
        let low = (place as usize).min(intervals - 1);
        let share = place - low as f64;
        (levels[low].ln() * (1.0 - share) + levels[low + 1].ln() * share).exp()
    };
    (0..=steps).map(at).collect()
}

/// Keeps the last steps of a list of levels and ends it without noise, in f32.
pub(super) fn last_steps(mut sigmas: Vec<f64>, kept: usize) -> Result<Vec<f64>> {
    sigmas.drain(..sigmas.len().saturating_sub(kept + 1));
    if let Some(last) = sigmas.last_mut() {
        *last = 0.0;
    }
    finite(sigmas.into_iter().map(|sigma| f64::from(sigma as f32)).collect())
}

/// Splits levels at a step; the level at the step is in both halves.
pub fn split(sigmas: &[f64], step: usize) -> (Vec<f64>, Vec<f64>) {
    let high = &sigmas[..sigmas.len().min(step.saturating_add(1))];
    let low = sigmas.get(step..).unwrap_or_default();
    (high.to_vec(), low.to_vec())
}

/// Splits levels so that a share of the steps is in the second half. A second half without steps leaves the first
/// one empty, as it does in ComfyUI.
pub fn split_denoise(sigmas: &[f64], denoise: f64) -> (Vec<f64>, Vec<f64>) {
    let steps = sigmas.len().saturating_sub(1);
    let kept = ((steps as f64 * denoise).round_ties_even().max(0.0) as usize).min(steps);
    let high = if kept == 0 { &[][..] } else { &sigmas[..sigmas.len() - kept] };
    let low = &sigmas[sigmas.len().saturating_sub(kept + 1)..];
    (high.to_vec(), low.to_vec())
}

/// Turns levels around. A first level of 0 becomes a small one, since a sampler cannot start without noise.
pub fn flip(sigmas: &[f64]) -> Vec<f64> {
    const SMALLEST: f32 = 0.0001;
    let mut flipped: Vec<f64> = sigmas.iter().rev().copied().collect();
    if let Some(first) = flipped.first_mut().filter(|first| **first == 0.0) {
        *first = f64::from(SMALLEST);
    }
    flipped
}

/// How added levels lie between two given ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spacing {
    Linear,
    Cosine,
    Sine,
}

impl Spacing {
    pub const ALL: [Self; 3] = [Self::Linear, Self::Cosine, Self::Sine];

    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Cosine => "cosine",
            Self::Sine => "sine",
        }
    }

    fn place(self, share: f32) -> f32 {
        let angle = share * std::f32::consts::FRAC_PI_2;
        match self {
            Self::Linear => share,
            Self::Cosine => angle.sin(),
            Self::Sine => 1.0 - angle.cos(),
        }
    }
}

impl std::str::FromStr for Spacing {
    type Err = SamplingError;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|spacing| spacing.name() == name)
            .ok_or_else(|| SamplingError::unknown("spacing", name, Self::ALL.iter().map(|s| s.name())))
    }
}

/// Splits every step that starts within `within` (low, high) into `parts` steps.
///
/// # Errors
/// Fails if that makes more steps than a run may have.
pub fn extend(sigmas: &[f64], parts: usize, within: (f64, f64), spacing: Spacing) -> Result<Vec<f64>> {
    check_steps(sigmas.len().saturating_mul(parts).max(1))?;
    let shares: Vec<f32> =
        linspace(0.0, 1.0, parts + 1).into_iter().skip(1).take(parts.saturating_sub(1)).collect();
    let mut extended = Vec::new();
    for pair in sigmas.windows(2) {
        extended.push(pair[0]);
        if (within.0..=within.1).contains(&pair[0]) {
            let (from, to) = (pair[0] as f32, pair[1] as f32);
            extended.extend(shares.iter().map(|share| f64::from(spacing.place(*share) * (to - from) + from)));
        }
    }
    extended.extend(sigmas.last());
    Ok(extended)
}

#[cfg(test)]
#[path = "sigmas_tests.rs"]
mod tests;
