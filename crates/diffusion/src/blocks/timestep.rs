//! The sinusoidal embedding of a timestep.

use candle_core::{Device, Tensor};

use crate::error::Result;

const LONGEST_PERIOD: f64 = 10_000.0;

/// Embeds timesteps as cosines followed by sines of geometrically spaced frequencies.
///
/// # Shapes
/// `[B]` to `[B, width]`, in f32 on `device`.
///
/// # Source
/// Vaswani et al. 2017, section 3.5, in the cosine-first order of the latent diffusion code base.
pub(crate) fn timestep_embedding(timesteps: &Tensor, width: usize, device: &Device) -> Result<Tensor> {
    let timesteps = timesteps.to_dtype(candle_core::DType::F32)?.to_vec1::<f32>()?;
    let half = width / 2;
    let frequency = |i: usize| ((-LONGEST_PERIOD.ln()) as f32 * i as f32 / half as f32).exp();
    let frequencies: Vec<f32> = (0..half).map(frequency).collect();
    let mut values = vec![0f32; timesteps.len() * width];
    for (row, timestep) in values.chunks_exact_mut(width).zip(&timesteps) {
        for (i, frequency) in frequencies.iter().enumerate() {
            let angle = timestep * frequency;
            row[i] = angle.cos();
            row[half + i] = angle.sin();
        }
    }
    Ok(Tensor::from_vec(values, (timesteps.len(), width), device)?)
}
