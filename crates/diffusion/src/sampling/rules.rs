//! How the estimates of several prompts become one.

use candle_core::Tensor;

use super::error::Result;

/// How the estimates of the sides are joined.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum GuidanceRule {
    /// Two sides: positive and negative.
    Single { cfg: f64 },
    /// Three sides: a first and a second positive one, and a negative one.
    Dual { cfg_conds: f64, cfg_cond2_negative: f64, style: DualStyle },
    /// Three sides: positive, negative, and an empty one that both are measured against.
    Perpendicular { cfg: f64, neg_scale: f64 },
}

/// What the strength of the first side is measured against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DualStyle {
    /// Each guidance on its own, added.
    Regular,
    /// The guided pair of positive sides against the negative one.
    Nested,
}

/// Goes from one estimate towards another, past it if `strength` is above 1.
pub(super) fn toward(from: &Tensor, to: &Tensor, strength: f64) -> Result<Tensor> {
    Ok((from + (to - from)?.affine(strength, 0.0)?)?)
}

/// Guides in terms of the velocity and brings a share of it back to the positive side's deviation.
///
/// # Source
/// Lin et al. 2023 ("Common Diffusion Noise Schedules and Sample Steps are Flawed"), eq. 14 to 16; same values as
/// ComfyUI `RescaleCFG`.
pub(super) fn rescaled(
    x: &Tensor,
    sigma: f64,
    cond: &Tensor,
    uncond: &Tensor,
    cfg: f64,
    share: f64,
) -> Result<Tensor> {
    let variance = sigma * sigma + 1.0;
    let level = sigma / variance.sqrt();
    let scaled = x.affine(1.0 / variance, 0.0)?;
    let velocity =
        |estimate: &Tensor| -> Result<Tensor> { Ok((&scaled - estimate)?.affine(1.0 / level, 0.0)?) };
    let positive = velocity(cond)?;
    let guided = toward(&velocity(uncond)?, &positive, cfg)?;
    let deviation = |v: &Tensor| -> Result<Tensor> {
        Ok(v.flatten_from(1)?.var_keepdim(1)?.sqrt()?.reshape(((), 1, 1, 1))?)
    };
    let back = guided.broadcast_mul(&(deviation(&positive)? / deviation(&guided)?)?)?;
    let mixed = (back.affine(share, 0.0)? + guided.affine(1.0 - share, 0.0)?)?;
    Ok((scaled - mixed.affine(level, 0.0)?)?)
}

pub(super) fn is_one(cfg: f64) -> bool {
    (cfg - 1.0).abs() <= 1e-9
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::fixtures;
    use super::*;

    #[test]
    fn rescaling_keeps_the_deviation_of_the_positive_side() {
        let cond = Tensor::new(&[1f32, -1.0, 2.0, 0.5], &Device::Cpu).unwrap().reshape((1, 1, 2, 2)).unwrap();
        let (uncond, x) = (cond.affine(0.5, 0.1).unwrap(), cond.affine(3.0, -0.2).unwrap());
        let sigma = 2.0;
        let at = |share| rescaled(&x, sigma, &cond, &uncond, 4.0, share).unwrap();
        let plain = toward(&uncond, &cond, 4.0).unwrap();
        assert!(fixtures::relative_diff(&at(0.0), &plain) < 1e-6);
        let velocity = |estimate: &Tensor| (x.affine(0.2, 0.0).unwrap() - estimate).unwrap();
        let deviation =
            |v: &Tensor| velocity(v).flatten_all().unwrap().var(0).unwrap().to_scalar::<f32>().unwrap();
        assert!((deviation(&at(1.0)) / deviation(&cond) - 1.0).abs() < 1e-5);
        assert!(deviation(&plain) > 2.0 * deviation(&cond));
    }
}
