//! The autoencoder between images and latents.

mod decoder;
mod encoder;
mod middle;
mod tiny;

use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::changes::Patches;

use crate::blocks::{Conv2d, ConvShape};
use crate::checkpoint::{CheckpointHeader, LoadCounter, Target, VaeConfig, WeightFile, Weights};
use crate::error::{Error, Result};
use decoder::Decoder;
use encoder::Encoder;
pub use tiny::LatentRange;
use tiny::TinyAutoencoder;

/// A decoder from latents to images and an encoder back.
#[derive(Debug)]
pub struct Vae {
    network: Network,
    dtype: DType,
    weight_bytes: u64,
}

#[derive(Debug)]
enum Network {
    Kl(Box<KlAutoencoder>),
    Tiny(TinyAutoencoder),
}

/// An `AutoencoderKL`, which every model of this line was trained with.
#[derive(Debug)]
struct KlAutoencoder {
    config: VaeConfig,
    encoder: Encoder,
    decoder: Decoder,
    quant_conv: Option<Conv2d>,
    post_quant_conv: Option<Conv2d>,
}

impl KlAutoencoder {
    fn load(weights: &Weights<'_>, config: VaeConfig) -> Result<Self> {
        let channels = config.latent_channels;
        let point = |name, present: bool, channels| {
            present
                .then(|| Conv2d::load(&weights.part(name), ConvShape::point(channels, channels)))
                .transpose()
        };
        Ok(Self {
            encoder: Encoder::load(&weights.part("encoder"), &config)?,
            decoder: Decoder::load(&weights.part("decoder"), &config)?,
            quant_conv: point("quant_conv", config.quant_conv, 2 * channels)?,
            post_quant_conv: point("post_quant_conv", config.post_quant_conv, channels)?,
            config,
        })
    }

    fn decode(&self, latent: &Tensor) -> Result<Tensor> {
        match &self.post_quant_conv {
            Some(convolution) => self.decoder.forward(&convolution.forward(latent)?),
            None => self.decoder.forward(latent),
        }
    }

    fn encode_moments(&self, image: &Tensor) -> Result<Tensor> {
        let moments = self.encoder.forward(image)?;
        match &self.quant_conv {
            Some(convolution) => convolution.forward(&moments),
            None => Ok(moments),
        }
    }
}

impl Vae {
    pub(crate) fn load(weights: &Weights<'_>, config: VaeConfig, dtype: DType) -> Result<Self> {
        let network = Network::Kl(Box::new(KlAutoencoder::load(weights, config)?));
        Ok(Self { network, dtype, weight_bytes: weights.loaded_bytes() })
    }

    /// Loads a TAESD from the files of its two halves. `range` are the latents it was trained on.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if one is no half of a TAESD; otherwise what reading them gives.
    pub fn load_tiny(
        [encoder, decoder]: [&Path; 2],
        device: &Device,
        dtype: DType,
        range: LatentRange,
    ) -> Result<Self> {
        let (encoder, decoder) = (WeightFile::open(encoder)?, WeightFile::open(decoder)?);
        let channels = tiny::latent_channels(encoder.header(), "").ok_or_else(|| Error::Unsupported {
            path: encoder.path().into(),
            part: "encoder",
            reason: "its last layer is not that of a TAESD".into(),
        })?;
        let target = Target { device: device.clone(), dtype, patches: Patches::default() };
        let counter = LoadCounter::default();
        let halves = [&encoder, &decoder].map(|file| Weights::new(file, &target, &counter, ""));
        let network = TinyAutoencoder::load(&halves[0], &halves[1], channels, range)?;
        Ok(Self { network: Network::Tiny(network), dtype, weight_bytes: counter.bytes() })
    }

    /// Loads a TAESD whose halves are in one file, with the range of its latents where the file has it.
    pub(crate) fn load_joint_tiny(file: &WeightFile, weights: &Weights<'_>, dtype: DType) -> Result<Self> {
        let channels =
            tiny::latent_channels(file.header(), tiny::ENCODER).ok_or_else(|| Error::Unsupported {
                path: file.path().into(),
                part: "vae",
                reason: "the last layer of its encoder is not that of a TAESD".into(),
            })?;
        let number = |name: &str, default: f64| -> Result<f64> {
            let Some(info) = file.header().get(name) else { return Ok(default) };
            Ok(file.read_f32(name, info)?.first().map_or(default, |value| f64::from(*value)))
        };
        let range = LatentRange { scale: number("vae_scale", 1.0)?, shift: number("vae_shift", 0.0)? };
        let (encoder, decoder) = (weights.below(tiny::ENCODER), weights.below(tiny::DECODER));
        let network = Network::Tiny(TinyAutoencoder::load(&encoder, &decoder, channels, range)?);
        Ok(Self { network, dtype, weight_bytes: weights.loaded_bytes() })
    }

    /// Why a file with this header is no autoencoder, or `None` if it is one.
    pub fn refusal(header: &CheckpointHeader) -> Option<String> {
        if Self::is_tiny(header) { None } else { VaeConfig::from_header(header).err() }
    }

    /// Why a file with this header is no half of a TAESD, or `None` if it is one.
    pub fn tiny_half_refusal(header: &CheckpointHeader) -> Option<String> {
        (!tiny::is_half(header))
            .then(|| "its first layers are not those of a TAESD encoder or decoder".into())
    }

    /// Tells if a file holds both halves of a TAESD.
    pub(crate) fn is_tiny(header: &CheckpointHeader) -> bool {
        tiny::is_in(header)
    }

    /// Image pixels per latent cell along one side.
    pub fn downscale(&self) -> usize {
        match &self.network {
            Network::Kl(network) => network.config.downscale(),
            Network::Tiny(_) => TinyAutoencoder::DOWNSCALE,
        }
    }

    /// Channels of a latent.
    pub fn latent_channels(&self) -> usize {
        match &self.network {
            Network::Kl(network) => network.config.latent_channels,
            Network::Tiny(network) => network.latent_channels,
        }
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
        let channels = self.latent_channels();
        match latent.dims() {
            &[b, c, h, w] if b > 0 && h > 0 && w > 0 && c == channels => {}
            dims => {
                return Err(Error::InvalidArgument(format!(
                    "the vae decodes [B, {channels}, h, w], got {dims:?}"
                )));
            }
        }
        let z = latent.to_dtype(self.dtype)?;
        let image = match &self.network {
            Network::Kl(network) => network.decode(&z)?,
            Network::Tiny(network) => network.decode(&z)?,
        };
        Ok(image.to_dtype(DType::F32)?.contiguous()?)
    }

    /// Encodes images to the mean and log-variance of their latents.
    ///
    /// # Shapes
    /// `image` is `[B, 3, H, W]` in -1..=1; height and width must be multiples of [`Vae::downscale`].
    /// The result is `[B, 2 latent_channels, H/8, W/8]` in f32: means, then log-variances.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the shape does not fit or the network gives latents only, as TAESD does.
    pub fn encode_moments(&self, image: &Tensor) -> Result<Tensor> {
        self.check_image(image)?;
        match &self.network {
            Network::Kl(network) => Ok(network
                .encode_moments(&image.to_dtype(self.dtype)?)?
                .to_dtype(DType::F32)?
                .contiguous()?),
            Network::Tiny(_) => {
                Err(Error::InvalidArgument("a TAESD gives latents, not how they spread".into()))
            }
        }
    }

    /// Encodes images to the mean of their latents, in the autoencoder's own scale; no noise is drawn.
    ///
    /// # Shapes
    /// As [`Vae::encode_moments`], with `latent_channels` channels.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the shape does not fit.
    pub fn encode(&self, image: &Tensor) -> Result<Tensor> {
        match &self.network {
            Network::Kl(_) => {
                Ok(self.encode_moments(image)?.narrow(1, 0, self.latent_channels())?.contiguous()?)
            }
            Network::Tiny(network) => {
                self.check_image(image)?;
                Ok(network.encode(&image.to_dtype(self.dtype)?)?.to_dtype(DType::F32)?.contiguous()?)
            }
        }
    }

    fn check_image(&self, image: &Tensor) -> Result<()> {
        let step = self.downscale();
        match image.dims() {
            &[b, 3, h, w] if b > 0 && h > 0 && w > 0 && h % step == 0 && w % step == 0 => Ok(()),
            dims => Err(Error::InvalidArgument(format!(
                "the vae encodes [B, 3, H, W] with sides that are multiples of {step}, got {dims:?}"
            ))),
        }
    }
}
