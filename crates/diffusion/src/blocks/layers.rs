//! The elementary layers, loaded by name and checked by shape.

use candle_core::{DType, Tensor};

use super::cpu::{self, FusedConv2d, FusedGroupNorm, FusedLinear};
use crate::checkpoint::Weights;
use crate::error::Result;

/// `y = x W^T + b` on the last dimension.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    pub(crate) fn load(weights: &Weights<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        let weight = weights.get("weight", &[outputs, inputs])?;
        Ok(Self { weight, bias: Some(weights.get("bias", &[outputs])?) })
    }

    pub(crate) fn load_without_bias(weights: &Weights<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        Ok(Self { weight: weights.get("weight", &[outputs, inputs])?, bias: None })
    }

    /// Takes a weight `[outputs, inputs]` and a bias that are loaded already.
    pub(crate) fn from_tensors(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias }
    }

    /// # Shapes
    /// `[.., inputs]` to `[.., outputs]`, for two or three dimensions in any memory order.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if let (3, true, Some(bias)) = (x.rank(), cpu::takes(x), &self.bias) {
            return Ok(x.apply_op3_no_bwd(&self.weight, bias, &FusedLinear)?);
        }
        let transposed = self.weight.t()?;
        let y = match *x.dims() {
            [batch, rows, inputs] if x.is_contiguous() => {
                x.reshape((batch * rows, inputs))?.matmul(&transposed)?.reshape((batch, rows, ()))?
            }
            [batch, ..] if x.rank() == 3 => x.matmul(&transposed.broadcast_left(batch)?)?,
            _ => x.matmul(&transposed)?,
        };
        Ok(match &self.bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        })
    }
}

/// Shape of a convolution's weight and how it moves over its input.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConvShape {
    pub inputs: usize,
    pub outputs: usize,
    pub kernel: usize,
    pub stride: usize,
    pub padding: usize,
}

impl ConvShape {
    /// A 3x3 convolution that keeps the size.
    pub(crate) fn same(inputs: usize, outputs: usize) -> Self {
        Self { inputs, outputs, kernel: 3, stride: 1, padding: 1 }
    }

    /// A 1x1 convolution.
    pub(crate) fn point(inputs: usize, outputs: usize) -> Self {
        Self { inputs, outputs, kernel: 1, stride: 1, padding: 0 }
    }
}

/// A two-dimensional convolution with bias.
#[derive(Debug)]
pub(crate) struct Conv2d {
    weight: Tensor,
    bias: Tensor,
    shape: ConvShape,
}

impl Conv2d {
    pub(crate) fn load(weights: &Weights<'_>, shape: ConvShape) -> Result<Self> {
        let ConvShape { inputs, outputs, kernel, .. } = shape;
        let weight = weights.get("weight", &[outputs, inputs, kernel, kernel])?;
        Ok(Self { weight, bias: weights.get("bias", &[outputs])?, shape })
    }

    pub(crate) fn load_without_bias(weights: &Weights<'_>, shape: ConvShape) -> Result<Self> {
        let ConvShape { inputs, outputs, kernel, .. } = shape;
        let weight = weights.get("weight", &[outputs, inputs, kernel, kernel])?;
        let bias = Tensor::zeros(outputs, weight.dtype(), weight.device())?;
        Ok(Self { weight, bias, shape })
    }

    /// # Shapes
    /// `[B, inputs, H, W]` to `[B, outputs, H', W']`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let ConvShape { stride, padding, .. } = self.shape;
        if cpu::takes(x) {
            let op = FusedConv2d { stride, padding };
            return Ok(x.contiguous()?.apply_op3_no_bwd(&self.weight, &self.bias, &op)?);
        }
        let y = x.conv2d(&self.weight, padding, stride, 1, 1)?;
        Ok(y.broadcast_add(&self.bias.reshape((1, self.shape.outputs, 1, 1))?)?)
    }
}

/// Group normalisation over channels and pixels, with an optional SiLU on the result.
#[derive(Debug)]
pub(crate) struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    eps: f64,
}

impl GroupNorm {
    pub(crate) fn load(weights: &Weights<'_>, channels: usize, eps: f64) -> Result<Self> {
        let groups = crate::checkpoint::NORM_GROUPS;
        let weight = weights.get("weight", &[channels])?;
        Ok(Self { weight, bias: weights.get("bias", &[channels])?, groups, eps })
    }

    /// # Shapes
    /// `[B, C, H, W]` to the same.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if cpu::takes(x) {
            return self.fused(x, false);
        }
        let (batch, channels, height, width) = x.dims4()?;
        let grouped = x.reshape((batch, self.groups, ()))?.to_dtype(DType::F32)?;
        let centred = grouped.broadcast_sub(&grouped.mean_keepdim(2)?)?;
        let variance = centred.sqr()?.mean_keepdim(2)?;
        let normed = centred.broadcast_div(&(variance + self.eps)?.sqrt()?)?.to_dtype(x.dtype())?;
        Ok(normed
            .reshape((batch, channels, height, width))?
            .broadcast_mul(&self.weight.reshape((1, channels, 1, 1))?)?
            .broadcast_add(&self.bias.reshape((1, channels, 1, 1))?)?)
    }

    /// Normalises, then applies SiLU.
    pub(crate) fn forward_silu(&self, x: &Tensor) -> Result<Tensor> {
        if cpu::takes(x) {
            return self.fused(x, true);
        }
        Ok(self.forward(x)?.silu()?)
    }

    fn fused(&self, x: &Tensor, silu: bool) -> Result<Tensor> {
        let op = FusedGroupNorm { groups: self.groups, eps: self.eps, silu };
        Ok(x.contiguous()?.apply_op3_no_bwd(&self.weight, &self.bias, &op)?)
    }
}

/// Layer normalisation over the last dimension.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    const EPS: f32 = 1e-5;

    pub(crate) fn load(weights: &Weights<'_>, width: usize) -> Result<Self> {
        Ok(Self { weight: weights.get("weight", &[width])?, bias: weights.get("bias", &[width])? })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(candle_nn::ops::layer_norm(&x.contiguous()?, &self.weight, &self.bias, Self::EPS)?)
    }
}
