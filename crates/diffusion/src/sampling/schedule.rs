//! The noise levels a model was trained on.

use super::error::{Result, SamplingError};

/// Training steps of every model this crate samples.
pub const TRAIN_STEPS: usize = 1000;

/// Maps between noise levels (sigma) and the model's time index.
///
/// Levels are f32, as the reference keeps them: which level is nearest to a sigma depends on it.
#[derive(Debug, Clone)]
pub struct NoiseSchedule {
    levels: Vec<f64>,
    sigmas: Vec<f32>,
    log_sigmas: Vec<f32>,
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
        Self::from_levels(levels.collect())
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
        Ok(Self::from_levels(levels))
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
        Self::from_levels(roots.into_iter().enumerate().map(level).collect())
    }

    fn from_levels(levels: Vec<f64>) -> Self {
        Self {
            sigmas: levels.iter().map(|s| *s as f32).collect(),
            log_sigmas: levels.iter().map(|s| s.ln() as f32).collect(),
            levels,
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

    /// Returns the time index whose level is nearest to `sigma` on the logarithmic scale.
    pub fn timestep(&self, sigma: f64) -> usize {
        let log_sigma = (sigma as f32).ln();
        let distance = |level: &f32| (log_sigma - level).abs();
        let mut nearest = 0;
        for (index, level) in self.log_sigmas.iter().enumerate() {
            if distance(level) < distance(&self.log_sigmas[nearest]) {
                nearest = index;
            }
        }
        nearest
    }

    /// Returns the level at a time index, between two indices by their logarithms.
    pub fn sigma(&self, timestep: f32) -> f32 {
        let last = self.log_sigmas.len() - 1;
        let timestep = timestep.clamp(0.0, last as f32);
        let weight = timestep.fract();
        let low = self.log_sigmas[timestep.floor() as usize];
        let high = self.log_sigmas[timestep.ceil() as usize];
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
        let last = (self.sigmas.len() - 1) as f64;
        f64::from(self.sigma(((1.0 - percent) * last) as f32))
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
            assert_eq!(schedule.timestep(sigma) as f64, timestep, "sigma {sigma}");
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
            assert_eq!(schedule.timestep(f64::from(*level)), index);
        }
    }

    #[test]
    fn rejects_falling_levels() {
        assert!(NoiseSchedule::from_sigmas(vec![1.0, 0.5]).is_err());
        assert!(NoiseSchedule::from_sigmas(vec![1.0]).is_err());
    }
}
