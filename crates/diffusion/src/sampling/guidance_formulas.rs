//! Formulas that change two estimates before they are joined, or what they were joined to.

use std::f64::consts::TAU;

use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use super::error::Result;
use super::latent_operations::LatentOperation;

/// Something that is done to the estimates of both sides before they are joined.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum BeforeGuidance {
    /// Weighs the part of the guidance along the positive estimate apart, limits its length and lets it swing on.
    ///
    /// # Source
    /// Sadat et al. 2024 (adaptive projected guidance), algorithm 1; same values as ComfyUI `APG`.
    Projected { eta: f64, norm_threshold: f64, momentum: f64 },
    /// Keeps of the negative side what lies in the direction that both sides share.
    ///
    /// # Source
    /// Kwon et al. 2025 (tangential damping), algorithm 1; same values as ComfyUI `TCFG`.
    Tangential,
    /// Weighs slow and fast waves of the guidance apart.
    ///
    /// # Source
    /// Huang et al. 2025 (FreSca), eq. 6; same values as ComfyUI `FreSca`.
    Frequencies { low: f64, high: f64, cutoff: usize },
    /// Does to the guidance what can be done to a latent; to the positive estimate where it is alone.
    ///
    /// # Source
    /// Same values as ComfyUI `LatentApplyOperationCFG`.
    Operation(LatentOperation),
}

/// What one formula keeps from call to call.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    average: Option<Tensor>,
    sigma: f64,
}

impl BeforeGuidance {
    /// Returns the estimates of the positive and of the negative side.
    pub(super) fn apply(
        &self,
        memory: &mut Memory,
        x: &Tensor,
        sigma: f64,
        [cond, uncond]: [&Tensor; 2],
        cfg: f64,
    ) -> Result<[Tensor; 2]> {
        let guidance = (cond - uncond)?;
        match *self {
            Self::Projected { eta, norm_threshold, momentum } => {
                let mut strong = memory.swing(&guidance, sigma, momentum)?;
                if norm_threshold > 0.0 {
                    let limit = (length(&strong)?.recip()? * norm_threshold)?.minimum(1.0)?;
                    strong = strong.broadcast_mul(&limit)?;
                }
                let along = project(&strong, cond)?;
                let changed = (uncond + (strong - &along)? + (along * eta)?)?;
                Ok([(changed + (guidance / cfg)?)?, uncond.clone()])
            }
            Self::Tangential => {
                let (positive, negative) = ((x - cond)?, (x - uncond)?);
                Ok([cond.clone(), (x - shared_direction(&negative, &positive)?)?])
            }
            Self::Frequencies { low, high, cutoff } => {
                let slow = slow_waves(&guidance, cutoff)?;
                Ok([(uncond + ((guidance * high)? + (slow * (low - high))?)?)?, uncond.clone()])
            }
            Self::Operation(operation) => Ok([(uncond + operation.apply(&guidance)?)?, uncond.clone()]),
        }
    }

    /// Returns the estimate of the positive side where only that one counts.
    pub(super) fn apply_alone(&self, cond: Tensor) -> Result<Tensor> {
        match self {
            Self::Operation(operation) => operation.apply(&cond),
            Self::Projected { .. } | Self::Tangential | Self::Frequencies { .. } => Ok(cond),
        }
    }
}

impl Memory {
    /// Adds a share of what came before; a level above the last one starts anew.
    fn swing(&mut self, guidance: &Tensor, sigma: f64, momentum: f64) -> Result<Tensor> {
        if sigma > self.sigma {
            self.average = None;
        }
        self.sigma = sigma;
        if momentum == 0.0 {
            return Ok(guidance.clone());
        }
        let average = match self.average.take().filter(|average| average.dims() == guidance.dims()) {
            None => guidance.clone(),
            Some(average) => ((average * momentum)? + guidance)?,
        };
        self.average = Some(average.clone());
        Ok(average)
    }
}

/// The length of every sample, `[B,1,1,1]`.
fn length(x: &Tensor) -> Result<Tensor> {
    Ok(x.sqr()?.sum_keepdim((1, 2, 3))?.sqrt()?)
}

/// The part of `x` that lies along `direction`, sample by sample.
fn project(x: &Tensor, direction: &Tensor) -> Result<Tensor> {
    let unit = direction.broadcast_div(&length(direction)?.maximum(1e-12)?)?;
    Ok(unit.broadcast_mul(&(x * &unit)?.sum_keepdim((1, 2, 3))?)?)
}

/// Projects `x` onto the direction that it and `other` share most: the first right singular vector of both.
fn shared_direction(x: &Tensor, other: &Tensor) -> Result<Tensor> {
    let dot = |a: &Tensor, b: &Tensor| -> Result<Vec<f64>> {
        let (a, b) = (a.to_dtype(DType::F64)?.flatten_from(1)?, b.to_dtype(DType::F64)?.flatten_from(1)?);
        Ok((a * b)?.sum(1)?.to_vec1()?)
    };
    let (own, mixed, others) = (dot(x, x)?, dot(x, other)?, dot(other, other)?);
    let mut samples = Vec::with_capacity(own.len());
    for (i, ((a, b), d)) in own.into_iter().zip(mixed).zip(others).enumerate() {
        // The larger eigenvalue of [[a, b], [b, d]] and its vector, scaled so that the direction has length 1.
        let largest = (a + d) / 2.0 + ((a - d).powi(2) / 4.0 + b * b).sqrt();
        let (first, second) = match b == 0.0 {
            true if a >= d => (1.0, 0.0),
            true => (0.0, 1.0),
            false => (b, largest - a),
        };
        let norm = (first * first + second * second).sqrt() * largest.sqrt();
        let (first, second) = if norm > 0.0 { (first / norm, second / norm) } else { (0.0, 0.0) };
        let along = a * first + b * second;
        samples.push(((x.get(i)? * (first * along))? + (other.get(i)? * (second * along))?)?);
    }
    Ok(Tensor::stack(&samples, 0)?)
}

/// Keeps the waves of the middle of a shifted Fourier transform: `cutoff` frequencies to either side.
fn slow_waves(x: &Tensor, cutoff: usize) -> Result<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    let filter = |side: usize| -> Result<[Tensor; 2]> {
        let kept = kept_frequencies(side, cutoff);
        let sum = |wave: fn(f64) -> f64| -> Vec<f32> {
            let at = |distance: f64| kept.iter().map(|k| wave(TAU * k * distance / side as f64)).sum::<f64>();
            let pairs = (0..side).flat_map(|to| (0..side).map(move |from| to as f64 - from as f64));
            pairs.map(|distance| (at(distance) / side as f64) as f32).collect()
        };
        let matrix = |values| Tensor::from_vec(values, (side, side), x.device());
        Ok([matrix(sum(f64::cos))?, matrix(sum(f64::sin))?])
    };
    let [row_cos, row_sin] = filter(height)?;
    let [column_cos, column_sin] = filter(width)?;
    let x = x.to_dtype(DType::F32)?.contiguous()?;
    let both = |rows: &Tensor, columns: &Tensor| -> Result<Tensor> {
        Ok(rows.broadcast_matmul(&x.broadcast_matmul(&columns.t()?.contiguous()?)?)?)
    };
    Ok((both(&row_cos, &column_cos)? - both(&row_sin, &column_sin)?)?)
}

/// The frequencies of the middle of a shifted spectrum.
///
/// A range that begins before the first place is counted from the end, as slices of PyTorch are.
fn kept_frequencies(side: usize, cutoff: usize) -> Vec<f64> {
    let middle = (side / 2) as i64;
    let (side, cutoff) = (side as i64, i64::try_from(cutoff).unwrap_or(i64::MAX / 2));
    let wrap = |at: i64| if at < 0 { (at + side).max(0) } else { at.min(side) };
    (wrap(middle - cutoff)..wrap(middle + cutoff)).map(|at| (at - middle) as f64).collect()
}

/// Moves an estimate along with the positive side by as much as it already points there.
///
/// # Source
/// Same values as ComfyUI `Mahiro`.
pub(super) fn towards_direction(guided: &Tensor, cond: &Tensor, uncond: &Tensor, cfg: f64) -> Result<Tensor> {
    let root = |x: &Tensor| -> Result<Tensor> { Ok((x.abs()?.sqrt()? * x.sign()?)?) };
    let leap = (cond * cfg)?;
    let (away, merged) = (root(&(uncond * cfg)?)?, root(&((&leap + guided)? / 2.0)?)?);
    let norms =
        (away.sqr()?.sum(1)?.sqrt()?.maximum(1e-8)? * merged.sqr()?.sum(1)?.sqrt()?.maximum(1e-8)?)?;
    let alike = ((away * merged)?.sum(1)? / norms)?.mean_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?;
    let share = (alike + 1.0) / 2.0;
    Ok(((guided * share)? + (leap * (1.0 - share))?)?)
}

/// Scales the negative side by how much of the positive one it explains.
///
/// # Source
/// Fan et al. 2025 (CFG-Zero*), eq. 9; same values as ComfyUI `CFGZeroStar`.
pub(super) fn optimised_scale(
    guided: &Tensor,
    x: &Tensor,
    cond: &Tensor,
    uncond: &Tensor,
    cfg: f64,
) -> Result<Tensor> {
    let (positive, negative) = ((x - cond)?, (x - uncond)?);
    let explained = (&positive * &negative)?.sum_keepdim((1, 2, 3))?;
    let share = (explained / (negative.sqr()?.sum_keepdim((1, 2, 3))? + 1e-8)?)?;
    let factor = ((share - 1.0)? * (1.0 - cfg))?;
    Ok((guided + uncond.broadcast_mul(&factor)?)?)
}

/// Joins a positive and a negative estimate around that of an empty prompt, leaving out of the negative one what the
/// positive one says too.
///
/// # Source
/// Armandpour et al. 2023 (Perp-Neg), eq. 6; same values as ComfyUI `PerpNegGuider`, which takes a batch as one.
pub(super) fn perpendicular(
    [positive, negative, empty]: [&Tensor; 3],
    cfg: f64,
    neg_scale: f64,
) -> Result<Tensor> {
    let (positive, negative) = ((positive - empty)?, (negative - empty)?);
    let sum = |x: Tensor| -> Result<f64> { Ok(x.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?) };
    let share = sum((&positive * &negative)?)? / sum(positive.sqr()?)?.max(f64::MIN_POSITIVE);
    let apart = (negative - (&positive * share)?)?;
    Ok((empty + ((positive - (apart * neg_scale)?)? * cfg)?)?)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    #[test]
    fn formulas_match_their_definitions() {
        let goldens = fixtures::tensors("guidance_formulas.safetensors");
        let given = |name: &str| &goldens[name];
        let (x, cond, uncond, empty) = (given("x"), given("cond"), given("uncond"), given("empty"));
        let (cfg, guided) = (5.0, (uncond + ((cond - uncond).unwrap() * 5.0).unwrap()).unwrap());
        let joined = |formula: BeforeGuidance, memory: &mut Memory, sigma: f64| {
            let [cond, uncond] = formula.apply(memory, x, sigma, [cond, uncond], cfg).unwrap();
            (&uncond + ((cond - &uncond).unwrap() * cfg).unwrap()).unwrap()
        };
        let projected = BeforeGuidance::Projected { eta: 0.5, norm_threshold: 5.0, momentum: -0.75 };
        let mut memory = Memory::default();
        let first = joined(projected, &mut memory, 3.0);
        let second = joined(projected, &mut memory, 2.0);
        let again = joined(projected, &mut memory, 3.0);
        let fresh = |formula| joined(formula, &mut Memory::default(), 1.0);
        let waves = |cutoff| fresh(BeforeGuidance::Frequencies { low: 0.8, high: 1.3, cutoff });
        for (name, found) in [
            ("projected_first", first),
            ("projected_second", second),
            ("projected_first", again),
            ("tangential", fresh(BeforeGuidance::Tangential)),
            ("frequencies_2", waves(2)),
            ("frequencies_6", waves(6)),
            ("frequencies_20", waves(20)),
            ("direction", towards_direction(&guided, cond, uncond, cfg).unwrap()),
            ("zero_star", optimised_scale(&guided, x, cond, uncond, cfg).unwrap()),
            ("perpendicular", perpendicular([cond, uncond, empty], cfg, 0.7).unwrap()),
        ] {
            let difference = fixtures::relative_diff(&found, given(name));
            assert!(difference < 1e-5, "{name}: {difference:e}");
        }
    }

    #[test]
    fn operations_are_done_to_the_guidance() {
        let goldens = fixtures::tensors("guidance_formulas.safetensors");
        let expected = fixtures::tensors("latent_operations.safetensors");
        let [x, cond, uncond] = ["x", "cond", "uncond"].map(|name| &goldens[name]);
        for (name, operation) in [
            ("tonemap", LatentOperation::TonemapReinhard { multiplier: 0.7 }),
            ("sharpen", LatentOperation::Sharpen { radius: 3, sigma: 1.5, alpha: 0.2 }),
        ] {
            let formula = BeforeGuidance::Operation(operation);
            let [both, negative] =
                formula.apply(&mut Memory::default(), x, 1.0, [cond, uncond], 5.0).unwrap();
            let alone = formula.apply_alone(cond.clone()).unwrap();
            for (found, name) in [(both, name.to_owned()), (alone, format!("{name}_alone"))] {
                let difference = fixtures::relative_diff(&found, &expected[&name]);
                assert!(difference < 1e-5, "{name}: {difference:e}");
            }
            assert_eq!(fixtures::values(&negative), fixtures::values(uncond));
        }
        let wide = LatentOperation::Sharpen { radius: 31, sigma: 1.0, alpha: 0.1 };
        assert!(wide.apply(cond).unwrap_err().to_string().contains("border cannot be mirrored"));
    }
}
