//! Schedulers: how a run's noise levels are spread over its steps.

use super::beta_quantile::{beta_quantile, skewed_beta_quantile};
use super::error::{Result, SamplingError};
use super::schedule::NoiseSchedule;

/// Returns the falling noise levels of a run of `steps` steps, the last of them 0.
pub type ScheduleFn = fn(&NoiseSchedule, usize) -> Vec<f64>;

/// One row of the scheduler table.
#[derive(Debug, Clone, Copy)]
pub struct Scheduler {
    pub name: &'static str,
    pub sigmas: ScheduleFn,
}

/// Every scheduler, in the order it is offered to a user.
pub const SCHEDULERS: &[Scheduler] = &[
    Scheduler { name: "simple", sigmas: simple },
    Scheduler { name: "sgm_uniform", sigmas: sgm_uniform },
    Scheduler { name: "karras", sigmas: karras },
    Scheduler { name: "exponential", sigmas: exponential },
    Scheduler { name: "ddim_uniform", sigmas: ddim_uniform },
    Scheduler { name: "beta", sigmas: beta },
    Scheduler { name: "normal", sigmas: normal },
    Scheduler { name: "linear_quadratic", sigmas: linear_quadratic },
    Scheduler { name: "kl_optimal", sigmas: kl_optimal },
];

/// Finds a scheduler by name.
///
/// # Errors
/// An unknown name is an error that lists the valid ones.
pub fn find_scheduler(name: &str) -> Result<&'static Scheduler> {
    SCHEDULERS
        .iter()
        .find(|s| s.name == name)
        .ok_or_else(|| SamplingError::unknown("scheduler", name, SCHEDULERS.iter().map(|s| s.name)))
}

/// Spaces `count` values evenly in f32, counted from the nearer end as `torch.linspace` does.
pub(super) fn linspace(start: f32, end: f32, count: usize) -> Vec<f32> {
    if count == 1 {
        return vec![start];
    }
    let step = (end - start) / (count - 1) as f32;
    let at = |i: usize| {
        if i < count / 2 { start + step * i as f32 } else { end - step * (count - 1 - i) as f32 }
    };
    (0..count).map(at).collect()
}

pub(super) fn ended(levels: impl IntoIterator<Item = f32>) -> Vec<f64> {
    levels.into_iter().map(f64::from).chain([0.0]).collect()
}

/// Takes every n-th training level, from the top.
///
/// # Source
/// Same values as ComfyUI `simple`.
fn simple(schedule: &NoiseSchedule, steps: usize) -> Vec<f64> {
    let levels = schedule.sigmas();
    let stride = levels.len() as f64 / steps as f64;
    let at = |i: usize| levels[levels.len() - 1 - ((i as f64 * stride) as usize).min(levels.len() - 1)];
    ended((0..steps).map(at))
}

/// Spaces the time index evenly and leaves the last one out, as Stability's generative-models do.
///
/// # Source
/// Same values as ComfyUI `sgm_uniform`.
fn sgm_uniform(schedule: &NoiseSchedule, steps: usize) -> Vec<f64> {
    let mut timesteps = uniform_timesteps(schedule, steps + 1);
    timesteps.pop();
    ended(timesteps.into_iter().map(|t| schedule.sigma(t)))
}

/// Spaces the time index evenly, both ends included.
///
/// # Source
/// Same values as ComfyUI `normal`.
fn normal(schedule: &NoiseSchedule, steps: usize) -> Vec<f64> {
    ended(uniform_timesteps(schedule, steps).into_iter().map(|t| schedule.sigma(t)))
}

fn uniform_timesteps(schedule: &NoiseSchedule, count: usize) -> Vec<f32> {
    let index = |sigma: f32| schedule.timestep(f64::from(sigma));
    linspace(index(schedule.sigma_max()), index(schedule.sigma_min()), count)
}

/// Spaces the 7th root of sigma evenly.
///
/// # Source
/// Karras et al. 2022, eq. 5 with rho 7; same values as ComfyUI `karras`.
fn karras(schedule: &NoiseSchedule, steps: usize) -> Vec<f64> {
    karras_levels(steps, f64::from(schedule.sigma_max()), f64::from(schedule.sigma_min()), 7.0)
}

/// Spaces the root of sigma of degree `rho` evenly between two levels.
pub(super) fn karras_levels(steps: usize, sigma_max: f64, sigma_min: f64, rho: f64) -> Vec<f64> {
    // The roots of the ends are taken in f64 and everything between them in f32: Brownian noise tells levels apart
    // that differ in their last bit.
    let (high, low) = (sigma_max.powf(1.0 / rho), sigma_min.powf(1.0 / rho));
    let (start, change) = (high as f32, (low - high) as f32);
    ended(linspace(0.0, 1.0, steps).into_iter().map(|ramp| (start + ramp * change).powf(rho as f32)))
}

/// Spaces the logarithm of sigma evenly.
///
/// # Source
/// Same values as ComfyUI `exponential`.
fn exponential(schedule: &NoiseSchedule, steps: usize) -> Vec<f64> {
    let log = |sigma: f32| f64::from(sigma).ln() as f32;
    let (high, low) = (log(schedule.sigma_max()), log(schedule.sigma_min()));
    ended(linspace(high, low, steps).into_iter().map(f32::exp))
}

/// Takes every n-th training level from the second one up, which can give one step more than asked for.
///
/// # Source
/// Song et al. 2020 (DDIM), the uniform discretisation; same values as ComfyUI `ddim_uniform`.
fn ddim_uniform(schedule: &NoiseSchedule, steps: usize) -> Vec<f64> {
    let levels = schedule.sigmas();
    let stride = (levels.len() / steps).max(1);
    let mut taken: Vec<f32> = levels.iter().copied().skip(1).step_by(stride).collect();
    taken.reverse();
    ended(taken)
}

/// Spreads the time index by the quantiles of a beta distribution, denser at both ends.
///
/// # Source
/// Lee et al. 2024 ("Beta Sampling is All You Need"), alpha = beta = 0.6; same values as ComfyUI `beta`.
fn beta(schedule: &NoiseSchedule, steps: usize) -> Vec<f64> {
    const SHAPE: f64 = 0.6;
    beta_levels(schedule, steps, SHAPE, SHAPE)
}

/// Spreads the time index by the quantiles of a beta distribution of any shape.
pub(super) fn beta_levels(schedule: &NoiseSchedule, steps: usize, alpha: f64, beta: f64) -> Vec<f64> {
    let last = schedule.sigmas().len() - 1;
    let quantile = |i: usize| {
        let share = 1.0 - i as f64 / steps as f64;
        if alpha == beta { beta_quantile(share, alpha) } else { skewed_beta_quantile(share, alpha, beta) }
    };
    let mut indices: Vec<usize> =
        (0..steps).map(|i| (quantile(i) * last as f64).round_ties_even() as usize).collect();
    // Two quantiles can round to one index, which would be a step of no length.
    indices.dedup();
    ended(indices.into_iter().map(|i| schedule.sigmas()[i]))
}

/// Goes down slowly and evenly for the first half of the steps and quadratically after it.
///
/// # Source
/// Polyak et al. 2024 (Movie Gen), threshold 0.025; same values as ComfyUI `linear_quadratic`.
fn linear_quadratic(schedule: &NoiseSchedule, steps: usize) -> Vec<f64> {
    const THRESHOLD: f64 = 0.025;
    let sigma_max = schedule.sigma_max();
    if steps == 1 {
        return ended([sigma_max]);
    }
    let linear = (steps / 2) as f64;
    let quadratic = steps as f64 - linear;
    let gap = linear - THRESHOLD * steps as f64;
    let square = gap / (linear * quadratic * quadratic);
    let slope = THRESHOLD / linear - 2.0 * gap / (quadratic * quadratic);
    let offset = square * linear * linear;
    let done = |i: usize| {
        let at = i as f64;
        if at < linear { at * THRESHOLD / linear } else { square * at * at + slope * at + offset }
    };
    ended((0..steps).map(|i| (1.0 - done(i)) as f32 * sigma_max))
}

/// Spaces the arc tangent of sigma evenly; one step has no spacing and gives no number.
///
/// # Source
/// Sabour et al. 2024 (Align Your Steps), eq. of the KL-optimal schedule; same values as ComfyUI `kl_optimal`.
fn kl_optimal(schedule: &NoiseSchedule, steps: usize) -> Vec<f64> {
    let (high, low) = (schedule.sigma_max().atan(), schedule.sigma_min().atan());
    let at = |i: usize| {
        let place = i as f32 / (steps as f32 - 1.0);
        (place * low + (1.0 - place) * high).tan()
    };
    ended((0..steps).map(at))
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::super::sample::run_sigmas;
    use super::*;

    /// Largest relative error of a noise level against ComfyUI's f32 figure.
    const TOLERANCE: f64 = 1e-5;

    #[test]
    fn every_scheduler_matches() {
        let golden = fixtures::json("sigmas.json");
        let schedule = NoiseSchedule::sd15();
        let mut checked = 0;
        let mut worst: f64 = 0.0;
        let mut exact = std::collections::BTreeMap::<&str, (usize, usize)>::new();
        for (name, expected) in golden.as_object().unwrap().iter().filter(|(name, _)| name.contains('|')) {
            let parts: Vec<&str> = name.split('|').collect();
            let (scheduler, sampler) = (find_scheduler(parts[0]).unwrap(), parts[3]);
            let sampler = super::super::samplers::find_sampler(sampler).unwrap();
            let got = run_sigmas(
                &schedule,
                scheduler,
                sampler,
                parts[1].parse().unwrap(),
                parts[2].parse().unwrap(),
            );
            let expected = fixtures::floats(expected);
            checked += 1;
            if expected.iter().any(|v| v.is_nan()) {
                assert!(got.unwrap_err().to_string().contains("scheduler"), "{name}");
                continue;
            }
            let got = got.unwrap();
            assert_eq!(got.len(), expected.len(), "{name}");
            for (got, expected) in got.iter().zip(&expected) {
                let error = if *expected == 0.0 { got.abs() } else { ((got - expected) / expected).abs() };
                assert!(error <= TOLERANCE, "{name}: {got} {expected}");
                worst = worst.max(error);
                let count = exact.entry(scheduler.name).or_default();
                *count = (count.0 + usize::from(got == expected), count.1 + 1);
            }
        }
        assert!(checked >= 270, "only {checked} cases");
        println!("{checked} schedules, largest relative error {worst:e}, levels equal to the bit: {exact:?}");
    }

    #[test]
    fn zero_snr_schedules_match() {
        let schedule = NoiseSchedule::sd15().zero_terminal_snr();
        let golden = fixtures::json("sigmas_zsnr.json");
        let mut worst: f64 = 0.0;
        for (name, expected) in golden.as_object().unwrap() {
            let parts: Vec<&str> = name.split('|').collect();
            let got = (find_scheduler(parts[0]).unwrap().sigmas)(&schedule, parts[1].parse().unwrap());
            let expected = fixtures::floats(expected);
            assert_eq!(got.len(), expected.len(), "{name}");
            for (got, expected) in got.iter().zip(&expected) {
                let error = if *expected == 0.0 { got.abs() } else { ((got - expected) / expected).abs() };
                assert!(error <= TOLERANCE, "{name}: {got} {expected}");
                worst = worst.max(error);
            }
        }
        assert_eq!(golden.as_object().unwrap().len(), 18);
        println!("largest relative error {worst:e}");
    }

    #[test]
    fn unknown_scheduler_names_the_choices() {
        let error = find_scheduler("karass").unwrap_err().to_string();
        assert!(error.contains("`karass`") && error.contains("`karras`"), "{error}");
    }
}
