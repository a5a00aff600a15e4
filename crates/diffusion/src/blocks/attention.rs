//! Multi-head attention that never holds the scores of a whole large picture at once.

use candle_core::{D, DType, Device, Tensor};
use comfy_kernels::FusedAttention;

use super::layers::Linear;
use crate::checkpoint::Weights;
use crate::error::Result;

/// Scores held at a time per batch entry; a block of queries is cut so that its scores stay below this.
const MAX_SCORES: usize = 1 << 24;

/// Which keys a query may look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mask {
    None,
    /// Only keys at the same or an earlier position.
    Causal,
}

/// Computes `softmax(q k^T / sqrt(d)) v` for each head.
///
/// # Shapes
/// `q` is `[B, Tq, H d]`, `k` and `v` are `[B, Tk, H d]`; the result is `[B, Tq, H d]`.
pub(crate) fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize, mask: Mask) -> Result<Tensor> {
    if comfy_kernels::takes(q) {
        return Ok(q.apply_op3_no_bwd(k, v, &FusedAttention { heads, causal: mask == Mask::Causal })?);
    }
    let (batch, queries, width) = q.dims3()?;
    let keys = k.dim(1)?;
    let scale = 1.0 / ((width / heads) as f64).sqrt();
    let split =
        |x: &Tensor, rows| x.reshape((batch, rows, heads, width / heads))?.transpose(1, 2)?.contiguous();
    let q = (split(q, queries)? * scale)?;
    let k = split(k, keys)?.transpose(2, 3)?;
    let v = split(v, keys)?;
    let block = (MAX_SCORES / (heads * keys)).clamp(1, queries);
    let mut parts = Vec::with_capacity(queries.div_ceil(block));
    for start in (0..queries).step_by(block) {
        let rows = block.min(queries - start);
        let mut scores = q.narrow(2, start, rows)?.contiguous()?.matmul(&k)?;
        if mask == Mask::Causal {
            scores =
                scores.broadcast_add(&causal_mask(start, rows, keys, scores.dtype(), scores.device())?)?;
        }
        parts.push(softmax(&scores)?.matmul(&v)?);
    }
    let joined = if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(&parts, 2)? };
    Ok(joined.transpose(1, 2)?.reshape((batch, queries, width))?)
}

fn softmax(scores: &Tensor) -> Result<Tensor> {
    match scores.dtype() {
        DType::F16 | DType::BF16 => {
            let weights = candle_nn::ops::softmax(&scores.to_dtype(DType::F32)?, D::Minus1)?;
            Ok(weights.to_dtype(scores.dtype())?)
        }
        _ => Ok(candle_nn::ops::softmax_last_dim(scores)?),
    }
}

fn causal_mask(start: usize, rows: usize, keys: usize, dtype: DType, device: &Device) -> Result<Tensor> {
    let row = |i: usize| (0..keys).map(move |j| if j > start + i { f32::NEG_INFINITY } else { 0.0 });
    let values: Vec<f32> = (0..rows).flat_map(row).collect();
    Ok(Tensor::from_vec(values, (rows, keys), device)?.to_dtype(dtype)?)
}

/// An attention layer with its projections, as the UNet's transformer blocks have it.
#[derive(Debug)]
pub(crate) struct Attention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    heads: usize,
    precision: AttentionPrecision,
}

/// The type that attention is computed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttentionPrecision {
    /// That of the weights.
    Weights,
    /// f32, for networks whose scores overflow in shorter types.
    F32,
}

impl Attention {
    pub(crate) fn load(
        weights: &Weights<'_>,
        [width, source]: [usize; 2],
        heads: usize,
        precision: AttentionPrecision,
    ) -> Result<Self> {
        Ok(Self {
            precision,
            to_q: Linear::load_without_bias(&weights.part("to_q"), width, width)?,
            to_k: Linear::load_without_bias(&weights.part("to_k"), source, width)?,
            to_v: Linear::load_without_bias(&weights.part("to_v"), source, width)?,
            to_out: Linear::load(&weights.part("to_out.0"), width, width)?,
            heads,
        })
    }

    /// Attends from `x` to what the keys and values are made of: itself, or the text conditioning.
    pub(crate) fn forward(&self, x: &Tensor, keys: &Tensor, values: &Tensor) -> Result<Tensor> {
        self.to_out.forward(&self.mix(x, keys, values)?)
    }

    /// As [`Attention::forward`], added to `more`.
    pub(crate) fn forward_add(
        &self,
        x: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        more: &Tensor,
    ) -> Result<Tensor> {
        self.to_out.forward_add(&self.mix(x, keys, values)?, more)
    }

    fn mix(&self, x: &Tensor, keys: &Tensor, values: &Tensor) -> Result<Tensor> {
        let (q, k, v) = (self.to_q.forward(x)?, self.to_k.forward(keys)?, self.to_v.forward(values)?);
        match self.precision {
            AttentionPrecision::Weights => attention(&q, &k, &v, self.heads, Mask::None),
            AttentionPrecision::F32 => {
                let long = |x: &Tensor| x.to_dtype(DType::F32);
                let mixed = attention(&long(&q)?, &long(&k)?, &long(&v)?, self.heads, Mask::None)?;
                Ok(mixed.to_dtype(x.dtype())?)
            }
        }
    }

    /// As [`Attention::forward`], with every place looking at itself only.
    pub(crate) fn forward_identity(&self, values: &Tensor) -> Result<Tensor> {
        self.to_out.forward(&self.to_v.forward(values)?)
    }

    /// Sums up how much attention each place gets, as the mean over the heads.
    ///
    /// # Shapes
    /// `x` is `[B, Tq, C]` and `keys` `[B, Tk, C]`; the result is `[B, Tk]` in f32.
    pub(crate) fn received(&self, x: &Tensor, keys: &Tensor) -> Result<Tensor> {
        let (q, k) =
            (self.to_q.forward(x)?.to_dtype(DType::F32)?, self.to_k.forward(keys)?.to_dtype(DType::F32)?);
        let (batch, _, width) = q.dims3()?;
        let head = width / self.heads;
        let scale = 1.0 / (head as f64).sqrt();
        let mut rows = Vec::with_capacity(batch);
        for sample in 0..batch {
            let (q, k) = (q.get(sample)?, k.get(sample)?);
            let mut sum = Tensor::zeros(k.dim(0)?, DType::F32, q.device())?;
            // Head by head, so that one map of scores is held at a time.
            for at in (0..width).step_by(head) {
                let q = (q.narrow(1, at, head)?.contiguous()? * scale)?;
                let scores = q.matmul(&k.narrow(1, at, head)?.t()?.contiguous()?)?;
                sum = (sum + candle_nn::ops::softmax_last_dim(&scores)?.sum(0)?)?;
            }
            rows.push(sum.affine(1.0 / self.heads as f64, 0.0)?);
        }
        Ok(Tensor::stack(&rows, 0)?)
    }
}
