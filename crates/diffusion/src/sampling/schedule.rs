//! The noise levels a model was trained on.

use super::error::{Result, SamplingError};

/// Training steps of every model this crate samples.
pub const TRAIN_STEPS: usize = 1000;

/// Levels that stand for a continuous range, for the schedulers that pick from a list.
const CONTINUOUS_LEVELS: usize = 1000;

/// Training steps that a consistency model was distilled to.
const DISTILLED_STEPS: usize = 50;

/// Maps between noise levels (sigma) and the model's time index.
///
/// Levels are f32, as the reference keeps them: which level is nearest to a sigma depends on it.
#[derive(Debug, Clone)]
pub struct NoiseSchedule {
    levels: Vec<f64>,
    sigmas: Vec<f32>,
    log_sigmas: Vec<f32>,
    time: Time,
}

/// What the network is told about the noise level.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Time {
    /// The place of the level in the list, times a stride; the last place of the stride is meant.
    Index { stride: usize },
    /// A quarter of the logarithm of sigma.
    Logarithm,
    /// The angle whose tangent is sigma, 1 being a right one.
    Angle,
}

/// How a continuous range of levels is told to the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContinuousTime {
    /// Karras et al. 2022, table 1 (c_noise).
    Edm,
    /// The angle between noise and data.
    Velocity,
}

impl NoiseSchedule {
    /// Builds the schedule of SD 1.5, SDXL and their relatives: the root of beta runs evenly from `beta_start` to
    /// `beta_end`.
    ///
    /// # Source
    /// Rombach et al. 2022, `linear_start` and `linear_end`; same values as ComfyUI's `sigmas`.
    pub fn scaled_linear(beta_start: f64, beta_end: f64) -> Self {
        let (first, last) = (beta_start.sqrt(), beta_end.sqrt());
        let step = (last - first) / (TRAIN_STEPS - 1) as f64;
        let mut alpha_bar = 1.0;
        let levels = (0..TRAIN_STEPS).map(|i| {
            // Counted from the nearer end, as torch.linspace does.
            let root = if i < TRAIN_STEPS / 2 {
                first + step * i as f64
            } else {
                last - step * (TRAIN_STEPS - 1 - i) as f64
            };
            alpha_bar *= 1.0 - root * root;
            ((1.0 - alpha_bar) / alpha_bar).sqrt()
        });
        Self::from_levels(levels.collect(), Time::Index { stride: 1 })
    }

    /// Builds the schedule of Stable Diffusion 1.5.
    pub fn sd15() -> Self {
        Self::scaled_linear(0.00085, 0.012)
    }

    /// Builds a schedule from given noise levels, rising.
    ///
    /// # Errors
    /// Fails unless there are at least two levels that are positive and rising.
    pub fn from_sigmas(levels: Vec<f64>) -> Result<Self> {
        let rising = levels.windows(2).all(|pair| pair[0] < pair[1]);
        if levels.len() < 2 || levels[0] <= 0.0 || !rising {
            return Err(SamplingError::invalid(
                "sigmas",
                "a schedule needs two or more positive rising levels",
            ));
        }
        Ok(Self::from_levels(levels, Time::Index { stride: 1 }))
    }

    /// Builds the schedule of a model that was trained on a continuous range of levels.
    ///
    /// # Errors
    /// Fails unless both ends are positive and rising.
    pub fn continuous(sigma_min: f64, sigma_max: f64, time: ContinuousTime) -> Result<Self> {
        if !(sigma_min > 0.0 && sigma_min < sigma_max && sigma_max.is_finite()) {
            let reason = format!("{sigma_min} to {sigma_max} is not a range of positive rising levels");
            return Err(SamplingError::invalid("sigmas", reason));
        }
        let (low, high) = (sigma_min.ln(), sigma_max.ln());
        let step = (high - low) / (CONTINUOUS_LEVELS - 1) as f64;
        let levels = (0..CONTINUOUS_LEVELS).map(|i| (low + step * i as f64).exp()).collect();
        let time = match time {
            ContinuousTime::Edm => Time::Logarithm,
            ContinuousTime::Velocity => Time::Angle,
        };
        Ok(Self::from_levels(levels, time))
    }

    /// Stretches the levels so that the last one holds next to no data.
    ///
    /// # Source
    /// Lin et al. 2023, algorithm 1; the last level stays finite, with the figure ComfyUI takes.
    pub fn zero_terminal_snr(&self) -> Self {
        const LAST_ALPHA_BAR: f64 = 4.897_345_189_085_343_5e-8;
        let roots: Vec<f64> = self.levels.iter().map(|s| (1.0 / (s * s + 1.0)).sqrt()).collect();
        let (first, last) = (roots[0], roots[roots.len() - 1]);
        let stretch = first / (first - last);
        let count = roots.len();
        let level = |(i, root): (usize, f64)| {
            let alpha_bar = if i + 1 == count { LAST_ALPHA_BAR } else { ((root - last) * stretch).powi(2) };
            ((1.0 - alpha_bar) / alpha_bar).sqrt()
        };
        Self::from_levels(roots.into_iter().enumerate().map(level).collect(), self.time)
    }

    /// Keeps every n-th level from the top, as few as a consistency model was distilled to.
    ///
    /// # Source
    /// Luo et al. 2023 (LCM), the skipping-step schedule; same values as ComfyUI's `lcm` model sampling.
    pub fn distilled(&self) -> Self {
        let stride = (self.levels.len() / DISTILLED_STEPS).max(1);
        let mut levels: Vec<f64> =
            self.levels.iter().rev().step_by(stride).take(DISTILLED_STEPS).copied().collect();
        levels.reverse();
        Self::from_levels(levels, Time::Index { stride })
    }

    fn from_levels(levels: Vec<f64>, time: Time) -> Self {
        Self {
            sigmas: levels.iter().map(|s| *s as f32).collect(),
            log_sigmas: levels.iter().map(|s| s.ln() as f32).collect(),
            levels,
            time,
        }
    }

    /// Returns all levels, rising.
    pub fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }

    pub fn sigma_min(&self) -> f32 {
        self.sigmas[0]
    }

    pub fn sigma_max(&self) -> f32 {
        self.sigmas[self.sigmas.len() - 1]
    }

    /// Returns the time that the network is told for a level: where levels are listed, the index of the one that is
    /// nearest on the logarithmic scale.
    pub fn timestep(&self, sigma: f64) -> f32 {
        let sigma = sigma as f32;
        match self.time {
            Time::Index { stride } => (self.nearest(sigma) * stride + stride - 1) as f32,
            Time::Logarithm => 0.25 * sigma.ln(),
            Time::Angle => sigma.atan() / std::f32::consts::FRAC_PI_2,
        }
    }

    fn nearest(&self, sigma: f32) -> usize {
        let log_sigma = sigma.ln();
        let distance = |level: &f32| (log_sigma - level).abs();
        let mut nearest = 0;
        for (index, level) in self.log_sigmas.iter().enumerate() {
            if distance(level) < distance(&self.log_sigmas[nearest]) {
                nearest = index;
            }
        }
        nearest
    }

    /// Returns the level at a time; between two listed ones by their logarithms.
    pub fn sigma(&self, timestep: f32) -> f32 {
        let stride = match self.time {
            Time::Index { stride } => stride as f32,
            Time::Logarithm => return (timestep / 0.25).exp(),
            Time::Angle => return (timestep * std::f32::consts::FRAC_PI_2).tan(),
        };
        let last = self.log_sigmas.len() - 1;
        let place = ((timestep - (stride - 1.0)) / stride).clamp(0.0, last as f32);
        let weight = place.fract();
        let low = self.log_sigmas[place.floor() as usize];
        let high = self.log_sigmas[place.ceil() as usize];
        ((1.0 - weight) * low + weight * high).exp()
    }

    /// Returns the level at which `percent` (0..=1) of the run is done, for the start and end of a conditioning.
    pub fn percent_to_sigma(&self, percent: f64) -> f64 {
        if percent <= 0.0 {
            // Above every level: "from the start".
            return 999_999_999.9;
        }
        if percent >= 1.0 {
            return 0.0;
        }
        let left = 1.0 - percent;
        match self.time {
            Time::Index { stride } => {
                let last = (self.levels.len() * stride - 1) as f64;
                f64::from(self.sigma((left * last) as f32))
            }
            Time::Logarithm | Time::Angle => {
                let (low, high) = (self.levels[0].ln(), self.levels[self.levels.len() - 1].ln());
                ((high - low) * left + low).exp()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    #[test]
    fn levels_and_conversions_match() {
        let golden = fixtures::json("sigmas.json");
        let schedule = NoiseSchedule::sd15();
        for (got, expected) in schedule.sigmas().iter().zip(fixtures::floats(&golden["table_1000"])) {
            assert!((f64::from(*got) - expected).abs() <= 1e-6 * expected, "{got} {expected}");
        }
        let pairs = &golden["timestep_of_sigma"];
        for (sigma, timestep) in fixtures::floats(&pairs[0]).into_iter().zip(fixtures::floats(&pairs[1])) {
            assert_eq!(f64::from(schedule.timestep(sigma)), timestep, "sigma {sigma}");
        }
        let pairs = &golden["sigma_of_timestep"];
        for (timestep, sigma) in fixtures::floats(&pairs[0]).into_iter().zip(fixtures::floats(&pairs[1])) {
            let got = f64::from(schedule.sigma(timestep as f32));
            assert!((got - sigma).abs() <= 1e-6 * sigma, "timestep {timestep}: {got} {sigma}");
        }
        for (percent, sigma) in golden["percent_to_sigma"].as_object().unwrap() {
            let got = schedule.percent_to_sigma(percent.parse().unwrap());
            let sigma = sigma.as_f64().unwrap();
            assert!((got - sigma).abs() <= 1e-6 * sigma, "percent {percent}: {got} {sigma}");
        }
        // Every level finds its own index.
        for (index, level) in schedule.sigmas().iter().enumerate() {
            assert_eq!(schedule.timestep(f64::from(*level)), index as f32);
        }
    }

    #[test]
    fn rejects_falling_levels() {
        assert!(NoiseSchedule::from_sigmas(vec![1.0, 0.5]).is_err());
        assert!(NoiseSchedule::from_sigmas(vec![1.0]).is_err());
    }

    #[test]
    fn distilled_levels_keep_their_times() {
        let schedule = NoiseSchedule::sd15();
        let distilled = schedule.distilled();
        assert_eq!(distilled.sigmas().len(), 50);
        for (index, level) in distilled.sigmas().iter().enumerate() {
            let timestep = distilled.timestep(f64::from(*level));
            assert_eq!(timestep, (index * 20 + 19) as f32);
            assert_eq!(*level, schedule.sigmas()[index * 20 + 19]);
            assert!((distilled.sigma(timestep) / level - 1.0).abs() < 1e-6);
        }
        assert_eq!(distilled.percent_to_sigma(0.5), f64::from(distilled.sigma(499.5)));
    }

    #[test]
    fn continuous_times_come_back() {
        for time in [ContinuousTime::Edm, ContinuousTime::Velocity] {
            let schedule = NoiseSchedule::continuous(0.002, 120.0, time).unwrap();
            assert!(
                (schedule.sigma_max() - 120.0).abs() < 1e-3 && (schedule.sigma_min() - 0.002).abs() < 1e-8
            );
            for sigma in [0.01f32, 1.0, 100.0] {
                let got = schedule.sigma(schedule.timestep(f64::from(sigma)));
                assert!((got / sigma - 1.0).abs() < 1e-4, "{time:?} {sigma} {got}");
            }
            let middle = schedule.percent_to_sigma(0.5);
            assert!((middle - (0.002f64 * 120.0).sqrt()).abs() < 1e-9, "{middle}");
        }
        assert!(NoiseSchedule::continuous(1.0, 0.5, ContinuousTime::Edm).is_err());
        assert!(NoiseSchedule::continuous(0.0, 0.5, ContinuousTime::Edm).is_err());
    }
}
