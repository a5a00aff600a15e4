//! Attention within the windows of a feature map.

use candle_core::{Device, Tensor};

use crate::blocks::Linear;
use crate::checkpoint::Weights;
use crate::error::Result;

/// Scores between tokens of different regions that only meet because the map was rolled.
const APART: f32 = -100.0;
/// Scores held at once.
const MAX_SCORES: usize = 1 << 23;

/// How a map is cut into windows.
#[derive(Debug)]
pub(super) struct Windows {
    /// Height and width of the map, multiples of the window.
    pub size: [usize; 2],
    window: usize,
    /// Which tokens of a window of the rolled map belong together: `[windows, tokens, tokens]`.
    mask: Tensor,
}

impl Windows {
    pub(super) fn new(size: [usize; 2], window: usize, device: &Device) -> Result<Self> {
        let [height, width] = size;
        let shift = window / 2;
        let region =
            |at: usize, side: usize| usize::from(at >= side - window) + usize::from(at >= side - shift);
        let place = |row: usize, column: usize, token: usize| {
            let (y, x) = (row * window + token / window, column * window + token % window);
            3 * region(y, height) + region(x, width)
        };
        let tokens = window * window;
        let mut values = Vec::with_capacity(height * width * tokens);
        for row in 0..height / window {
            for column in 0..width / window {
                let places: Vec<usize> = (0..tokens).map(|token| place(row, column, token)).collect();
                let apart = |a: &usize, b: &usize| if a == b { 0.0 } else { APART };
                values.extend(places.iter().flat_map(|a| places.iter().map(move |b| apart(a, b))));
            }
        }
        let count = (height / window) * (width / window);
        Ok(Self { size, window, mask: Tensor::from_vec(values, (count, tokens, tokens), device)? })
    }

    /// `[B, H W, C]` to `[B windows, tokens, C]`, rolled by half a window where `shifted`.
    fn cut(&self, x: &Tensor, shifted: bool) -> Result<Tensor> {
        let ([height, width], window) = (self.size, self.window);
        let (batch, _, channels) = x.dims3()?;
        let mut x = x.reshape((batch, height, width, channels))?;
        if shifted {
            x = roll(&roll(&x, 1, window / 2)?, 2, window / 2)?;
        }
        let (rows, columns) = (height / window, width / window);
        let cut = x.reshape(&[batch, rows, window, columns, window, channels][..])?;
        let cut = cut.permute(vec![0, 1, 3, 2, 4, 5])?;
        Ok(cut.reshape((batch * rows * columns, window * window, channels))?)
    }

    fn join(&self, windows: &Tensor, shifted: bool) -> Result<Tensor> {
        let ([height, width], window) = (self.size, self.window);
        let (count, _, channels) = windows.dims3()?;
        let (rows, columns) = (height / window, width / window);
        let batch = count / (rows * columns);
        let x = windows.reshape(&[batch, rows, columns, window, window, channels][..])?;
        let mut x = x.permute(vec![0, 1, 3, 2, 4, 5])?.reshape((batch, height, width, channels))?;
        if shifted {
            x = roll(&roll(&x, 1, height - window / 2)?, 2, width - window / 2)?;
        }
        Ok(x.reshape((batch, height * width, channels))?)
    }
}

/// Moves a map by so many places towards its start; what leaves comes in at the end.
fn roll(x: &Tensor, dim: usize, by: usize) -> Result<Tensor> {
    let size = x.dim(dim)?;
    Ok(Tensor::cat(&[&x.narrow(dim, by, size - by)?, &x.narrow(dim, 0, by)?], dim)?)
}

/// Attention within windows, with a bias by where tokens are to each other.
#[derive(Debug)]
pub(super) struct WindowAttention {
    qkv: Linear,
    out: Linear,
    /// `[1, heads, tokens, tokens]`.
    bias: Tensor,
    heads: usize,
}

impl WindowAttention {
    pub(super) fn load(weights: &Weights<'_>, dim: usize, heads: usize, window: usize) -> Result<Self> {
        let span = 2 * window - 1;
        let table = weights.get("relative_position_bias_table", &[span * span, heads])?;
        let tokens = window * window;
        let index: Vec<u32> = (0..tokens * tokens)
            .map(|i| {
                let (a, b) = (i / tokens, i % tokens);
                let row = a / window + window - 1 - b / window;
                let column = a % window + window - 1 - b % window;
                (row * span + column) as u32
            })
            .collect();
        let index = Tensor::new(index, table.device())?;
        let bias = table.index_select(&index, 0)?.t()?.reshape((1, heads, tokens, tokens))?;
        Ok(Self {
            qkv: Linear::load(&weights.part("qkv"), dim, 3 * dim)?,
            out: Linear::load(&weights.part("proj"), dim, dim)?,
            bias: bias.contiguous()?,
            heads,
        })
    }

    /// # Shapes
    /// `[B, H W, C]` to the same.
    pub(super) fn forward(&self, x: &Tensor, windows: &Windows, shifted: bool) -> Result<Tensor> {
        let cut = windows.cut(x, shifted)?;
        let (count, tokens, dim) = cut.dims3()?;
        let per_picture = windows.mask.dim(0)?;
        let at_once = (MAX_SCORES / (self.heads * tokens * tokens)).clamp(1, per_picture);
        let mut parts = Vec::new();
        // A picture at a time, so that a run of windows has a run of the mask.
        for picture in (0..count).step_by(per_picture) {
            for from in (0..per_picture).step_by(at_once) {
                let some = at_once.min(per_picture - from);
                let mask = shifted.then(|| windows.mask.narrow(0, from, some)).transpose()?;
                parts.push(self.attend(&cut.narrow(0, picture + from, some)?, mask.as_ref())?);
            }
        }
        let mixed = Tensor::cat(&parts, 0)?.reshape((count, tokens, dim))?;
        windows.join(&self.out.forward(&mixed)?, shifted)
    }

    fn attend(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let (count, tokens, dim) = x.dims3()?;
        let width = dim / self.heads;
        let qkv = self.qkv.forward(&x.contiguous()?)?.reshape((count, tokens, 3, self.heads, width))?;
        let part = |i: usize| -> Result<Tensor> {
            Ok(qkv.narrow(2, i, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous()?)
        };
        let q = (part(0)? * (1.0 / (width as f64).sqrt()))?;
        let mut scores = q.matmul(&part(1)?.transpose(2, 3)?.contiguous()?)?.broadcast_add(&self.bias)?;
        if let Some(mask) = mask {
            scores = scores.broadcast_add(&mask.unsqueeze(1)?.to_dtype(scores.dtype())?)?;
        }
        let mixed = candle_nn::ops::softmax_last_dim(&scores)?.matmul(&part(2)?)?;
        Ok(mixed.transpose(1, 2)?.reshape((count, tokens, dim))?)
    }
}
