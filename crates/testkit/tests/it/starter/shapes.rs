//! Outlines of the shapes that the starter knows, in a square from -1 to 1.

use std::f64::consts::PI;

/// Whether a point lies inside a shape of radius 1 around the origin; `y` grows downwards.
///
/// # Panics
/// On a shape that is not known here.
pub fn contains(shape: &str, x: f64, y: f64) -> bool {
    let disc = |cx: f64, cy: f64, r: f64| (x - cx).powi(2) + (y - cy).powi(2) <= r * r;
    match shape {
        "circle" => disc(0.0, 0.0, 0.95),
        "ring" => disc(0.0, 0.0, 1.0) && !disc(0.0, 0.0, 0.55),
        "moon" => disc(0.0, 0.0, 1.0) && !disc(0.5, -0.1, 0.82),
        "square" => x.abs() <= 0.84 && y.abs() <= 0.84,
        "diamond" => x.abs() / 0.72 + y.abs() / 1.05 <= 1.0,
        "cross" => x.abs().min(y.abs()) <= 0.33 && x.abs().max(y.abs()) <= 0.95,
        "triangle" => inside(&[(0.0, -0.95), (1.0, 0.8), (-1.0, 0.8)], x, y),
        "star" => inside(&star(), x, y),
        "heart" => inside(&heart(), x, y),
        other => panic!("unknown shape `{other}`"),
    }
}

fn star() -> Vec<(f64, f64)> {
    let corner = |i: u32| {
        let (radius, angle) =
            (if i.is_multiple_of(2) { 1.0 } else { 0.42 }, f64::from(i) * PI / 5.0 - PI / 2.0);
        (radius * angle.cos(), radius * angle.sin())
    };
    (0..10).map(corner).collect()
}

fn heart() -> Vec<(f64, f64)> {
    let point = |i: u32| {
        let t = f64::from(i) * PI / 24.0;
        let y = 13.0 * t.cos() - 5.0 * (2.0 * t).cos() - 2.0 * (3.0 * t).cos() - (4.0 * t).cos();
        (t.sin().powi(3), -y / 16.0 - 0.1)
    };
    (0..48).map(point).collect()
}

/// The even-odd rule.
fn inside(polygon: &[(f64, f64)], x: f64, y: f64) -> bool {
    let edges = polygon.iter().zip(polygon.iter().cycle().skip(1));
    let crossed = edges
        .filter(|((x0, y0), (x1, y1))| (*y0 > y) != (*y1 > y) && x < (x1 - x0) * (y - y0) / (y1 - y0) + x0);
    crossed.count() % 2 == 1
}
