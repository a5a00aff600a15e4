//! The elementary layers, loaded by name and checked by shape.

use candle_core::{D, DType, Tensor};
use comfy_kernels::{Addend, ConvSizes, FusedGroupNorm, FusedLayerNorm, PackedConv, PackedLinear, takes};

use crate::checkpoint::Weights;
use crate::error::Result;

/// `y = x W^T + b` on the last dimension.
#[derive(Debug)]
pub(crate) struct Linear(Stored<PackedLinear>);

/// Weights in the order that the CPU's f32 operators want, or as candle's take them.
#[derive(Debug)]
enum Stored<T> {
    Packed(Box<T>),
    Plain { weight: Tensor, bias: Option<Tensor> },
}

impl Linear {
    pub(crate) fn load(weights: &Weights<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        let weight = weights.get("weight", &[outputs, inputs])?;
        Self::of(weights, weight, Some(weights.get("bias", &[outputs])?))
    }

    pub(crate) fn load_without_bias(weights: &Weights<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        Self::of(weights, weights.get("weight", &[outputs, inputs])?, None)
    }

    /// Takes a weight `[outputs, inputs]` and a bias that were loaded from `weights`, whole or in part.
    pub(crate) fn of(weights: &Weights<'_>, weight: Tensor, bias: Option<Tensor>) -> Result<Self> {
        if !takes(&weight) {
            return Ok(Self(Stored::Plain { weight, bias }));
        }
        let plain = 4 * (weight.elem_count() + bias.as_ref().map_or(0, Tensor::elem_count));
        let packed = PackedLinear::new(&weight, bias.as_ref())?;
        weights.repacked(plain, packed.bytes());
        Ok(Self(Stored::Packed(Box::new(packed))))
    }

    /// # Shapes
    /// `[.., inputs]` to `[.., outputs]`, for two or three dimensions in any memory order.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (weight, bias) = match &self.0 {
            Stored::Packed(layer) if x.rank() == 2 => {
                return Ok(layer.forward(&x.unsqueeze(0)?)?.squeeze(0)?);
            }
            Stored::Packed(layer) => return Ok(layer.forward(x)?),
            Stored::Plain { weight, bias } => (weight, bias),
        };
        let transposed = weight.t()?;
        let y = match *x.dims() {
            [batch, rows, inputs] if x.is_contiguous() => {
                x.reshape((batch * rows, inputs))?.matmul(&transposed)?.reshape((batch, rows, ()))?
            }
            [batch, ..] if x.rank() == 3 => x.matmul(&transposed.broadcast_left(batch)?)?,
            _ => x.matmul(&transposed)?,
        };
        Ok(match bias {
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        })
    }

    /// As [`Linear::forward`], added to `more` `[B, T, outputs]`.
    pub(crate) fn forward_add(&self, x: &Tensor, more: &Tensor) -> Result<Tensor> {
        match &self.0 {
            Stored::Packed(layer) if x.rank() == 3 => Ok(layer.forward_add(x, more)?),
            _ => Ok((self.forward(x)? + more)?),
        }
    }

    /// Multiplies the first half of the result by the exact (erf) GELU of the second half.
    pub(crate) fn forward_geglu(&self, x: &Tensor) -> Result<Tensor> {
        if let (Stored::Packed(layer), 3) = (&self.0, x.rank()) {
            return Ok(layer.forward_geglu(x)?);
        }
        let halves = self.forward(x)?.chunk(2, D::Minus1)?;
        Ok((&halves[0] * halves[1].contiguous()?.gelu_erf()?)?)
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
    layer: Stored<PackedConv>,
    shape: ConvShape,
}

impl Conv2d {
    pub(crate) fn load(weights: &Weights<'_>, shape: ConvShape) -> Result<Self> {
        Self::with_bias(weights, shape, true)
    }

    pub(crate) fn load_without_bias(weights: &Weights<'_>, shape: ConvShape) -> Result<Self> {
        Self::with_bias(weights, shape, false)
    }

    fn with_bias(weights: &Weights<'_>, shape: ConvShape, biased: bool) -> Result<Self> {
        let ConvShape { inputs, outputs, kernel, stride, padding } = shape;
        let weight = weights.get("weight", &[outputs, inputs, kernel, kernel])?;
        let bias = biased.then(|| weights.get("bias", &[outputs])).transpose()?;
        if !takes(&weight) {
            return Ok(Self { layer: Stored::Plain { weight, bias }, shape });
        }
        let plain = 4 * (weight.elem_count() + bias.as_ref().map_or(0, Tensor::elem_count));
        let bias = bias.map_or_else(|| Tensor::zeros(outputs, DType::F32, weight.device()), Ok)?;
        let layer = PackedConv::new(&weight, &bias, ConvSizes { stride, padding })?;
        weights.repacked(plain, layer.bytes());
        Ok(Self { layer: Stored::Packed(Box::new(layer)), shape })
    }

    /// # Shapes
    /// `[B, inputs, H, W]` to `[B, outputs, H', W']`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.layer {
            Stored::Packed(layer) => Ok(layer.forward(x, Addend::Nothing)?),
            Stored::Plain { weight, bias } => {
                let ConvShape { stride, padding, outputs, .. } = self.shape;
                let y = x.conv2d(weight, padding, stride, 1, 1)?;
                Ok(match bias {
                    Some(bias) => y.broadcast_add(&bias.reshape((1, outputs, 1, 1))?)?,
                    None => y,
                })
            }
        }
    }

    /// As [`Conv2d::forward`], added to a map of the result's shape.
    pub(crate) fn forward_add(&self, x: &Tensor, map: &Tensor) -> Result<Tensor> {
        match &self.layer {
            Stored::Packed(layer) => Ok(layer.forward(x, Addend::Map(map))?),
            Stored::Plain { .. } => Ok((map + self.forward(x)?)?),
        }
    }

    /// As [`Conv2d::forward`], with `channels` `[B, outputs]` added to every pixel.
    pub(crate) fn forward_shifted(&self, x: &Tensor, channels: &Tensor) -> Result<Tensor> {
        match &self.layer {
            Stored::Packed(layer) => Ok(layer.forward(x, Addend::Channels(&channels.contiguous()?))?),
            Stored::Plain { .. } => {
                Ok(self.forward(x)?.broadcast_add(&channels.unsqueeze(2)?.unsqueeze(3)?)?)
            }
        }
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
        if takes(x) {
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
        if takes(x) {
            return self.fused(x, true);
        }
        Ok(self.forward(x)?.silu()?)
    }

    fn fused(&self, x: &Tensor, silu: bool) -> Result<Tensor> {
        let op = FusedGroupNorm { groups: self.groups, eps: self.eps, silu };
        Ok(op.forward(x, &self.weight, &self.bias)?)
    }
}

/// Layer normalisation over the last dimension.
#[derive(Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    const EPS: f64 = 1e-5;

    pub(crate) fn load(weights: &Weights<'_>, width: usize) -> Result<Self> {
        Ok(Self { weight: weights.get("weight", &[width])?, bias: weights.get("bias", &[width])? })
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.contiguous()?;
        if takes(&x) {
            return Ok(x.apply_op3_no_bwd(&self.weight, &self.bias, &FusedLayerNorm { eps: Self::EPS })?);
        }
        Ok(candle_nn::ops::layer_norm(&x, &self.weight, &self.bias, Self::EPS as f32)?)
    }
}
