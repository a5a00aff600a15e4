//! The style adapter: makes words for a prompt of what an image encoder saw.

use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::blocks::{Activation, ClipLayer, ClipLayerShape, LayerNorm, Linear, Mask};
use crate::changes::Patches;
use crate::checkpoint::{CheckpointHeader, LoadCounter, Target, WeightFile, Weights};
use crate::error::{Error, Result};

const TOKENS: &str = "style_embedding";
/// The published adapter has heads of 128 channels.
const HEAD_WIDTH: usize = 128;
/// More layers than any adapter has.
const MAX_LAYERS: usize = 64;

#[derive(Debug, Clone, Copy)]
struct Layout {
    tokens: usize,
    width: usize,
    mlp_width: usize,
    layers: usize,
    heads: usize,
    projected: usize,
}

impl Layout {
    fn from_header(header: &CheckpointHeader) -> Result<Self, String> {
        let Some(&[1, tokens, width]) = header.shape(TOKENS) else {
            return Err(format!("there is no `{TOKENS}` in it, as the style adapter of T2I-Adapter has"));
        };
        let Some(&[_, projected]) = header.shape("proj") else {
            return Err("`proj` is missing or misshapen".into());
        };
        let up = |i: usize| header.shape(&format!("transformer_layes.{i}.mlp.c_fc.weight"));
        let layers = (0..MAX_LAYERS).take_while(|&i| up(i).is_some()).count();
        let Some(&[mlp_width, _]) = up(0) else {
            return Err("`transformer_layes.0.mlp.c_fc.weight` is missing or misshapen".into());
        };
        let heads = (width / HEAD_WIDTH).max(1);
        if !width.is_multiple_of(heads) {
            return Err(format!("{width} channels do not split into {heads} heads"));
        }
        Ok(Self { tokens, width, mlp_width, layers, heads, projected })
    }
}

/// A loaded style adapter.
///
/// # Source
/// Mou et al. 2023 (T2I-Adapter), the style adapter for Stable Diffusion 1.
#[derive(Debug)]
pub struct StyleModel {
    layout: Layout,
    tokens: Tensor,
    norm_before: LayerNorm,
    layers: Vec<ClipLayer>,
    norm_after: LayerNorm,
    projection: Linear,
    device: Device,
    dtype: DType,
    weight_bytes: u64,
}

impl StyleModel {
    /// Loads a style adapter.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the file is none; otherwise what reading it gives.
    pub fn load(path: &Path, device: &Device, dtype: DType) -> Result<Self> {
        let file = WeightFile::open(path)?;
        let refused = |reason| Error::Unsupported { path: path.into(), part: "style model", reason };
        let layout = Layout::from_header(file.header()).map_err(refused)?;
        let target = Target { device: device.clone(), dtype, patches: Patches::default() };
        let counter = LoadCounter::default();
        let weights = Weights::new(&file, &target, &counter, "");
        let Layout { tokens, width, mlp_width, layers, heads, projected } = layout;
        let shape =
            ClipLayerShape { width, mlp_width, heads, activation: Activation::QuickGelu, mask: Mask::None };
        let layer =
            |i| ClipLayer::load_open_clip(&weights.part(format_args!("transformer_layes.{i}")), shape);
        let projection = weights.get("proj", &[width, projected])?.t()?.contiguous()?;
        Ok(Self {
            tokens: weights.get(TOKENS, &[1, tokens, width])?,
            norm_before: LayerNorm::load(&weights.part("ln_pre"), width)?,
            layers: (0..layers).map(layer).collect::<Result<_>>()?,
            norm_after: LayerNorm::load(&weights.part("ln_post"), width)?,
            projection: Linear::of(&weights, projection, None)?,
            device: device.clone(),
            dtype,
            weight_bytes: counter.bytes(),
            layout,
        })
    }

    /// Why a file with this header is no style adapter, or `None` if it is one.
    pub fn refusal(header: &CheckpointHeader) -> Option<String> {
        Layout::from_header(header).err()
    }

    /// Memory that the weights take.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// The device that its input must be on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Makes text-like tokens of an image encoder's last hidden state.
    ///
    /// # Shapes
    /// `[B, T, width]` to `[B, tokens, projected]` in f32.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the encoder is of another width.
    pub fn tokens(&self, last_hidden_state: &Tensor) -> Result<Tensor> {
        let Layout { tokens, width, .. } = self.layout;
        let batch = match *last_hidden_state.dims() {
            [batch, length, found] if batch * length > 0 && found == width => batch,
            ref dims => {
                return Err(Error::InvalidArgument(format!(
                    "the style model takes [B, T, {width}] from its image encoder, got {dims:?}"
                )));
            }
        };
        let own = self.tokens.repeat((batch, 1, 1))?;
        let joined = Tensor::cat(&[&last_hidden_state.to_dtype(self.dtype)?, &own], 1)?;
        let mut x = self.norm_before.forward(&joined)?;
        for layer in &self.layers {
            x = layer.forward(&x)?;
        }
        let seen = x.narrow(1, x.dim(1)? - tokens, tokens)?.contiguous()?;
        Ok(self.projection.forward(&self.norm_after.forward(&seen)?)?.to_dtype(DType::F32)?)
    }
}
