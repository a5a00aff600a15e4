//! Resizing of latents.

use candle_core::{DType, Tensor};

use super::error::{Result, SamplingError};

/// How values between latent pixels are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResizeMethod {
    NearestExact,
    Bilinear,
    Area,
    Bicubic,
    /// Turns the vector of channels instead of mixing it.
    Bislerp,
}

impl ResizeMethod {
    pub const ALL: [Self; 5] = [Self::NearestExact, Self::Bilinear, Self::Area, Self::Bicubic, Self::Bislerp];

    pub fn name(self) -> &'static str {
        match self {
            Self::NearestExact => "nearest-exact",
            Self::Bilinear => "bilinear",
            Self::Area => "area",
            Self::Bicubic => "bicubic",
            Self::Bislerp => "bislerp",
        }
    }
}

impl std::str::FromStr for ResizeMethod {
    type Err = SamplingError;

    fn from_str(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|method| method.name() == name)
            .ok_or_else(|| SamplingError::unknown("upscale method", name, Self::ALL.iter().map(|m| m.name())))
    }
}

/// What is done when the new size has another aspect ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crop {
    Disabled,
    /// Cuts the sides that stick out, evenly.
    Center,
}

impl std::str::FromStr for Crop {
    type Err = SamplingError;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "disabled" => Ok(Self::Disabled),
            "center" => Ok(Self::Center),
            _ => Err(SamplingError::unknown("crop", name, ["disabled", "center"].into_iter())),
        }
    }
}

/// Resizes a latent to `height` by `width` latent pixels.
///
/// # Shapes
/// `[B,C,h,w]` to `[B,C,height,width]`.
///
/// # Errors
/// Fails on another shape or an empty size.
///
/// # Source
/// Same values as ComfyUI `LatentUpscale`.
pub fn resize_latent(
    latent: &Tensor,
    method: ResizeMethod,
    height: usize,
    width: usize,
    crop: Crop,
) -> Result<Tensor> {
    let latent = match crop {
        Crop::Disabled => latent.clone(),
        Crop::Center => crop_center(latent, height, width)?,
    };
    resize_planes(&latent, method, height, width)
}

fn crop_center(latent: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (_, _, old_height, old_width) = latent.dims4()?;
    let (old_aspect, aspect) = (old_width as f64 / old_height as f64, width as f64 / height as f64);
    let excess =
        |size: usize, kept: f64| ((size as f64 - size as f64 * kept) / 2.0).round_ties_even() as usize;
    let (mut left, mut top) = (0, 0);
    if old_aspect > aspect {
        left = excess(old_width, aspect / old_aspect);
    } else if old_aspect < aspect {
        top = excess(old_height, old_aspect / aspect);
    }
    let rows = latent.narrow(2, top, old_height.saturating_sub(2 * top))?;
    Ok(rows.narrow(3, left, old_width.saturating_sub(2 * left))?)
}

/// Resizes without a crop.
pub(super) fn resize_planes(
    latent: &Tensor,
    method: ResizeMethod,
    height: usize,
    width: usize,
) -> Result<Tensor> {
    let (batch, channels, old_height, old_width) = latent.dims4()?;
    if [height, width, batch, channels, old_height, old_width].contains(&0) {
        let reason = format!("cannot resize {:?} to {height} by {width}", latent.dims());
        return Err(SamplingError::invalid("latent", reason));
    }
    let values: Vec<f32> = latent.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
    let resized = if method == ResizeMethod::Bislerp {
        let turn = |values: &[f32], blocks, old, new, inner| {
            turn_axis(values, &Axis { blocks, channels, old, new, inner })
        };
        let wide = turn(&values, batch, old_width, width, old_height);
        turn(&transpose_planes(&wide, old_height, width), batch, old_height, height, width)
    } else {
        let wide = mix_axis(&values, &taps(method, old_width, width), old_width, 1);
        mix_axis(&wide, &taps(method, old_height, height), old_height, width)
    };
    let resized =
        if method == ResizeMethod::Bislerp { transpose_planes(&resized, width, height) } else { resized };
    Ok(Tensor::from_vec(resized, (batch, channels, height, width), latent.device())?)
}

/// The old pixels a new one is mixed from, with their weights.
type Taps = Vec<(usize, f32)>;

fn taps(method: ResizeMethod, old: usize, new: usize) -> Vec<Taps> {
    let scale = old as f32 / new as f32;
    (0..new)
        .map(|i| match method {
            ResizeMethod::NearestExact => vec![((((i as f32 + 0.5) * scale) as usize).min(old - 1), 1.0)],
            ResizeMethod::Area => area_taps(i, old, new),
            ResizeMethod::Bicubic => bicubic_taps((i as f32 + 0.5) * scale - 0.5, old),
            ResizeMethod::Bilinear | ResizeMethod::Bislerp => bilinear_taps(i, scale, old),
        })
        .collect()
}

fn bilinear_taps(i: usize, scale: f32, old: usize) -> Taps {
    let place = ((i as f32 + 0.5) * scale - 0.5).max(0.0);
    let low = (place as usize).min(old - 1);
    let weight = place - low as f32;
    vec![(low, 1.0 - weight), ((low + 1).min(old - 1), weight)]
}

/// Returns the four pixels around a place with the weights of a cubic convolution.
///
/// # Source
/// Keys 1981, with the sharpness -0.75 of torch.
fn bicubic_taps(place: f32, old: usize) -> Taps {
    const A: f32 = -0.75;
    let near = |d: f32| ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0;
    let far = |d: f32| ((A * d - 5.0 * A) * d + 8.0 * A) * d - 4.0 * A;
    let low = place.floor();
    let share = place - low;
    let weights = [far(share + 1.0), near(share), near(1.0 - share), far(2.0 - share)];
    let index = |offset: usize| (low as i64 + offset as i64 - 1).clamp(0, old as i64 - 1) as usize;
    weights.into_iter().enumerate().map(|(offset, weight)| (index(offset), weight)).collect()
}

fn area_taps(i: usize, old: usize, new: usize) -> Taps {
    let (start, end) = (i * old / new, ((i + 1) * old).div_ceil(new));
    (start..end).map(|index| (index, 1.0 / (end - start) as f32)).collect()
}

/// Mixes along an axis of length `old` whose neighbours are `inner` values apart.
fn mix_axis(values: &[f32], taps: &[Taps], old: usize, inner: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len() / old * taps.len());
    for block in values.chunks_exact(old * inner) {
        for taps in taps {
            for k in 0..inner {
                out.push(taps.iter().map(|(index, weight)| block[index * inner + k] * weight).sum());
            }
        }
    }
    out
}

/// Swaps the two last axes of planes of `rows` by `columns`.
fn transpose_planes(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for plane in values.chunks_exact(rows * columns) {
        for column in 0..columns {
            out.extend((0..rows).map(|row| plane[row * columns + column]));
        }
    }
    out
}

/// The last axis of `[blocks, channels, inner, old]`, to be resized to `new`.
struct Axis {
    blocks: usize,
    channels: usize,
    inner: usize,
    old: usize,
    new: usize,
}

/// Resizes the last axis by turning vectors of channels into each other.
fn turn_axis(values: &[f32], axis: &Axis) -> Vec<f32> {
    let plane = axis.inner * axis.old;
    let new_plane = axis.inner * axis.new;
    let taps = taps(ResizeMethod::Bilinear, axis.old, axis.new);
    let mut out = vec![0f32; axis.blocks * axis.channels * new_plane];
    for block in 0..axis.blocks {
        let source = &values[block * axis.channels * plane..];
        let vector = |row: usize, i: usize| -> Vec<f32> {
            (0..axis.channels).map(|c| source[c * plane + row * axis.old + i]).collect()
        };
        for row in 0..axis.inner {
            for (i, taps) in taps.iter().enumerate() {
                let turned = slerp(&vector(row, taps[0].0), &vector(row, taps[1].0), taps[1].1);
                for (channel, value) in turned.into_iter().enumerate() {
                    out[(block * axis.channels + channel) * new_plane + row * axis.new + i] = value;
                }
            }
        }
    }
    out
}

/// Turns one vector into another by a share of their angle, mixing their lengths.
///
/// # Source
/// Shoemake 1985; vectors that are nearly parallel keep the first, nearly opposite ones are mixed.
fn slerp(from: &[f32], to: &[f32], share: f32) -> Vec<f32> {
    const PARALLEL: f32 = 1e-5;
    let length = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>().sqrt();
    let (from_length, to_length) = (length(from), length(to));
    let unit = |v: f32, length: f32| if length == 0.0 { 0.0 } else { v / length };
    let dot: f32 = from.iter().zip(to).map(|(a, b)| unit(*a, from_length) * unit(*b, to_length)).sum();
    if dot > 1.0 - PARALLEL {
        return from.to_vec();
    }
    if dot < PARALLEL - 1.0 {
        return from.iter().zip(to).map(|(a, b)| a * (1.0 - share) + b * share).collect();
    }
    let angle = dot.acos();
    let (before, after) = (((1.0 - share) * angle).sin() / angle.sin(), (share * angle).sin() / angle.sin());
    let scale = from_length * (1.0 - share) + to_length * share;
    from.iter()
        .zip(to)
        .map(|(a, b)| (before * unit(*a, from_length) + after * unit(*b, to_length)) * scale)
        .collect()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::fixtures;
    use super::*;

    /// The latent the goldens were made from: a fixed pattern of bytes, spread over -2..=2.
    fn pattern(height: usize, width: usize) -> Tensor {
        let value = |c: usize, y: usize, x: usize| {
            let byte = (y * 131 + x * 17 + c * 57 + ((x * y) % 23) * 11) % 256;
            byte as f32 / 255.0 * 4.0 - 2.0
        };
        let values: Vec<f32> = (0..4)
            .flat_map(|c| (0..height).flat_map(move |y| (0..width).map(move |x| value(c, y, x))))
            .collect();
        Tensor::from_vec(values, (1, 4, height, width), &Device::Cpu).unwrap()
    }

    #[test]
    fn every_method_matches() {
        let goldens = fixtures::tensors("latent_upscale.safetensors");
        let mut worst = 0f32;
        for (name, expected) in &goldens {
            let parts: Vec<&str> = name.split('#').next().unwrap().split('|').collect();
            let method: ResizeMethod = parts[1].parse().unwrap();
            let (height, width) = if parts.get(2) == Some(&"down") { (12, 16) } else { (6, 8) };
            let crop = parts.get(2).and_then(|c| c.parse().ok()).unwrap_or(Crop::Disabled);
            let (_, _, new_height, new_width) = expected.dims4().unwrap();
            let got = resize_latent(&pattern(height, width), method, new_height, new_width, crop).unwrap();
            let difference = fixtures::relative_diff(&got, expected);
            assert!(difference <= 1e-5, "{name}: {difference:e}");
            worst = worst.max(difference);
        }
        assert_eq!(goldens.len(), 20);
        println!("worst difference {worst:e}");
    }

    #[test]
    fn bad_input_is_named() {
        assert!("lanczos".parse::<ResizeMethod>().unwrap_err().to_string().contains("`bislerp`"));
        assert!("left".parse::<Crop>().unwrap_err().to_string().contains("`center`"));
        assert!(resize_latent(&pattern(2, 2), ResizeMethod::Area, 0, 4, Crop::Disabled).is_err());
    }

    #[test]
    fn center_crop_cuts_the_longer_side() {
        let resized = resize_latent(&pattern(4, 8), ResizeMethod::NearestExact, 4, 4, Crop::Center).unwrap();
        let cut = pattern(4, 8).narrow(3, 2, 4).unwrap();
        assert_eq!(fixtures::relative_diff(&resized, &cut), 0.0);
    }
}
