//! Lists of noise levels made from figures instead of a model, and tools to cut and change them.

use super::error::{Result, SamplingError};
use super::gits;
use super::schedule::NoiseSchedule;
use super::schedulers::{Scheduler, beta_levels, ended, karras_levels, linspace};

/// Most steps of a schedule, before a partial denoise takes its share of them.
const MAX_STEPS: usize = 1_000_000;

fn check_steps(steps: usize) -> Result<()> {
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

/// Picks the levels that GITS found for a number of steps, or spreads those of the longest list.
///
/// # Errors
/// Fails on a coefficient that levels were not searched for and on a number of steps that gives no schedule.
///
/// # Source
/// Chen et al. 2024 (GITS); same values as ComfyUI `GITSScheduler`.
pub fn gits(coefficient: f64, steps: usize, denoise: f64) -> Result<Vec<f64>> {
    check_steps(steps)?;
    if denoise <= 0.0 {
        return Ok(Vec::new());
    }
    let place = (coefficient - gits::FIRST_COEFFICIENT) / gits::COEFFICIENT_STEP;
    let unknown = || {
        let known = |i: usize| format!("{:.2}", gits::FIRST_COEFFICIENT + i as f64 * gits::COEFFICIENT_STEP);
        let known: Vec<String> = (0..gits::LISTS.len()).map(known).collect();
        let reason = format!("there are no levels for {coefficient}, expected one of {}", known.join(", "));
        SamplingError::invalid("coeff", reason)
    };
    if !((place - place.round()).abs() < 0.1 && place > -0.5) {
        return Err(unknown());
    }
    let lists = gits::LISTS.get(place.round() as usize).ok_or_else(unknown)?;
    let first = steps.checked_sub(gits::FEWEST_STEPS).ok_or_else(|| {
        SamplingError::invalid("steps", format!("at least {} steps are needed", gits::FEWEST_STEPS))
    })?;
    let levels = |list: &[u8]| -> Vec<f64> {
        let last = gits::LEVELS.len() - 1;
        let between = list.iter().map(|place| usize::from(*place));
        std::iter::once(0).chain(between).chain([last]).map(|place| gits::LEVELS[place]).collect()
    };
    let sigmas = match lists.get(first) {
        Some(list) => levels(list),
        None => log_linear(&levels(lists[lists.len() - 1]), steps),
    };
    last_steps(
        sigmas,
        if denoise < 1.0 { (steps as f64 * denoise).round_ties_even() as usize } else { steps },
    )
}

/// Interpolates the logarithm of levels, spread evenly over a number of steps.
fn log_linear(levels: &[f64], steps: usize) -> Vec<f64> {
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
fn last_steps(mut sigmas: Vec<f64>, kept: usize) -> Result<Vec<f64>> {
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
mod tests {
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

    #[test]
    fn gits_levels_are_those_of_the_search() {
        let close = |got: Vec<f64>, want: &[f64]| {
            assert_eq!(got.len(), want.len(), "{got:?}");
            for (got, want) in got.iter().zip(want) {
                assert!((got - want).abs() <= 1e-7 * want, "{got} {want}");
            }
        };
        close(gits(0.8, 2, 1.0).unwrap(), &[14.61464119, 7.49001646, 0.0]);
        close(
            gits(1.0, 5, 1.0).unwrap(),
            &[14.61464119, 7.11996698, 3.07277966, 1.56271636, 0.59516323, 0.0][..],
        );
        let ten =
            [14.61464119, 5.85520077, 2.84484982, 1.67050016, 1.08895338, 0.74807048, 0.50118381, 0.32104823];
        close(gits(1.2, 10, 1.0).unwrap(), &[&ten[..], &[0.19894916, 0.09824532, 0.0]].concat());
        close(gits(1.2, 10, 0.25).unwrap(), &[0.19894916, 0.09824532, 0.0]);
        // Ten of ten and a half steps: a half goes to the even number.
        close(gits(1.5, 3, 0.5).unwrap(), &[0.803307, 0.25053367, 0.0]);
        let schedule = NoiseSchedule::sd15();
        for (c, lists) in gits::LISTS.iter().enumerate() {
            for (i, list) in lists.iter().enumerate() {
                assert_eq!(list.len(), i + 1, "{c}");
                assert!(list.is_sorted() && list.iter().all(|place| (1..97).contains(place)), "{c} {list:?}");
            }
        }
        for level in gits::LEVELS {
            // Every level is a whole hundredth of the training time.
            let hundredths = f64::from(schedule.timestep(level)) / 9.99;
            assert!((hundredths - hundredths.round()).abs() < 0.06, "{level}: {hundredths}");
        }
        let long = gits(1.2, 40, 1.0).unwrap();
        let longest = gits(1.2, 20, 1.0).unwrap();
        // Twice as many steps meet every level of the longest list.
        for (i, level) in longest.iter().enumerate().take(20) {
            assert!((long[2 * i] - level).abs() < 1e-6 * level, "{i}");
        }
        assert!(gits(1.0, 10, 0.0).unwrap().is_empty());
        for coefficient in [0.75, 0.83, 1.55, f64::NAN] {
            let error = gits(coefficient, 10, 1.0).unwrap_err().to_string();
            assert!(error.contains("0.80, 0.85") && error.contains("1.50"), "{error}");
        }
        assert!(gits(1.0, 1, 1.0).unwrap_err().to_string().contains("2 steps"));
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
}
