//! Brownian motion over the noise levels, for the SDE samplers.

use candle_core::{Device, Tensor};

use super::error::{Result, SamplingError};
use super::noise::TorchGenerator;

/// Words in the entropy pool torchsde asks numpy for.
const TREE_POOL_WORDS: usize = 24;

/// Decimal places to which torchsde rounds the ends of an interval (its tolerance of 1e-6).
const TIME_DECIMALS: usize = 6;

/// Derives independent seeds from one number.
///
/// # Source
/// O'Neill 2015 (`seed_seq_fe`); same values as `numpy.random.SeedSequence`.
pub struct SeedSequence {
    pool: Vec<u32>,
}

const SHIFT: u32 = 16;

/// Running constant of the hash; every use changes it.
struct Hash {
    constant: u32,
    multiplier: u32,
}

impl Hash {
    fn mix_in(&mut self, value: u32) -> u32 {
        let value = value ^ self.constant;
        self.constant = self.constant.wrapping_mul(self.multiplier);
        let value = value.wrapping_mul(self.constant);
        value ^ (value >> SHIFT)
    }
}

fn combine(x: u32, y: u32) -> u32 {
    let mixed = 0xca01_f9ddu32.wrapping_mul(x).wrapping_sub(0x4973_f715u32.wrapping_mul(y));
    mixed ^ (mixed >> SHIFT)
}

/// Splits a number into 32-bit words, low word first, without leading zero words.
fn words(value: u64) -> impl Iterator<Item = u32> {
    let high = (value >> 32) as u32;
    std::iter::once(value as u32).chain((high != 0).then_some(high))
}

impl SeedSequence {
    /// Mixes `entropy` and the key of a spawned child into a pool of `pool_words` words.
    pub fn new(entropy: u64, spawn_key: &[u64], pool_words: usize) -> Self {
        let mut material: Vec<u32> = words(entropy).collect();
        if !spawn_key.is_empty() {
            // Padding keeps a child's pool apart from one whose entropy merely continues with the key.
            material.resize(material.len().max(pool_words), 0);
            material.extend(spawn_key.iter().copied().flat_map(words));
        }
        let mut hash = Hash { constant: 0x43b0_d7e5, multiplier: 0x931e_8875 };
        let mut pool: Vec<u32> =
            (0..pool_words).map(|i| hash.mix_in(material.get(i).copied().unwrap_or(0))).collect();
        for source in 0..pool_words {
            for target in (0..pool_words).filter(|target| *target != source) {
                pool[target] = combine(pool[target], hash.mix_in(pool[source]));
            }
        }
        for &extra in material.iter().skip(pool_words) {
            for word in &mut pool {
                *word = combine(*word, hash.mix_in(extra));
            }
        }
        Self { pool }
    }

    /// Returns the first `N` words of the state a generator would be seeded with.
    pub fn generate_state<const N: usize>(&self) -> [u32; N] {
        let mut hash = Hash { constant: 0x8b51_f9dd, multiplier: 0x58f3_8ded };
        std::array::from_fn(|i| hash.mix_in(self.pool[i % self.pool.len()]))
    }
}

/// One Brownian path per value of a tensor, which gives the same increments in whatever order it is asked.
///
/// The whole range is halved again and again until the ends of a query are reached; the midpoint of every interval
/// is drawn from the bridge between its ends with a seed that depends only on the interval's place.
///
/// # Source
/// Levy's construction of the Brownian bridge; Li et al. 2020 (virtual Brownian tree); same values as torchsde
/// 0.2.6 `BrownianTree` on the CPU.
pub struct BrownianTree {
    entropy: u64,
    start: f64,
    end: f64,
    total: Vec<f32>,
}

/// A node of the halving tree with the increment over it.
struct Interval {
    start: f64,
    end: f64,
    key: u64,
    depth: u64,
    increment: Vec<f32>,
}

fn round_time(time: f64) -> f64 {
    // Formatting rounds the exact binary value to the nearest decimal, which multiplying would not.
    format!("{time:.TIME_DECIMALS$}").parse().expect("a formatted float parses")
}

fn draw(seed: u32, count: usize) -> Vec<f32> {
    TorchGenerator::new(u64::from(seed)).randn(count)
}

impl BrownianTree {
    /// Builds the tree over `start..end` for `count` values.
    pub fn new(entropy: u64, start: f64, end: f64, count: usize) -> Self {
        let [seed, _, _] = SeedSequence::new(entropy, &[], TREE_POOL_WORDS).generate_state();
        let scale = (end - start).sqrt() as f32;
        let total = draw(seed, count).into_iter().map(|v| v * scale).collect();
        Self { entropy, start: round_time(start), end: round_time(end), total }
    }

    /// Returns the increment of every path from `from` to `to`, where `from <= to`.
    ///
    /// Ends outside of the tree are moved to its ends.
    pub fn increment(&self, from: f64, to: f64) -> Vec<f32> {
        let from = round_time(from.clamp(self.start, self.end));
        let to = round_time(to.clamp(self.start, self.end));
        let mut sum = vec![0f32; self.total.len()];
        if from < to {
            let root = Interval {
                start: self.start,
                end: self.end,
                key: 0,
                depth: 0,
                increment: self.total.clone(),
            };
            self.collect(root, from, to, &mut sum);
        }
        sum
    }

    /// Adds the increment over the part of `from..to` that lies in `node`.
    fn collect(&self, node: Interval, from: f64, to: f64, sum: &mut [f32]) {
        if from == node.start && to == node.end {
            sum.iter_mut().zip(&node.increment).for_each(|(s, v)| *s += v);
            return;
        }
        let (left, right) = self.halves(node);
        let middle = left.end;
        if from < middle {
            self.collect(left, from, to.min(middle), sum);
        }
        if to > middle {
            self.collect(right, from.max(middle), to, sum);
        }
    }

    fn halves(&self, node: Interval) -> (Interval, Interval) {
        let sequence = SeedSequence::new(self.entropy, &[node.key, node.depth], TREE_POOL_WORDS);
        let [seed, _, _, _] = sequence.generate_state();
        let middle = round_time(0.5 * (node.end + node.start));
        let (before, after) = (middle - node.start, node.end - middle);
        let length = node.end - node.start;
        let (before_f32, length_inverse) = (before as f32, (1.0 / length) as f32);
        let deviation = (before * after / length).sqrt() as f32;
        let mut left = draw(seed, node.increment.len());
        for (value, whole) in left.iter_mut().zip(&node.increment) {
            *value = before_f32 * whole * length_inverse + deviation * *value;
        }
        let right = node.increment.iter().zip(&left).map(|(whole, left)| whole - left).collect();
        let child = |start, end, bit, increment| Interval {
            start,
            end,
            key: 2 * node.key + bit,
            depth: node.depth + 1,
            increment,
        };
        (child(node.start, middle, 0, left), child(middle, node.end, 1, right))
    }
}

/// Turns a Brownian tree over noise levels into unit noise for the step between two of them.
///
/// # Source
/// Same values as ComfyUI's Brownian noise on the CPU.
pub struct BrownianNoise {
    tree: BrownianTree,
    shape: Vec<usize>,
    device: Device,
}

impl BrownianNoise {
    /// Spans the positive noise levels of a run; the seed counts with all of its 64 bits.
    ///
    /// # Errors
    /// Fails if no level is positive.
    pub fn new(seed: u64, x: &Tensor, sigmas: &[f64]) -> Result<Self> {
        let positive = sigmas.iter().copied().filter(|s| *s > 0.0);
        let low = positive.clone().fold(f64::INFINITY, f64::min);
        let high = positive.fold(f64::NEG_INFINITY, f64::max);
        if !(low.is_finite() && high.is_finite()) {
            return Err(SamplingError::invalid("sigmas", "no positive and finite noise level"));
        }
        let tree = BrownianTree::new(seed, low, high, x.elem_count());
        Ok(Self { tree, shape: x.dims().to_vec(), device: x.device().clone() })
    }

    /// Returns the noise of the step from `sigma` down (or up) to `sigma_next`.
    ///
    /// # Errors
    /// Fails if the levels are equal or the device cannot hold the tensor.
    pub fn noise(&self, sigma: f64, sigma_next: f64) -> Result<Tensor> {
        if sigma == sigma_next {
            return Err(SamplingError::invalid("sigmas", format!("level {sigma} follows itself")));
        }
        let (low, high) = (sigma.min(sigma_next), sigma.max(sigma_next));
        let sign = if sigma > sigma_next { -1.0 } else { 1.0 };
        let scale = sign / (high - low).sqrt() as f32;
        let values: Vec<f32> = self.tree.increment(low, high).into_iter().map(|v| v * scale).collect();
        Ok(Tensor::from_vec(values, self.shape.as_slice(), &self.device)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;

    fn state(value: &serde_json::Value) -> Vec<u32> {
        value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
    }

    #[test]
    fn seed_sequence_matches_numpy() {
        let extra = fixtures::json("noise_extra.json");
        let plain = &extra["numpy_seedsequence"];
        let got: [u32; 4] = SeedSequence::new(42, &[], 8).generate_state();
        assert_eq!(got.to_vec(), state(&plain["entropy42_pool8_state4_u32"]));
        for (entropy, case) in extra["torchsde_seedsequence"]["cases"].as_object().unwrap() {
            let entropy = entropy.parse().unwrap();
            let top: [u32; 3] = SeedSequence::new(entropy, &[], 24).generate_state();
            assert_eq!(top.to_vec(), state(&case["top3"]));
            for (name, key) in [("key0_depth1", [0, 1]), ("key1_depth1", [1, 1]), ("key5_depth3", [5, 3])] {
                let got: [u32; 4] = SeedSequence::new(entropy, &key, 24).generate_state();
                assert_eq!(got.to_vec(), state(&case[name]), "{entropy} {name}");
            }
        }
    }

    #[test]
    fn increments_match_torchsde() {
        let extra = fixtures::json("noise_extra.json");
        let golden = &extra["brownian_karras8"];
        let ends = [golden["sigma_min"].as_f64().unwrap(), golden["sigma_max"].as_f64().unwrap()];
        let x = Tensor::zeros((1, 4, 8, 8), candle_core::DType::F32, &Device::Cpu).unwrap();
        let mut worst = 0f32;
        for (seed, case) in golden["seeds"].as_object().unwrap() {
            let noise = BrownianNoise::new(seed.parse().unwrap(), &x, &ends).unwrap();
            for step in case["sequential"].as_array().unwrap() {
                let (from, to) = (step["sigma"].as_f64().unwrap(), step["sigma_next"].as_f64().unwrap());
                let got = fixtures::values(&noise.noise(from, to).unwrap());
                let first: Vec<f32> = fixtures::floats(&step["first8"]).iter().map(|v| *v as f32).collect();
                worst = worst.max(fixtures::max_abs_diff(&got[..8], &first));
                let sum: f64 = got.iter().map(|v| f64::from(*v)).sum();
                assert!((sum - step["sum"].as_f64().unwrap()).abs() < 1e-3, "{seed} {from}: {sum}");
            }
        }
        assert!(worst < 2e-5, "{worst}");
    }
}
