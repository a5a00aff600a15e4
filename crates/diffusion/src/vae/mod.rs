//! The autoencoder between images and latents.

mod decoder;
mod encoder;
mod middle;

use candle_core::{DType, Tensor};

use crate::blocks::{Conv2d, ConvShape};
use crate::checkpoint::{VaeConfig, Weights};
use crate::error::{Error, Result};
use decoder::Decoder;
use encoder::Encoder;

/// An `AutoencoderKL`: a decoder from latents to images and an encoder back.
#[derive(Debug)]
pub struct Vae {
    config: VaeConfig,
    dtype: DType,
    weight_bytes: u64,
    encoder: Encoder,
    decoder: Decoder,
    quant_conv: Option<Conv2d>,
    post_quant_conv: Option<Conv2d>,
}

impl Vae {
    pub(crate) fn load(weights: &Weights<'_>, config: VaeConfig, dtype: DType) -> Result<Self> {
        let channels = config.latent_channels;
        let point = |name, present: bool, channels| {
            present
                .then(|| Conv2d::load(&weights.part(name), ConvShape::point(channels, channels)))
                .transpose()
        };
        Ok(Self {
            dtype,
            encoder: Encoder::load(&weights.part("encoder"), &config)?,
            decoder: Decoder::load(&weights.part("decoder"), &config)?,
            quant_conv: point("quant_conv", config.quant_conv, 2 * channels)?,
            post_quant_conv: point("post_quant_conv", config.post_quant_conv, channels)?,
            weight_bytes: weights.loaded_bytes(),
            config,
        })
    }

    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// Memory that the weights take.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// Decodes latents to images.
    ///
    /// # Shapes
    /// `latent` is `[B, latent_channels, h, w]` in the autoencoder's own scale (for SD1: the sampler's latent
    /// divided by [`LATENT_SCALE`](crate::families::sd1::LATENT_SCALE)).
    /// The result is `[B, 3, 8h, 8w]` in f32, about -1..=1 and not clamped.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the shape does not fit.
    pub fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        match latent.dims() {
            &[b, c, h, w] if b > 0 && h > 0 && w > 0 && c == self.config.latent_channels => {}
            dims => {
                let channels = self.config.latent_channels;
                return Err(Error::InvalidArgument(format!(
                    "the vae decodes [B, {channels}, h, w], got {dims:?}"
                )));
            }
        }
        let mut z = latent.to_dtype(self.dtype)?;
        if let Some(convolution) = &self.post_quant_conv {
            z = convolution.forward(&z)?;
        }
        Ok(self.decoder.forward(&z)?.to_dtype(DType::F32)?)
    }

    /// Encodes images to the mean and log-variance of their latents.
    ///
    /// # Shapes
    /// `image` is `[B, 3, H, W]` in -1..=1; height and width must be multiples of [`VaeConfig::downscale`].
    /// The result is `[B, 2 latent_channels, H/8, W/8]` in f32: means, then log-variances.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the shape does not fit.
    pub fn encode_moments(&self, image: &Tensor) -> Result<Tensor> {
        let step = self.config.downscale();
        match image.dims() {
            &[b, 3, h, w] if b > 0 && h > 0 && w > 0 && h % step == 0 && w % step == 0 => {}
            dims => {
                return Err(Error::InvalidArgument(format!(
                    "the vae encodes [B, 3, H, W] with sides that are multiples of {step}, got {dims:?}"
                )));
            }
        }
        let mut moments = self.encoder.forward(&image.to_dtype(self.dtype)?)?;
        if let Some(convolution) = &self.quant_conv {
            moments = convolution.forward(&moments)?;
        }
        Ok(moments.to_dtype(DType::F32)?)
    }

    /// Encodes images to the mean of their latents, in the autoencoder's own scale; no noise is drawn.
    ///
    /// # Shapes
    /// As [`Vae::encode_moments`], with `latent_channels` channels.
    pub fn encode(&self, image: &Tensor) -> Result<Tensor> {
        Ok(self.encode_moments(image)?.narrow(1, 0, self.config.latent_channels)?.contiguous()?)
    }
}
