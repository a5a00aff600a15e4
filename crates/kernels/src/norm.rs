//! Normalisation of maps by groups of channels, and of sequences by rows.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use pulp::Arch;
use rayon::prelude::*;

use crate::elementwise::silu;
use crate::maps::channels_last;
use crate::storage::{contiguous, pixels};

/// Pixels whose sums are taken in f32 before they join the others in f64.
const STRETCH: usize = 64;

/// Normalises `x` `[B, C, H, W]` over groups of channels; weight and bias are `[C]`.
pub struct FusedGroupNorm {
    pub groups: usize,
    pub eps: f64,
    /// Whether SiLU is applied to the result.
    pub silu: bool,
}

impl FusedGroupNorm {
    /// The result has its channels innermost in memory.
    pub fn forward(&self, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
        channels_last(&x.apply_op3_no_bwd(weight, bias, self)?)
    }

    /// Scale and shift of every channel of an image.
    fn factors(&self, arch: Arch, x: &[f32], [weight, bias]: [&[f32]; 2]) -> Vec<[f32; 2]> {
        let channels = weight.len();
        let count = (x.len() / self.groups) as f64;
        let per_group = channels / self.groups;
        let by_group = |sums: Vec<f64>| -> Vec<f64> {
            sums.chunks_exact(per_group).map(|sums| sums.iter().sum::<f64>() / count).collect()
        };
        let means = by_group(sums(arch, x, &vec![0.0; channels], false));
        let centres: Vec<f32> = (0..channels).map(|channel| means[channel / per_group] as f32).collect();
        let variances = by_group(sums(arch, x, &centres, true));
        let factor = |channel: usize| {
            let scale = (1.0 / (variances[channel / per_group] + self.eps).sqrt()) as f32 * weight[channel];
            [scale, bias[channel] - centres[channel] * scale]
        };
        (0..channels).map(factor).collect()
    }
}

/// Sums of every channel's distances from its centre, or of their squares.
///
/// Each part of the sum has a fixed size and joins the others in order, so that threads change nothing.
fn sums(arch: Arch, x: &[f32], centres: &[f32], squared: bool) -> Vec<f64> {
    let channels = centres.len();
    let parts: Vec<Vec<f64>> = x
        .par_chunks(16 * STRETCH * channels)
        .map(|part| {
            let mut total = vec![0f64; channels];
            let mut short = vec![0f32; channels];
            for stretch in part.chunks(STRETCH * channels) {
                short.fill(0.0);
                arch.dispatch(
                    #[inline(always)]
                    || {
                        for pixel in stretch.chunks_exact(channels) {
                            for ((sum, x), centre) in short.iter_mut().zip(pixel).zip(centres) {
                                let value = x - centre;
                                *sum += if squared { value * value } else { value };
                            }
                        }
                    },
                );
                total.iter_mut().zip(&short).for_each(|(total, sum)| *total += f64::from(*sum));
            }
            total
        })
        .collect();
    let mut total = vec![0f64; channels];
    for part in parts {
        total.iter_mut().zip(part).for_each(|(total, sum)| *total += sum);
    }
    total
}

impl CustomOp3 for FusedGroupNorm {
    fn name(&self) -> &'static str {
        "fused-group-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (batch, channels, height, width) = x_layout.shape().dims4()?;
        let affine = [contiguous(weight, weight_layout)?, contiguous(bias, bias_layout)?];
        let fits = affine.iter().all(|values| values.len() == channels);
        if !fits || self.groups == 0 || !channels.is_multiple_of(self.groups) {
            candle_core::bail!("cannot normalise {:?} in {} groups", x_layout.dims(), self.groups);
        }
        let x = pixels(x, x_layout)?;
        let mut y = vec![0f32; x.len()];
        let arch = Arch::new();
        let image = (channels * height * width).max(1);
        for (y, x) in y.chunks_exact_mut(image).zip(x.chunks_exact(image)) {
            let factors = self.factors(arch, x, affine);
            let (scales, shifts): (Vec<f32>, Vec<f32>) = factors.iter().map(|[a, b]| (*a, *b)).unzip();
            let chunks = y.par_chunks_mut(STRETCH * channels).zip(x.par_chunks(STRETCH * channels));
            chunks.for_each(|(y, x)| {
                arch.dispatch(
                    #[inline(always)]
                    || apply(y, x, [&scales, &shifts], self.silu),
                );
            });
        }
        Ok((CpuStorage::F32(y), (batch, height, width, channels).into()))
    }
}

#[inline(always)]
fn apply(y: &mut [f32], x: &[f32], [scales, shifts]: [&[f32]; 2], activated: bool) {
    let channels = scales.len();
    for (y, x) in y.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
        let values = y.iter_mut().zip(x).zip(scales.iter().zip(shifts));
        if activated {
            values.for_each(|((y, x), (scale, shift))| *y = silu(x * scale + shift));
        } else {
            values.for_each(|((y, x), (scale, shift))| *y = x * scale + shift);
        }
    }
}

/// Normalises the last dimension of `x`; weight and bias have its length.
pub struct FusedLayerNorm {
    pub eps: f64,
}

impl CustomOp3 for FusedLayerNorm {
    fn name(&self) -> &'static str {
        "fused-layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = contiguous(x, x_layout)?;
        let (weight, bias) = (contiguous(weight, weight_layout)?, contiguous(bias, bias_layout)?);
        let width = weight.len();
        if width == 0 || bias.len() != width || x_layout.dims().last() != Some(&width) {
            candle_core::bail!("cannot normalise {:?} by weights of {width}", x_layout.dims());
        }
        let mut y = vec![0f32; x.len()];
        let arch = Arch::new();
        y.par_chunks_mut(width).zip(x.par_chunks(width)).with_min_len(16).for_each(|(y, x)| {
            arch.dispatch(
                #[inline(always)]
                || self.row(y, x, weight, bias),
            );
        });
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }
}

impl FusedLayerNorm {
    #[inline(always)]
    fn row(&self, y: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32]) {
        let count = x.len() as f64;
        let mean = (sum(x, |value| value) / count) as f32;
        let variance = sum(x, |value| (value - mean) * (value - mean)) / count;
        let scale = (1.0 / (variance + self.eps).sqrt()) as f32;
        for ((y, x), (weight, bias)) in y.iter_mut().zip(x).zip(weight.iter().zip(bias)) {
            *y = (x - mean) * scale * weight + bias;
        }
    }
}

/// Sums in sixteen lanes over short stretches, and the stretches in f64, so that long rows lose no precision.
#[inline(always)]
fn sum(x: &[f32], term: impl Fn(f32) -> f32) -> f64 {
    const LANES: usize = 16;
    let mut total = 0f64;
    for stretch in x.chunks(4096) {
        let mut lanes = [0f32; LANES];
        let rows = stretch.chunks_exact(LANES);
        for value in rows.remainder() {
            total += f64::from(term(*value));
        }
        for row in rows {
            for (lane, value) in lanes.iter_mut().zip(row) {
                *lane += term(*value);
            }
        }
        total += lanes.iter().copied().map(f64::from).sum::<f64>();
    }
    total
}
