//! Measures of how far a tensor is from its reference.

use candle_core::{DType, Tensor};

/// Distances between two tensors of one shape.
#[derive(Debug)]
pub struct Distance {
    pub max_abs: f64,
    /// Largest difference over largest reference value.
    pub relative: f64,
    pub cosine: f64,
}

pub fn distance(found: &Tensor, expected: &Tensor) -> Distance {
    assert_eq!(found.dims(), expected.dims());
    let flat = |x: &Tensor| x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let (found, expected) = (flat(found), flat(expected));
    let pairs = || found.iter().zip(&expected);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let max_abs = pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let largest = expected.iter().map(|value| value.abs()).fold(0.0, f64::max);
    let norms = (dot(&found, &found) * dot(&expected, &expected)).sqrt();
    Distance { max_abs, relative: max_abs / largest, cosine: dot(&found, &expected) / norms }
}

/// Fails unless the tensors agree to `relative` of the largest value; prints the distances either way.
pub fn assert_close(what: &str, found: &Tensor, expected: &Tensor, relative: f64) {
    let d = distance(found, expected);
    let figures = format!("max abs {:.2e}, relative {:.2e}, cosine {:.9}", d.max_abs, d.relative, d.cosine);
    println!("{what}: {figures}");
    assert!(d.cosine >= 0.999_999, "{what}: {figures}");
    assert!(d.relative <= relative, "{what}: {figures}");
}
