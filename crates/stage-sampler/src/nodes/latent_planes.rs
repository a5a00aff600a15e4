//! LATENT samples as planes, for nodes that only move and mix numbers.

use crate::{error, memory, tensors};
use candle_core::Device;
use comfy_artifacts::HostTensor;
use comfy_diffusion::sampling::{Crop, ResizeMethod, resize_latent};
use comfy_stage::{Data, Inputs, Latent, NodeError, Outputs};

/// Samples `[batch, channels, height, width]`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Planes {
    pub(super) batch: usize,
    pub(super) channels: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) data: Vec<f32>,
}

impl Planes {
    /// Reads the samples of a LATENT.
    ///
    /// # Errors
    /// When they have not four dimensions or are empty.
    pub(super) fn of(samples: &HostTensor) -> Result<Self, NodeError> {
        match *samples.shape() {
            [batch, channels, height, width] if !samples.data().is_empty() => {
                Ok(Self { batch, channels, height, width, data: samples.data().to_vec() })
            }
            _ => Err(NodeError::invalid(format!(
                "a latent has 4 dimensions and is not empty, got {:?}",
                samples.shape()
            ))),
        }
    }

    /// Takes the samples of a LATENT input.
    ///
    /// # Errors
    /// When it is missing, or as [`Planes::of`].
    pub(super) fn input(inputs: &Inputs, name: &str) -> Result<Self, NodeError> {
        Self::of(&inputs.latent(name)?.samples)
    }

    /// The same place in every batch of the other planes.
    pub(super) fn dimensions(&self) -> [usize; 4] {
        [self.batch, self.channels, self.height, self.width]
    }

    pub(super) fn item_len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// The sample at a place; `batch` may run on past the end and repeats the items.
    pub(super) fn at(&self, [batch, channel, y, x]: [usize; 4]) -> f32 {
        self.data[(((batch % self.batch) * self.channels + channel) * self.height + y) * self.width + x]
    }

    /// Makes planes by asking for each sample.
    ///
    /// # Errors
    /// When they would not fit in memory.
    pub(super) fn from_fn(
        [batch, channels, height, width]: [usize; 4],
        mut sample: impl FnMut([usize; 4]) -> f32,
    ) -> Result<Self, NodeError> {
        let pixels = height.saturating_mul(width);
        memory::require("a latent of this size", memory::activations(pixels, batch, channels))?;
        let mut data = Vec::with_capacity(batch * channels * pixels);
        for (b, c) in (0..batch).flat_map(|b| (0..channels).map(move |c| (b, c))) {
            for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
                data.push(sample([b, c, y, x]));
            }
        }
        Ok(Self { batch, channels, height, width, data })
    }

    /// Resizes to a height and width.
    ///
    /// # Errors
    /// When a side would be empty or the result too large.
    pub(super) fn resized(
        &self,
        (height, width): (usize, usize),
        method: ResizeMethod,
        crop: Crop,
    ) -> Result<Self, NodeError> {
        let pixels = height.saturating_mul(width);
        memory::require("a latent of this size", memory::activations(pixels, self.batch * self.channels, 4))?;
        let samples = tensors::to_device(&self.clone().into_host()?, &Device::Cpu)?;
        let resized = resize_latent(&samples, method, height, width, crop).map_err(error::sampling)?;
        Self::of(&tensors::to_host(&resized)?)
    }

    /// Brings another latent to the size of this one: scaled and cut, and repeated to as many items.
    ///
    /// # Errors
    /// When the channels differ.
    pub(super) fn fit(&self, other: &Self, method: ResizeMethod) -> Result<Self, NodeError> {
        if other.channels != self.channels {
            let (own, others) = (self.channels, other.channels);
            return Err(NodeError::invalid(format!("one latent has {own} channels, the other {others}")));
        }
        if (other.height, other.width) == (self.height, self.width) {
            return Ok(other.clone());
        }
        other.resized((self.height, self.width), method, Crop::Center)
    }

    /// Combines each sample with the one of another latent of the same size, whose items are repeated.
    pub(super) fn zipped(mut self, other: &Self, combine: impl Fn(f32, f32) -> f32) -> Self {
        let others = other.data.iter().cycle();
        self.data.iter_mut().zip(others).for_each(|(a, b)| *a = combine(*a, *b));
        self
    }

    /// As samples of a LATENT.
    ///
    /// # Errors
    /// None that the fields do not rule out.
    pub(super) fn into_host(self) -> Result<HostTensor, NodeError> {
        HostTensor::new(self.dimensions().to_vec(), self.data).map_err(error::bundle)
    }

    /// As the only output: a LATENT with the mask and the seeds of another.
    ///
    /// # Errors
    /// As [`Planes::into_host`].
    pub(super) fn output(self, like: &Latent) -> Result<Outputs, NodeError> {
        Ok(Outputs::one(Data::Latent(Latent { samples: self.into_host()?, ..like.clone() })))
    }
}

/// The items `first..first + count` of a tensor whose first dimension is the batch.
///
/// # Errors
/// None that the range does not rule out.
pub(super) fn items(tensor: &HostTensor, first: usize, count: usize) -> Result<HostTensor, NodeError> {
    let length = tensor.data().len() / tensor.shape()[0];
    let mut shape = tensor.shape().to_vec();
    shape[0] = count;
    let data = tensor.data().iter().copied().cycle().skip(first * length).take(count * length).collect();
    HostTensor::new(shape, data).map_err(error::bundle)
}
