//! The diffusion UNet with LDM key names, built from a detected layout.

use candle_core::{DType, Tensor};

use super::{
    Conv2d, ConvShape, FreeU, GroupNorm, Linear, Residual, ResidualNames, SpatialTransformer,
    TransformerShape, timestep_embedding,
};
use crate::checkpoint::{InputBlock, ResidualBlock, UnetConfig, Weights};
use crate::error::{Error, Result};

/// The network that estimates the noise in a latent.
#[derive(Debug)]
pub struct Unet {
    config: UnetConfig,
    dtype: DType,
    time_embed: [Linear; 2],
    input_blocks: Vec<Input>,
    middle: (Stage, Residual),
    output_blocks: Vec<(Stage, Option<Conv2d>)>,
    norm: GroupNorm,
    output: Conv2d,
}

/// An entry of the descending half.
#[derive(Debug)]
enum Input {
    Convolution(Conv2d),
    Stage(Box<Stage>),
}

/// A residual block and, at the levels that have one, its transformer.
#[derive(Debug)]
struct Stage {
    residual: Residual,
    transformer: Option<SpatialTransformer>,
}

impl Unet {
    /// Loads the network; `weights` stands at its key prefix.
    pub(crate) fn load(weights: &Weights<'_>, config: UnetConfig, dtype: DType) -> Result<Self> {
        let embed = config.time_embed_dim;
        let input = |(i, block): (usize, &InputBlock)| {
            let weights = weights.part(format_args!("input_blocks.{i}"));
            Ok(match block {
                InputBlock::Stem { channels } => {
                    let shape = ConvShape::same(config.in_channels, *channels);
                    Input::Convolution(Conv2d::load(&weights.part("0"), shape)?)
                }
                InputBlock::Downsample { channels } => {
                    let shape = ConvShape { stride: 2, ..ConvShape::same(*channels, *channels) };
                    Input::Convolution(Conv2d::load(&weights.part("0.op"), shape)?)
                }
                InputBlock::Residual(block) => Input::Stage(Box::new(Stage::load(&weights, &config, block)?)),
            })
        };
        let input_blocks = config.input_blocks.iter().enumerate().map(input).collect::<Result<_>>()?;
        let middle = weights.part("middle_block");
        let width = config.middle.out_channels;
        let tail = if config.middle.depth > 0 { "2" } else { "1" };
        let last = Residual::load(&middle.part(tail), &ResidualNames::UNET, width, width, Some(embed))?;
        let mut output_blocks = Vec::with_capacity(config.output_blocks.len());
        for (i, block) in config.output_blocks.iter().enumerate() {
            let weights = weights.part(format_args!("output_blocks.{i}"));
            let (depth, channels) = (block.residual.depth, block.residual.out_channels);
            let place = if depth > 0 { "2.conv" } else { "1.conv" };
            let upsample = || Conv2d::load(&weights.part(place), ConvShape::same(channels, channels));
            let stage = Stage::load(&weights, &config, &block.residual)?;
            output_blocks.push((stage, block.upsample.then(upsample).transpose()?));
        }
        let stem = config.model_channels;
        Ok(Self {
            dtype,
            time_embed: [
                Linear::load(&weights.part("time_embed.0"), stem, embed)?,
                Linear::load(&weights.part("time_embed.2"), embed, embed)?,
            ],
            input_blocks,
            middle: (Stage::load(&middle, &config, &config.middle)?, last),
            output_blocks,
            norm: GroupNorm::load(&weights.part("out.0"), stem, 1e-5)?,
            output: Conv2d::load(&weights.part("out.2"), ConvShape::same(stem, config.out_channels))?,
            config,
        })
    }

    pub fn config(&self) -> &UnetConfig {
        &self.config
    }

    /// Estimates the network's target (noise, for eps models) from a scaled noisy latent.
    ///
    /// # Shapes
    /// `x` is `[B, in_channels, h, w]` of any height and width, already multiplied by the sampler's input scale;
    /// `timesteps` is `[B]` f32 in `0..=999`; `context` is `[B, T, context_dim]`.
    /// The result is `[B, out_channels, h, w]` in f32.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if shapes do not match the network or each other.
    pub fn forward(&self, x: &Tensor, timesteps: &Tensor, context: &Tensor) -> Result<Tensor> {
        self.forward_with(x, timesteps, context, &[])
    }

    /// As [`Unet::forward`], with weights on the inputs of the ascending half.
    ///
    /// # Errors
    /// As [`Unet::forward`].
    pub fn forward_with(
        &self,
        x: &Tensor,
        timesteps: &Tensor,
        context: &Tensor,
        free_u: &[FreeU],
    ) -> Result<Tensor> {
        self.check(x, timesteps, context)?;
        let embedding = timestep_embedding(timesteps, self.config.model_channels, x.device())?;
        let embedding = self.time_embed[0].forward(&embedding.to_dtype(self.dtype)?)?.silu()?;
        // Every block applies SiLU to the embedding first, so it is done once here.
        let embedding = self.time_embed[1].forward(&embedding)?.silu()?;
        let context = context.to_dtype(self.dtype)?;

        let mut h = x.to_dtype(self.dtype)?;
        let mut skips = Vec::with_capacity(self.input_blocks.len());
        for block in &self.input_blocks {
            h = match block {
                Input::Convolution(convolution) => convolution.forward(&h)?,
                Input::Stage(stage) => stage.forward(&h, &embedding, &context)?,
            };
            skips.push(h.clone());
        }
        h = self.middle.0.forward(&h, &embedding, &context)?;
        h = self.middle.1.forward(&h, Some(&embedding))?;
        for (stage, upsample) in &self.output_blocks {
            let mut skip = skips.pop().expect("the layout was checked to have one skip per output block");
            for weigh in free_u {
                (h, skip) = weigh.apply(h, skip, self.config.model_channels)?;
            }
            h = stage.forward(&Tensor::cat(&[&h, &skip], 1)?, &embedding, &context)?;
            if let (Some(convolution), Some(next)) = (upsample, skips.last()) {
                // An odd size was rounded up on the way down, so the target size is the skip's, not twice ours.
                let (_, _, height, width) = next.dims4()?;
                h = convolution.forward(&h.upsample_nearest2d(height, width)?)?;
            }
        }
        let eps = self.output.forward(&self.norm.forward_silu(&h)?)?;
        Ok(eps.to_dtype(DType::F32)?)
    }

    fn check(&self, x: &Tensor, timesteps: &Tensor, context: &Tensor) -> Result<()> {
        let (channels, width) = (self.config.in_channels, self.config.context_dim);
        let fits = match (x.dims(), timesteps.dims(), context.dims()) {
            (&[b, c, h, w], &[t], &[n, tokens, d]) => {
                b > 0 && h > 0 && w > 0 && tokens > 0 && c == channels && d == width && t == b && n == b
            }
            _ => false,
        };
        if fits {
            return Ok(());
        }
        Err(Error::InvalidArgument(format!(
            "the diffusion model takes [B, {channels}, h, w], [B] and [B, T, {width}], got {:?}, {:?} and {:?}",
            x.dims(),
            timesteps.dims(),
            context.dims()
        )))
    }
}

impl Stage {
    fn load(weights: &Weights<'_>, config: &UnetConfig, block: &ResidualBlock) -> Result<Self> {
        let channels = block.out_channels;
        let shape = TransformerShape {
            channels,
            context: config.context_dim,
            heads: config.heads.count(channels),
            depth: block.depth,
            linear: config.linear_projections,
        };
        let embed = Some(config.time_embed_dim);
        let residual =
            Residual::load(&weights.part("0"), &ResidualNames::UNET, block.in_channels, channels, embed)?;
        let transformer = || SpatialTransformer::load(&weights.part("1"), shape);
        Ok(Self { residual, transformer: (block.depth > 0).then(transformer).transpose()? })
    }

    fn forward(&self, x: &Tensor, embedding: &Tensor, context: &Tensor) -> Result<Tensor> {
        let h = self.residual.forward(x, Some(embedding))?;
        match &self.transformer {
            Some(transformer) => transformer.forward(&h, context),
            None => Ok(h),
        }
    }
}
