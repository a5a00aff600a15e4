//! Initial noise: the numbers torch's CPU generator gives for a seed.

use candle_core::{Device, Tensor};

use super::error::{Result, SamplingError};

const STATE_WORDS: usize = 624;
const STATE_SHIFT: usize = 397;

/// Size from which torch fills a tensor in blocks instead of value by value.
const BLOCK_FILL_MIN: usize = 16;

/// Draws the stream of torch's CPU generator.
///
/// # Source
/// Matsumoto and Nishimura 1998 (mt19937), Box and Muller 1958; same values as `torch.Generator("cpu")`.
#[derive(Clone)]
pub struct TorchGenerator {
    state: [u32; STATE_WORDS],
    next: usize,
    /// Second half of a scalar Box-Muller pair, handed out by the following scalar draw.
    cached: Option<f64>,
}

impl TorchGenerator {
    /// Seeds the generator; torch's CPU generator takes only the low 32 bits.
    pub fn new(seed: u64) -> Self {
        let mut state = [0u32; STATE_WORDS];
        state[0] = seed as u32;
        for i in 1..STATE_WORDS {
            let previous = state[i - 1];
            state[i] = 1_812_433_253u32.wrapping_mul(previous ^ (previous >> 30)).wrapping_add(i as u32);
        }
        Self { state, next: STATE_WORDS, cached: None }
    }

    /// Seeds the engine by an array of one word, as languages do that hash their seeds.
    pub(super) fn from_key(key: u32) -> Self {
        let mut generator = Self::new(19_650_218);
        let state = &mut generator.state;
        let mut at = 1;
        let mut mix = |rounds: usize, factor: u32, add: &dyn Fn(u32, usize) -> u32| {
            for _ in 0..rounds {
                let previous = state[at - 1];
                let mixed = state[at] ^ (previous ^ (previous >> 30)).wrapping_mul(factor);
                state[at] = add(mixed, at);
                at += 1;
                if at == STATE_WORDS {
                    state[0] = state[STATE_WORDS - 1];
                    at = 1;
                }
            }
        };
        mix(STATE_WORDS, 1_664_525, &|mixed, _| mixed.wrapping_add(key));
        mix(STATE_WORDS - 1, 1_566_083_941, &|mixed, at| mixed.wrapping_sub(at as u32));
        state[0] = 0x8000_0000;
        generator
    }

    fn twist(&mut self) {
        for i in 0..STATE_WORDS {
            let joined = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % STATE_WORDS] & 0x7fff_ffff);
            let odd = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[i] = self.state[(i + STATE_SHIFT) % STATE_WORDS] ^ (joined >> 1) ^ odd;
        }
        self.next = 0;
    }

    /// Draws 32 random bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.next >= STATE_WORDS {
            self.twist();
        }
        let mut word = self.state[self.next];
        self.next += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    fn uniform_f32(&mut self) -> f32 {
        (self.next_u32() & 0x00ff_ffff) as f32 / 16_777_216.0
    }

    fn uniform_f64(&mut self) -> f64 {
        let high = u64::from(self.next_u32());
        let low = u64::from(self.next_u32());
        (((high << 32) | low) & ((1 << 53) - 1)) as f64 / (1u64 << 53) as f64
    }

    /// Draws one value on the scalar path, in f64 with 53-bit uniforms.
    fn normal_scalar(&mut self) -> f32 {
        if let Some(value) = self.cached.take() {
            return value as f32;
        }
        let angle = std::f64::consts::TAU * self.uniform_f64();
        let radius = (-2.0 * (-self.uniform_f64()).ln_1p()).sqrt();
        self.cached = Some(radius * angle.sin());
        (radius * angle.cos()) as f32
    }

    /// Draws `count` standard normal values as one `torch.randn` call does.
    ///
    /// The path depends on the size of the call, so two calls of 8 are not one call of 16.
    pub fn randn(&mut self, count: usize) -> Vec<f32> {
        if count < BLOCK_FILL_MIN {
            return (0..count).map(|_| self.normal_scalar()).collect();
        }
        let mut values: Vec<f32> = (0..count).map(|_| self.uniform_f32()).collect();
        for block in values.chunks_exact_mut(BLOCK_FILL_MIN) {
            box_muller_block(block);
        }
        if !count.is_multiple_of(BLOCK_FILL_MIN) {
            // An incomplete last block is replaced by a whole one that overlaps the block before it.
            let last = &mut values[count - BLOCK_FILL_MIN..];
            last.fill_with(|| self.uniform_f32());
            box_muller_block(last);
        }
        values
    }

    /// Draws a standard normal tensor on the CPU stream and moves it to `device`.
    ///
    /// # Errors
    /// Fails if the device cannot hold the tensor.
    pub fn randn_tensor(&mut self, shape: &[usize], device: &Device) -> Result<Tensor> {
        let count = shape.iter().product();
        Ok(Tensor::from_vec(self.randn(count), shape, device)?)
    }
}

fn box_muller_block(block: &mut [f32]) {
    let (radii, angles) = block.split_at_mut(BLOCK_FILL_MIN / 2);
    for (first, second) in radii.iter_mut().zip(angles) {
        // 1 - u moves the range from [0, 1) to (0, 1], where the logarithm is finite.
        let radius = (-2.0 * (1.0 - *first).ln()).sqrt();
        let angle = std::f32::consts::TAU * *second;
        *first = radius * angle.cos();
        *second = radius * angle.sin();
    }
}

/// Draws the values one fresh generator gives for a seed.
pub fn randn(seed: u64, shape: &[usize]) -> Vec<f32> {
    TorchGenerator::new(seed).randn(shape.iter().product())
}

/// Draws the initial noise of a latent batch.
///
/// With `batch_index` each sample gets the noise it had at that place of its original batch: one sample's worth is
/// drawn for every place up to the highest index, and places that are named twice get the same noise.
///
/// # Errors
/// Fails if `batch_index` does not name one place per sample.
pub fn prepare_noise(latent: &Tensor, seed: u64, batch_index: Option<&[usize]>) -> Result<Tensor> {
    let shape = latent.dims();
    let device = latent.device();
    let mut generator = TorchGenerator::new(seed);
    let Some(batch_index) = batch_index else {
        return generator.randn_tensor(shape, device);
    };
    let samples = shape.first().copied().unwrap_or(0);
    if batch_index.len() != samples {
        let reason = format!("names {} places for a batch of {samples}", batch_index.len());
        return Err(SamplingError::invalid("batch_index", reason));
    }
    let count = shape[1..].iter().product();
    let last = batch_index.iter().copied().max().unwrap_or(0);
    let mut drawn = std::collections::BTreeMap::new();
    for place in 0..=last {
        let values = generator.randn(count);
        if batch_index.contains(&place) {
            drawn.insert(place, values);
        }
    }
    let values: Vec<f32> = batch_index.iter().flat_map(|place| drawn[place].iter().copied()).collect();
    Ok(Tensor::from_vec(values, shape, device)?)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    #[test]
    fn draws_match_torch() {
        let tensors = fixtures::tensors("noise.safetensors");
        let mut worst = 0f32;
        let mut checked = 0;
        for (name, expected) in &tensors {
            let (seed, rest) = name.split_once('|').unwrap();
            if rest.contains('=') {
                continue;
            }
            let got = randn(seed.parse().unwrap(), expected.dims());
            let expected = fixtures::values(expected);
            worst = worst.max(fixtures::max_abs_diff(&got, &expected));
            if got.len() < 16 {
                assert_eq!(got, expected, "{name}: the scalar path is bit exact");
            }
            checked += 1;
        }
        assert!(checked >= 49, "only {checked} cases");
        assert!(worst <= 1e-6, "{worst}");
    }

    #[test]
    fn batch_index_replays_draws() {
        let expected = &fixtures::tensors("noise.safetensors")["42|noise_inds=[0,2,2]|3x4x8x8"];
        let latent = Tensor::zeros_like(expected).unwrap();
        let got = prepare_noise(&latent, 42, Some(&[0, 2, 2])).unwrap();
        assert!(fixtures::max_abs_diff(&fixtures::values(&got), &fixtures::values(expected)) <= 1e-6);
        let error = prepare_noise(&latent, 42, Some(&[0])).unwrap_err();
        assert!(error.to_string().contains("batch_index"), "{error}");
    }

    #[test]
    fn generator_state_carries_over_calls() {
        let mut one = TorchGenerator::new(7);
        let first = one.randn(32);
        assert_ne!(first, one.randn(32));
        assert_eq!(first, randn(7, &[32]));
        // A scalar pair survives a block draw in between, as torch keeps it.
        let mut pair = TorchGenerator::new(0);
        let whole = TorchGenerator::new(0).randn(2);
        assert_eq!(pair.randn(1)[0], whole[0]);
        pair.randn(16);
        assert_eq!(pair.randn(1)[0], whole[1]);
    }
}
