//! Stable Diffusion 2.1 unCLIP: pictures as an image encoder saw them, blurred by noise, as vector conditioning.

use candle_core::{DType, Device, Tensor};

use crate::blocks::timestep_embedding;
use crate::changes::Patches;
use crate::checkpoint::{LoadCounter, Target, WeightFile, Weights};
use crate::error::{Error, Result};
use crate::sampling::TorchGenerator;

const NOISE_LEVELS: usize = 1000;
const MAX_BETA: f64 = 0.999;
/// Several pictures are mixed and then blurred by this much.
const MERGE_AUGMENTATION: f64 = 0.05;
/// The noise of the pictures is drawn from a seed so much below the run's.
const SEED_OFFSET: u64 = 10;
/// Where a file may keep how the embeddings of its training pictures spread.
const MEAN: &str = "noise_augmentor.data_mean";
const SPREAD: &str = "noise_augmentor.data_std";

/// Pictures that a prompt is shown.
#[derive(Debug, Clone)]
pub struct SeenPictures {
    /// `[B, D]`, as the image encoder gives them.
    pub embeds: Tensor,
    pub strength: f64,
    /// How much noise is added to them: 0..=1.
    pub noise_augmentation: f64,
}

/// Adds noise to embeddings of pictures and says how much.
///
/// # Source
/// Ramesh et al. 2022; the schedule is that of Nichol and Dhariwal 2021, eq. 17. Same values as ComfyUI.
#[derive(Debug, Clone)]
pub struct NoiseAugmentation {
    /// Share of the embedding and share of the noise, by level.
    shares: Vec<[f64; 2]>,
    /// Mean and spread of the training pictures, `[1, D]` each; without them embeddings are taken as they are.
    statistics: Option<[Tensor; 2]>,
}

impl Default for NoiseAugmentation {
    fn default() -> Self {
        Self { shares: shares(), statistics: None }
    }
}

fn shares() -> Vec<[f64; 2]> {
    let kept = |at: f64| ((at + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2);
    let mut product = 1.0;
    let step = |i: usize| {
        let (start, end) = (i as f64 / NOISE_LEVELS as f64, (i + 1) as f64 / NOISE_LEVELS as f64);
        product *= 1.0 - (1.0 - kept(end) / kept(start)).min(MAX_BETA);
        [product.sqrt(), (1.0 - product).sqrt()]
    };
    (0..NOISE_LEVELS).map(step).collect()
}

impl NoiseAugmentation {
    /// Reads the statistics of a file's training pictures, if it has them.
    ///
    /// # Errors
    /// What reading the file gives.
    pub(crate) fn load(file: &WeightFile) -> Result<Self> {
        let header = file.header();
        let (Some(mean), Some(spread)) = (header.shape(MEAN), header.shape(SPREAD)) else {
            return Ok(Self::default());
        };
        let target = Target { device: Device::Cpu, dtype: DType::F32, patches: Patches::default() };
        let counter = LoadCounter::default();
        let weights = Weights::new(file, &target, &counter, "");
        let row =
            |name, shape| -> Result<Tensor> { Ok(weights.get(name, shape)?.flatten_all()?.unsqueeze(0)?) };
        Ok(Self { shares: shares(), statistics: Some([row(MEAN, mean)?, row(SPREAD, spread)?]) })
    }

    /// Adds the noise of a level to one embedding `[1, D]` and puts the level, embedded as wide, behind it.
    fn augment(&self, embed: &Tensor, amount: f64, generator: &mut TorchGenerator) -> Result<Tensor> {
        let level = ((NOISE_LEVELS - 1) as f64 * amount.clamp(0.0, 1.0)).round_ties_even() as usize;
        let [kept, added] = self.shares[level];
        let (device, width) = (embed.device(), embed.dim(1)?);
        let scaled = match &self.statistics {
            Some([mean, spread]) => embed.sub(&mean.to_device(device)?)?.div(&spread.to_device(device)?)?,
            None => embed.clone(),
        };
        let noise = Tensor::from_vec(generator.randn(width), (1, width), device)?;
        let noisy = (scaled.affine(kept, 0.0)? + noise.affine(added, 0.0)?)?;
        let noisy = match &self.statistics {
            Some([mean, spread]) => noisy.mul(&spread.to_device(device)?)?.add(&mean.to_device(device)?)?,
            None => noisy,
        };
        let level = timestep_embedding(&Tensor::new(&[level as f32], device)?, width, device)?;
        Ok(Tensor::cat(&[&noisy, &level], 1)?)
    }

    /// Builds the vector conditioning of a prompt: zeros where it is shown nothing; several pictures are added up,
    /// then blurred once more.
    ///
    /// # Shapes
    /// `[1, width]`; embeddings are half as wide.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if an embedding is of another width.
    pub(crate) fn vector(
        &self,
        pictures: &[SeenPictures],
        width: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Tensor> {
        let mut sum: Option<Tensor> = None;
        let (mut count, mut generator) = (0, TorchGenerator::new(0));
        for seen in pictures {
            let rows = match *seen.embeds.dims() {
                [rows, found] if 2 * found == width => rows,
                ref dims => {
                    let half = width / 2;
                    return Err(Error::InvalidArgument(format!(
                        "this model takes pictures seen as [B, {half}] numbers, got {dims:?}: use its own image encoder"
                    )));
                }
            };
            for row in 0..rows {
                // Every picture gets the same noise.
                generator = TorchGenerator::new(seed.wrapping_sub(SEED_OFFSET));
                let embed = seen.embeds.narrow(0, row, 1)?.to_dtype(DType::F32)?.to_device(device)?;
                let vector = self.augment(&embed, seen.noise_augmentation, &mut generator)?;
                let vector = vector.affine(seen.strength, 0.0)?;
                sum = Some(match sum {
                    Some(sum) => (sum + vector)?,
                    None => vector,
                });
                count += 1;
            }
        }
        match sum {
            None => Ok(Tensor::zeros((1, width), DType::F32, device)?),
            Some(one) if count == 1 => Ok(one),
            // The generator goes on behind what it drew for the last picture.
            Some(sum) => self.augment(&sum.narrow(1, 0, width / 2)?, MERGE_AUGMENTATION, &mut generator),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_blurred_as_by_diffusers() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/vision.safetensors");
        let goldens = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
        let embeds = &goldens["unclip.embeds"];
        let row = |name: &str| goldens[&format!("unclip.{name}")].unsqueeze(0).unwrap();
        let statistics = Some([row("data_mean"), row("data_std")]);
        let seen = |from, count, strength, noise_augmentation| SeenPictures {
            embeds: embeds.narrow(0, from, count).unwrap(),
            strength,
            noise_augmentation,
        };
        for (name, statistics) in [("plain", None), ("normalized", statistics)] {
            let augmentation = NoiseAugmentation { statistics, ..NoiseAugmentation::default() };
            for (count, pictures) in [
                ("one", vec![seen(0, 1, 0.8, 0.3)]),
                ("two", vec![seen(0, 1, 0.8, 0.3), seen(1, 2, -0.5, 0.0)]),
            ] {
                let found = augmentation.vector(&pictures, 64, 123, &Device::Cpu).unwrap();
                let expected = &goldens[&format!("unclip.{name}.{count}")];
                let worst = (found - expected).unwrap().abs().unwrap().max_all().unwrap();
                let worst = worst.to_scalar::<f32>().unwrap();
                assert!(worst < 1e-4, "{name} {count}: {worst}");
            }
        }
    }
}
