//! Quantiles of the beta distribution.

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

/// Returns the value below which a share `probability` (0..=1) of a beta(alpha, beta) distribution lies.
///
/// # Source
/// Bisection of the regularised incomplete beta function; same values as `scipy.stats.beta.ppf` to 1e-9.
pub(super) fn skewed_beta_quantile(probability: f64, alpha: f64, beta: f64) -> f64 {
    if probability <= 0.0 {
        return 0.0;
    }
    if probability >= 1.0 {
        return 1.0;
    }
    let (mut low, mut high) = (0.0f64, 1.0f64);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if regularised(middle, alpha, beta) < probability {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// Returns the regularised incomplete beta function I_x(alpha, beta).
///
/// # Source
/// DLMF 8.17.22 (continued fraction) on the side of the mean where it converges fast, 8.17.4 on the other.
fn regularised(x: f64, alpha: f64, beta: f64) -> f64 {
    if x > (alpha + 1.0) / (alpha + beta + 2.0) {
        return 1.0 - regularised(1.0 - x, beta, alpha);
    }
    let log_front = alpha * x.ln() + beta * (-x).ln_1p() - log_beta(alpha, beta);
    log_front.exp() / alpha / continued_fraction(x, alpha, beta)
}

/// Evaluates 1 + d1/(1 + d2/(1 + ...)) from the front.
fn continued_fraction(x: f64, alpha: f64, beta: f64) -> f64 {
    const SMALLEST: f64 = 1e-300;
    let away = |v: f64| if v.abs() < SMALLEST { SMALLEST } else { v };
    let (mut value, mut numerator, mut denominator) = (1.0, 1.0, 0.0);
    for n in 1..1000 {
        let m = (n / 2) as f64;
        let term = if n % 2 == 0 {
            m * (beta - m) * x / ((alpha + 2.0 * m - 1.0) * (alpha + 2.0 * m))
        } else {
            -(alpha + m) * (alpha + beta + m) * x / ((alpha + 2.0 * m) * (alpha + 2.0 * m + 1.0))
        };
        denominator = 1.0 / away(1.0 + term * denominator);
        numerator = away(1.0 + term / numerator);
        let change = numerator * denominator;
        value *= change;
        if (change - 1.0).abs() < 1e-15 {
            break;
        }
    }
    value
}

fn log_beta(alpha: f64, beta: f64) -> f64 {
    log_gamma(alpha) + log_gamma(beta) - log_gamma(alpha + beta)
}

/// Returns the logarithm of the gamma function of a positive number.
///
/// # Source
/// DLMF 5.11.1 (Stirling's series), after 5.5.1 has moved the argument to where the series is exact.
fn log_gamma(x: f64) -> f64 {
    let (mut x, mut shift) = (x, 0.0);
    while x < 15.0 {
        shift += x.ln();
        x += 1.0;
    }
    let inverse = 1.0 / (x * x);
    let series = (1.0 / 12.0
        - inverse * (1.0 / 360.0 - inverse * (1.0 / 1260.0 - inverse * (1.0 / 1680.0 - inverse / 1188.0))))
        / x;
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skewed_quantiles_have_closed_forms() {
        for probability in [0.01, 0.25, 0.5, 0.9, 0.999] {
            // beta(a, 1) has the distribution x^a, beta(1, b) the distribution 1 - (1 - x)^b.
            for shape in [0.3, 2.0, 17.0] {
                let power = skewed_beta_quantile(probability, shape, 1.0);
                assert!(
                    (power - probability.powf(1.0 / shape)).abs() < 1e-11,
                    "{probability} {shape}: {power}"
                );
                let mirrored = skewed_beta_quantile(probability, 1.0, shape);
                let want = 1.0 - (1.0 - probability).powf(1.0 / shape);
                assert!((mirrored - want).abs() < 1e-11, "{probability} {shape}: {mirrored} {want}");
            }
            let same = skewed_beta_quantile(probability, 0.6, 0.6);
            assert!((same - beta_quantile(probability, 0.6)).abs() < 1e-11);
        }
        assert!((log_gamma(5.0) - 24f64.ln()).abs() < 1e-13);
        assert!((log_gamma(0.5) - 0.5 * std::f64::consts::PI.ln()).abs() < 1e-13);
    }

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
