//! SwinIR: transformers over shifted windows between a few convolutions.

mod attention;
mod layout;

use candle_core::Tensor;

use super::mirror;
use crate::blocks::{Conv2d, ConvShape, LayerNorm, Linear, each, enlarge};
use crate::checkpoint::Weights;
use crate::error::Result;
use attention::{WindowAttention, Windows};
pub(super) use layout::Layout;
use layout::{Connection, Upsampling};

const IMAGE_CHANNELS: usize = 3;
/// The mean colour of the training pictures.
const MEAN: [f32; IMAGE_CHANNELS] = [0.4488, 0.4371, 0.4040];
const SLOPE: f64 = 0.2;
/// Behind the convolution before the enlargement.
const SMALL_SLOPE: f64 = 0.01;

/// The network of SwinIR.
///
/// # Source
/// Liang et al. 2021 (arXiv 2108.10257), the classical, lightweight and real-world networks.
#[derive(Debug)]
pub(super) struct SwinIr {
    first: Conv2d,
    norm_before: Option<LayerNorm>,
    groups: Vec<Group>,
    norm_after: LayerNorm,
    after_body: Chain,
    head: Head,
    layout: Layout,
}

impl SwinIr {
    pub(super) fn load(weights: &Weights<'_>, layout: Layout) -> Result<Self> {
        let dim = layout.dim;
        let first = if layout.fold > 1 { "conv_first.1" } else { "conv_first" };
        let inputs = IMAGE_CHANNELS * layout.fold * layout.fold;
        let group = |(i, heads): (usize, &Vec<usize>)| {
            Group::load(&weights.part(format_args!("layers.{i}")), &layout, heads)
        };
        let norm_before = weights.part("patch_embed.norm");
        Ok(Self {
            first: Conv2d::load(&weights.part(first), ConvShape::same(inputs, dim))?,
            norm_before: layout.norm_before.then(|| LayerNorm::load(&norm_before, dim)).transpose()?,
            groups: layout.groups.iter().enumerate().map(group).collect::<Result<_>>()?,
            norm_after: LayerNorm::load(&weights.part("norm"), dim)?,
            after_body: Chain::load(weights, "conv_after_body", layout.connection, dim)?,
            head: Head::load(weights, &layout)?,
            layout,
        })
    }

    pub(super) fn factor(&self) -> usize {
        self.layout.factor()
    }

    /// Width at the size of the result; attention at the size of the input counts as much as it is larger.
    pub(super) fn width(&self) -> usize {
        let attention = self.layout.dim * 10 / self.factor().pow(2);
        self.layout.upsampling.width().max(attention).max(IMAGE_CHANNELS)
    }

    pub(super) fn forward(&self, picture: &Tensor) -> Result<Tensor> {
        let Layout { window, fold, range, .. } = self.layout;
        let (_, _, height, width) = picture.dims4()?;
        let mean = Tensor::new(&MEAN, picture.device())?
            .reshape((1, IMAGE_CHANNELS, 1, 1))?
            .to_dtype(picture.dtype())?;
        let padded = mirror(picture, window * fold)?;
        let x = padded.broadcast_sub(&mean)?.affine(range, 0.0)?;
        let x = if fold > 1 { candle_nn::ops::pixel_unshuffle(&x.contiguous()?, fold)? } else { x };
        let features = self.first.forward(&x)?;
        let body = (self.after_body.forward(&self.body(&features)?)? + features)?;
        let y = self.head.forward(&body, &x)?;
        let y = y.affine(1.0 / range, 0.0)?.broadcast_add(&mean)?;
        // What grew out of the filling is cut away.
        Ok(y.narrow(2, 0, height * self.factor())?.narrow(3, 0, width * self.factor())?.contiguous()?)
    }

    fn body(&self, features: &Tensor) -> Result<Tensor> {
        let (_, _, height, width) = features.dims4()?;
        let windows = Windows::new([height, width], self.layout.window, features.device())?;
        let mut tokens = to_tokens(features)?;
        if let Some(norm) = &self.norm_before {
            tokens = norm.forward(&tokens)?;
        }
        for group in &self.groups {
            tokens = group.forward(&tokens, &windows)?;
        }
        to_map(&self.norm_after.forward(&tokens)?, [height, width])
    }
}

fn to_tokens(map: &Tensor) -> Result<Tensor> {
    Ok(map.flatten_from(2)?.transpose(1, 2)?.contiguous()?)
}

fn to_map(tokens: &Tensor, [height, width]: [usize; 2]) -> Result<Tensor> {
    let (batch, _, channels) = tokens.dims3()?;
    Ok(tokens.transpose(1, 2)?.reshape((batch, channels, height, width))?)
}

fn leaky(x: &Tensor, slope: f64) -> Result<Tensor> {
    each(x, |x| x.maximum(&(x * slope)?))
}

/// One convolution, or three with a bottleneck.
#[derive(Debug)]
struct Chain(Vec<Conv2d>);

impl Chain {
    fn load(weights: &Weights<'_>, name: &str, connection: Connection, dim: usize) -> Result<Self> {
        let conv = |name: String, shape| Conv2d::load(&weights.part(name), shape);
        Ok(Self(match connection {
            Connection::One => vec![conv(name.into(), ConvShape::same(dim, dim))?],
            Connection::Three => vec![
                conv(format!("{name}.0"), ConvShape::same(dim, dim / 4))?,
                conv(format!("{name}.2"), ConvShape::point(dim / 4, dim / 4))?,
                conv(format!("{name}.4"), ConvShape::same(dim / 4, dim))?,
            ],
        }))
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut y = x.clone();
        for (i, conv) in self.0.iter().enumerate() {
            y = conv.forward(&if i == 0 { y } else { leaky(&y, SLOPE)? })?;
        }
        Ok(y)
    }
}

/// Blocks with a convolution behind them, added to what they saw.
#[derive(Debug)]
struct Group {
    blocks: Vec<Block>,
    chain: Chain,
}

impl Group {
    fn load(weights: &Weights<'_>, layout: &Layout, heads: &[usize]) -> Result<Self> {
        let block = |(i, &heads): (usize, &usize)| {
            let weights = weights.part(format_args!("residual_group.blocks.{i}"));
            Block::load(&weights, layout, heads, i % 2 == 1)
        };
        Ok(Self {
            blocks: heads.iter().enumerate().map(block).collect::<Result<_>>()?,
            chain: Chain::load(weights, "conv", layout.connection, layout.dim)?,
        })
    }

    fn forward(&self, x: &Tensor, windows: &Windows) -> Result<Tensor> {
        let mut y = x.clone();
        for block in &self.blocks {
            y = block.forward(&y, windows)?;
        }
        Ok((to_tokens(&self.chain.forward(&to_map(&y, windows.size)?)?)? + x)?)
    }
}

/// Attention within windows and two linear layers, each added to what it saw.
#[derive(Debug)]
struct Block {
    norm1: LayerNorm,
    attention: WindowAttention,
    norm2: LayerNorm,
    up: Linear,
    down: Linear,
    shifted: bool,
}

impl Block {
    fn load(weights: &Weights<'_>, layout: &Layout, heads: usize, shifted: bool) -> Result<Self> {
        let &Layout { dim, mlp, window, .. } = layout;
        Ok(Self {
            norm1: LayerNorm::load(&weights.part("norm1"), dim)?,
            attention: WindowAttention::load(&weights.part("attn"), dim, heads, window)?,
            norm2: LayerNorm::load(&weights.part("norm2"), dim)?,
            up: Linear::load(&weights.part("mlp.fc1"), dim, mlp)?,
            down: Linear::load(&weights.part("mlp.fc2"), mlp, dim)?,
            shifted,
        })
    }

    fn forward(&self, x: &Tensor, windows: &Windows) -> Result<Tensor> {
        let x = (self.attention.forward(&self.norm1.forward(x)?, windows, self.shifted)? + x)?;
        let hidden = self.up.forward(&self.norm2.forward(&x)?)?.gelu_erf()?;
        Ok((self.down.forward(&hidden)? + x)?)
    }
}

/// What makes the picture of the features.
#[derive(Debug)]
enum Head {
    Shuffle {
        before: Conv2d,
        steps: Vec<(Conv2d, usize)>,
        last: Conv2d,
    },
    Direct {
        conv: Conv2d,
        factor: usize,
    },
    Nearest {
        before: Conv2d,
        doublings: Vec<Conv2d>,
        last: [Conv2d; 2],
    },
    /// The change to a picture that stays as large as it is.
    Change(Conv2d),
}

impl Head {
    fn load(weights: &Weights<'_>, layout: &Layout) -> Result<Self> {
        let dim = layout.dim;
        let conv =
            |name: &str, inputs, outputs| Conv2d::load(&weights.part(name), ConvShape::same(inputs, outputs));
        Ok(match &layout.upsampling {
            Upsampling::Shuffle { width, steps } => Self::Shuffle {
                before: conv("conv_before_upsample.0", dim, *width)?,
                steps: steps
                    .iter()
                    .enumerate()
                    .map(|(i, &by)| Ok((conv(&format!("upsample.{}", 2 * i), *width, by * by * width)?, by)))
                    .collect::<Result<_>>()?,
                last: conv("conv_last", *width, IMAGE_CHANNELS)?,
            },
            &Upsampling::Direct { factor } => {
                Self::Direct { conv: conv("upsample.0", dim, factor * factor * IMAGE_CHANNELS)?, factor }
            }
            &Upsampling::Nearest { width, doublings } => Self::Nearest {
                before: conv("conv_before_upsample.0", dim, width)?,
                doublings: (1..=doublings)
                    .map(|i| conv(&format!("conv_up{i}"), width, width))
                    .collect::<Result<_>>()?,
                last: [conv("conv_hr", width, width)?, conv("conv_last", width, IMAGE_CHANNELS)?],
            },
            Upsampling::None => Self::Change(conv("conv_last", dim, IMAGE_CHANNELS)?),
        })
    }

    fn forward(&self, features: &Tensor, picture: &Tensor) -> Result<Tensor> {
        let shuffle = |x: Tensor, by| Ok::<_, crate::Error>(candle_nn::ops::pixel_shuffle(&x, by)?);
        match self {
            Self::Shuffle { before, steps, last } => {
                let mut x = leaky(&before.forward(features)?, SMALL_SLOPE)?;
                for (conv, by) in steps {
                    x = shuffle(conv.forward(&x)?, *by)?;
                }
                last.forward(&x)
            }
            Self::Direct { conv, factor } => shuffle(conv.forward(features)?, *factor),
            Self::Nearest { before, doublings, last: [hidden, last] } => {
                let mut x = leaky(&before.forward(features)?, SMALL_SLOPE)?;
                for conv in doublings {
                    let (_, _, h, w) = x.dims4()?;
                    x = leaky(&conv.forward(&enlarge(&x, 2 * h, 2 * w)?)?, SLOPE)?;
                }
                last.forward(&leaky(&hidden.forward(&x)?, SLOPE)?)
            }
            Self::Change(conv) => Ok((conv.forward(features)? + picture)?),
        }
    }
}
