//! The diffusion UNet with LDM key names, built from a detected layout.

use candle_core::{DType, Tensor};

use super::changes::Place;
use super::embedder::Embedder;
use super::maps::{enlarge, join};
use super::{
    AttentionPrecision, Conv2d, ConvShape, GroupNorm, Residual, ResidualNames, SpatialTransformer,
    TransformerShape, UnetChanges,
};
use crate::checkpoint::{InputBlock, ResidualBlock, UnetConfig, Weights};
use crate::error::{Error, Result};

/// The network that estimates the noise in a latent.
#[derive(Debug)]
pub struct Unet {
    config: UnetConfig,
    dtype: DType,
    embedder: Embedder,
    input_blocks: Vec<Input>,
    middle: Middle,
    output_blocks: Vec<(Stage, Option<Conv2d>)>,
    norm: GroupNorm,
    output: Conv2d,
}

/// An entry of the descending half.
#[derive(Debug)]
pub(super) enum Input {
    Convolution(Conv2d),
    Stage(Box<Stage>),
}

impl Input {
    /// Loads the whole descending half.
    pub(super) fn load_all(
        weights: &Weights<'_>,
        config: &UnetConfig,
        precision: AttentionPrecision,
    ) -> Result<Vec<Self>> {
        let input = |(i, block): (usize, &InputBlock)| {
            let weights = weights.part(format_args!("input_blocks.{i}"));
            Ok(match block {
                InputBlock::Stem { channels } => {
                    let shape = ConvShape::same(config.in_channels, *channels);
                    Self::Convolution(Conv2d::load(&weights.part("0"), shape)?)
                }
                InputBlock::Downsample { channels } => {
                    let shape = ConvShape { stride: 2, ..ConvShape::same(*channels, *channels) };
                    Self::Convolution(Conv2d::load(&weights.part("0.op"), shape)?)
                }
                InputBlock::Residual(block) => {
                    Self::Stage(Box::new(Stage::load(&weights, config, block, precision)?))
                }
            })
        };
        config.input_blocks.iter().enumerate().map(input).collect()
    }
}

/// What stands between the halves.
pub(super) type Middle = (Option<Stage>, Option<Residual>);

/// A residual block and, at the levels that have one, its transformer.
#[derive(Debug)]
pub(super) struct Stage {
    residual: Residual,
    transformer: Option<SpatialTransformer>,
}

impl Unet {
    /// Loads the network; `weights` stands at its key prefix.
    pub(crate) fn load(
        weights: &Weights<'_>,
        config: UnetConfig,
        dtype: DType,
        precision: AttentionPrecision,
    ) -> Result<Self> {
        let input_blocks = Input::load_all(weights, &config, precision)?;
        let middle = load_middle(&weights.part("middle_block"), &config, precision)?;
        let mut output_blocks = Vec::with_capacity(config.output_blocks.len());
        for (i, block) in config.output_blocks.iter().enumerate() {
            let weights = weights.part(format_args!("output_blocks.{i}"));
            let (depth, channels) = (block.residual.depth, block.residual.out_channels);
            let place = if depth > 0 { "2.conv" } else { "1.conv" };
            let upsample = || Conv2d::load(&weights.part(place), ConvShape::same(channels, channels));
            let stage = Stage::load(&weights, &config, &block.residual, precision)?;
            output_blocks.push((stage, block.upsample.then(upsample).transpose()?));
        }
        let stem = config.model_channels;
        Ok(Self {
            dtype,
            embedder: Embedder::load(weights, &config, dtype)?,
            input_blocks,
            middle,
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
    /// `timesteps` is `[B]` f32 in `0..=999`; `context` is `[B, T, context_dim]`; `vector` is `[B, adm_channels]` for
    /// the networks that take one.
    /// The result is `[B, out_channels, h, w]` in f32.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if shapes do not match the network or each other.
    pub fn forward(
        &self,
        x: &Tensor,
        timesteps: &Tensor,
        context: &Tensor,
        vector: Option<&Tensor>,
    ) -> Result<Tensor> {
        self.forward_with(x, timesteps, (context, vector), UnetChanges::default())
    }

    /// As [`Unet::forward`], changed in the ways that `changes` names.
    ///
    /// # Errors
    /// As [`Unet::forward`].
    pub fn forward_with(
        &self,
        x: &Tensor,
        timesteps: &Tensor,
        conditioning: (&Tensor, Option<&Tensor>),
        changes: UnetChanges<'_>,
    ) -> Result<Tensor> {
        let (context, vector) = conditioning;
        self.check(x, timesteps, context, vector)?;
        let embedding = self.embedder.forward(timesteps, vector, None, x.device())?;
        let context = context.to_dtype(self.dtype)?;
        let latent = [x.dim(2)?, x.dim(3)?];
        let first_width = self.config.model_channels;
        let mut place = Place { changes, latent, first_width, middle: false, transformer: 0 };

        let mut h = x.to_dtype(self.dtype)?;
        let mut skips = Vec::with_capacity(self.input_blocks.len());
        for (i, block) in self.input_blocks.iter().enumerate() {
            h = match block {
                Input::Convolution(convolution) => convolution.forward(&h)?,
                Input::Stage(stage) => stage.forward(&h, &embedding, &context, &mut place)?,
            };
            if let Some((control, unfit)) = changes.control() {
                h = control.add_to_input(i, h, unfit)?;
            }
            h = changes.shrink(i, false, h)?;
            skips.push(h.clone());
            h = changes.shrink(i, true, h)?;
        }
        if let Some(stage) = &self.middle.0 {
            place.middle = true;
            h = stage.forward(&h, &embedding, &context, &mut place)?;
            place.middle = false;
        }
        if let Some(residual) = &self.middle.1 {
            h = residual.forward(&h, Some(&embedding))?;
        }
        if let Some((control, unfit)) = changes.control() {
            h = control.add_to_middle(h, unfit)?;
        }
        for (stage, upsample) in &self.output_blocks {
            let mut skip = skips.pop().expect("the layout was checked to have one skip per output block");
            if let Some((control, unfit)) = changes.control() {
                skip = control.add_to_skip(skips.len(), skip, unfit)?;
            }
            for shrink in changes.deep_shrink {
                h = shrink.grow(h, &skip)?;
            }
            for weigh in changes.free_u {
                (h, skip) = weigh.apply(h, skip, self.config.model_channels)?;
            }
            h = stage.forward(&join(&h, &skip)?, &embedding, &context, &mut place)?;
            if let (Some(convolution), Some(next)) = (upsample, skips.last()) {
                // An odd size was rounded up on the way down, so the target size is the skip's, not twice ours.
                let (_, _, height, width) = next.dims4()?;
                h = convolution.forward(&enlarge(&h, height, width)?)?;
            }
        }
        let eps = self.output.forward(&self.norm.forward_silu(&h)?)?;
        Ok(eps.to_dtype(DType::F32)?.contiguous()?)
    }

    fn check(&self, x: &Tensor, timesteps: &Tensor, context: &Tensor, vector: Option<&Tensor>) -> Result<()> {
        let (channels, width) = (self.config.in_channels, self.config.context_dim);
        let fits = match (x.dims(), timesteps.dims(), context.dims()) {
            (&[b, c, h, w], &[t], &[n, tokens, d]) => {
                b > 0 && h > 0 && w > 0 && tokens > 0 && c == channels && d == width && t == b && n == b
            }
            _ => false,
        };
        if !fits {
            return Err(Error::InvalidArgument(format!(
                "the diffusion model takes [B, {channels}, h, w], [B] and [B, T, {width}], got {:?}, {:?} and {:?}",
                x.dims(),
                timesteps.dims(),
                context.dims()
            )));
        }
        let found = vector.map(Tensor::dims);
        let fits = match (self.config.adm_channels, found) {
            (None, None) => true,
            (Some(width), Some(dims)) => *dims == [x.dims()[0], width],
            _ => false,
        };
        if !fits {
            let expected = self.config.adm_channels.map_or("none".into(), |width| format!("[B, {width}]"));
            return Err(Error::InvalidArgument(format!(
                "the diffusion model takes vector conditioning of shape {expected}, got {found:?}"
            )));
        }
        Ok(())
    }
}

/// Loads what stands between the halves: a block with its transformer, one without, the first only, or nothing.
pub(super) fn load_middle(
    weights: &Weights<'_>,
    config: &UnetConfig,
    precision: AttentionPrecision,
) -> Result<Middle> {
    let Some(first) = config.middle.first() else { return Ok((None, None)) };
    let stage = Stage::load(weights, config, first, precision)?;
    let Some(second) = config.middle.get(1) else { return Ok((Some(stage), None)) };
    let place = if first.depth > 0 { "2" } else { "1" };
    let (inputs, outputs, embed) = (second.in_channels, second.out_channels, Some(config.time_embed_dim));
    let last = Residual::load(&weights.part(place), &ResidualNames::UNET, inputs, outputs, embed)?;
    Ok((Some(stage), Some(last)))
}

impl Stage {
    fn load(
        weights: &Weights<'_>,
        config: &UnetConfig,
        block: &ResidualBlock,
        precision: AttentionPrecision,
    ) -> Result<Self> {
        let channels = block.out_channels;
        let shape = TransformerShape {
            channels,
            context: config.context_dim,
            heads: config.heads.count(channels),
            depth: block.depth,
            linear: config.linear_projections,
            precision,
        };
        let embed = Some(config.time_embed_dim);
        let residual =
            Residual::load(&weights.part("0"), &ResidualNames::UNET, block.in_channels, channels, embed)?;
        let transformer = || SpatialTransformer::load(&weights.part("1"), shape);
        Ok(Self { residual, transformer: (block.depth > 0).then(transformer).transpose()? })
    }

    pub(super) fn forward(
        &self,
        x: &Tensor,
        embedding: &Tensor,
        context: &Tensor,
        place: &mut Place<'_>,
    ) -> Result<Tensor> {
        let h = self.residual.forward(x, Some(embedding))?;
        let Some(transformer) = &self.transformer else { return Ok(h) };
        let h = transformer.forward(&h, context, place)?;
        place.transformer += 1;
        Ok(h)
    }
}
