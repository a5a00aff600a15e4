//! ControlNets: the descending half of a UNet that also sees a picture.

use candle_core::{DType, Tensor};

use super::applied::ControlCall;
use super::hint::HintEncoder;
use super::layout::NetworkLayout;
use super::precision;
use super::union::Union;
use crate::blocks::{ControlSignals, Conv2d, ConvShape, Descent, DescentInputs};
use crate::checkpoint::{UnetConfig, Weights};
use crate::error::{Error, Result};

/// A ControlNet.
///
/// # Source
/// Zhang et al. 2023 (arXiv 2302.05543), section 3.
#[derive(Debug)]
pub(super) struct ControlNet {
    descent: Descent,
    hint: HintEncoder,
    outputs: Vec<Conv2d>,
    middle_output: Conv2d,
    union: Option<Union>,
    dtype: DType,
}

impl ControlNet {
    pub(super) fn load(weights: &Weights<'_>, layout: NetworkLayout, dtype: DType) -> Result<Self> {
        let NetworkLayout { unet, hint, union, .. } = layout;
        let output = |name: String, width| Conv2d::load(&weights.part(name), ConvShape::point(width, width));
        let outputs = unet.input_blocks.iter().enumerate();
        let outputs = outputs
            .map(|(i, block)| output(format!("zero_convs.{i}.0"), block.channels()))
            .collect::<Result<_>>()?;
        let last = unet.middle.last().map_or(unet.model_channels, |block| block.out_channels);
        let union = union.map(|layout| Union::load(weights, &layout, &unet)).transpose()?;
        let precision = precision(&unet);
        Ok(Self {
            hint: HintEncoder::load(weights, &hint)?,
            outputs,
            middle_output: output("middle_block_out.0".into(), last)?,
            union,
            dtype,
            descent: Descent::load(weights, unet, dtype, precision)?,
        })
    }

    pub(super) fn config(&self) -> &UnetConfig {
        self.descent.config()
    }

    pub(super) fn picture_kinds(&self) -> Option<usize> {
        self.union.as_ref().map(Union::kinds)
    }

    /// Checks that a union ControlNet knows a kind; the others are not told.
    pub(super) fn check_kind(&self, kind: Option<usize>) -> Result<()> {
        match (&self.union, kind) {
            (Some(union), Some(kind)) => union.check(kind),
            _ => Ok(()),
        }
    }

    /// Channels of the picture.
    pub(super) fn picture_channels(&self) -> usize {
        self.hint.channels()
    }

    /// Works out what of the network depends on the picture alone.
    ///
    /// # Shapes
    /// `[N, channels, 8 h, 8 w]` in 0..=1 to `[N, C, h, w]`.
    pub(super) fn guide(&self, picture: &Tensor, kind: Option<usize>) -> Result<Tensor> {
        let guide = self.hint.forward(&picture.to_dtype(self.dtype)?)?;
        match (&self.union, kind) {
            (Some(union), Some(kind)) => union.told(&guide, kind),
            _ => Ok(guide),
        }
    }

    /// Runs the network; `guide` has one row or as many as `call`.
    pub(super) fn forward(
        &self,
        call: &ControlCall<'_>,
        guide: &Tensor,
        kind: Option<usize>,
    ) -> Result<ControlSignals> {
        let config = self.config();
        let fits = matches!((call.x.dims(), call.context.dims()), (&[b, c, h, w], &[n, tokens, width])
            if b == n && c == config.in_channels && h * w > 0 && (config.context_dim == 0 || (tokens > 0 && width == config.context_dim)));
        if !fits {
            return Err(Error::InvalidArgument(format!(
                "the control network takes [B, {}, h, w] and [B, T, {}], got {:?} and {:?}",
                config.in_channels,
                config.context_dim,
                call.x.dims(),
                call.context.dims()
            )));
        }
        let embedding = match &self.union {
            Some(union) => Some(union.embedding(kind, self.dtype, call.x.device())?),
            None => None,
        };
        let (blocks, middle) = self.descent.forward(&DescentInputs {
            x: call.x,
            timesteps: call.timesteps,
            context: call.context,
            vector: call.vector,
            embedding: embedding.as_ref(),
            guide,
        })?;
        let output = |(layer, h): (&Conv2d, &Tensor)| layer.forward(h).map(Some);
        Ok(ControlSignals {
            input: Vec::new(),
            middle: Some(self.middle_output.forward(&middle)?),
            skips: self.outputs.iter().zip(&blocks).map(output).collect::<Result<_>>()?,
        })
    }
}
