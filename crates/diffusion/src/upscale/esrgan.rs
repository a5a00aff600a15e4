//! ESRGAN: residual-in-residual dense blocks, then nearest-neighbour doublings.

use candle_core::Tensor;

use super::mirror;
use crate::blocks::{Conv2d, ConvShape, add, each, enlarge, join};
use crate::checkpoint::Weights;
use crate::error::Result;

/// Share of a block's output that is added to its input.
const RESIDUAL: f64 = 0.2;
const SLOPE: f64 = 0.2;
const IMAGE_CHANNELS: usize = 3;
/// More blocks or doublings than any network has.
const MAX_BLOCKS: usize = 256;

/// The three ways of naming the same layers.
#[derive(Debug, Clone, Copy)]
enum Naming {
    /// Real-ESRGAN and BasicSR.
    New,
    /// The original release, layers numbered.
    Old,
    /// BSRGAN.
    Trunk,
}

impl Naming {
    const ALL: [Self; 3] = [Self::New, Self::Old, Self::Trunk];

    fn first(self) -> &'static str {
        if matches!(self, Self::Old) { "model.0" } else { "conv_first" }
    }

    fn dense(self, block: usize, unit: usize, conv: usize) -> String {
        match self {
            Self::New => format!("body.{block}.rdb{unit}.conv{conv}"),
            Self::Old => format!("model.1.sub.{block}.RDB{unit}.conv{conv}.0"),
            Self::Trunk => format!("RRDB_trunk.{block}.RDB{unit}.conv{conv}"),
        }
    }

    fn after_body(self, blocks: usize) -> String {
        match self {
            Self::New => "conv_body".into(),
            Self::Old => format!("model.1.sub.{blocks}"),
            Self::Trunk => "trunk_conv".into(),
        }
    }

    fn doubling(self, i: usize) -> String {
        match self {
            Self::New => format!("conv_up{}", i + 1),
            Self::Old => format!("model.{}", 3 * (i + 1)),
            Self::Trunk => format!("upconv{}", i + 1),
        }
    }

    fn last(self, doublings: usize) -> [String; 2] {
        match self {
            Self::New => ["conv_hr".into(), "conv_last".into()],
            Self::Old => [format!("model.{}", 3 * doublings + 2), format!("model.{}", 3 * doublings + 4)],
            Self::Trunk => ["HRconv".into(), "conv_last".into()],
        }
    }
}

/// Sizes of a network.
#[derive(Debug)]
pub(super) struct Layout {
    naming: Naming,
    blocks: usize,
    width: usize,
    growth: usize,
    doublings: usize,
    /// Pixels along a side that are folded into channels before the first layer.
    fold: usize,
}

impl Layout {
    /// Reads the layout; `None` if this is another architecture.
    pub(super) fn detect<'a>(shape: &impl Fn(&str) -> Option<&'a [usize]>) -> Result<Option<Self>, String> {
        let weight = |name: &str| shape(&format!("{name}.weight"));
        let has_body = |naming: &Naming| weight(&naming.dense(0, 1, 1)).is_some();
        let Some(naming) = Naming::ALL.into_iter().find(has_body) else { return Ok(None) };
        let (Some(&[width, inputs, ..]), Some(&[growth, ..])) =
            (weight(naming.first()), weight(&naming.dense(0, 1, 1)))
        else {
            return Err(format!("`{}.weight` is missing or misshapen", naming.first()));
        };
        let fold = match inputs {
            3 => 1,
            12 => 2,
            48 => 4,
            other => return Err(format!("an ESRGAN with {other} input channels, expected 3, 12 or 48")),
        };
        let count = |there: &dyn Fn(usize) -> bool| (0..MAX_BLOCKS).take_while(|&i| there(i)).count();
        let blocks = count(&|i| weight(&naming.dense(i, 1, 1)).is_some());
        // In the numbered layout the last two layers also have numbers, but not at multiples of three.
        let doublings = count(&|i| weight(&naming.doubling(i)).is_some());
        if 1usize << doublings < fold {
            return Err(format!("an ESRGAN that folds by {fold} and enlarges by {} only", 1 << doublings));
        }
        Ok(Some(Self { naming, blocks, width, growth, doublings, fold }))
    }
}

#[derive(Debug)]
struct DenseUnit([Conv2d; 5]);

impl DenseUnit {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [first @ .., last] = &self.0;
        let mut features = x.clone();
        for conv in first {
            features = join(&features, &leaky(&conv.forward(&features)?)?)?;
        }
        add(x, &each(&last.forward(&features)?, |y| y * RESIDUAL)?)
    }
}

/// The network of the ESRGAN line.
///
/// # Source
/// Wang et al. 2018 (arXiv 1809.00219), with the pixel-unshuffled input of Real-ESRGAN (arXiv 2107.10833).
#[derive(Debug)]
pub(super) struct Esrgan {
    first: Conv2d,
    blocks: Vec<[DenseUnit; 3]>,
    after_body: Conv2d,
    doublings: Vec<Conv2d>,
    last: [Conv2d; 2],
    fold: usize,
    width: usize,
}

impl Esrgan {
    pub(super) fn load(weights: &Weights<'_>, layout: &Layout) -> Result<Self> {
        let &Layout { naming, blocks, width, growth, doublings, fold } = layout;
        let conv = |name: String, inputs, outputs| {
            Conv2d::load(&weights.part(name), ConvShape::same(inputs, outputs))
        };
        let unit = |block: usize, unit: usize| -> Result<DenseUnit> {
            let at = |i: usize| {
                let outputs = if i == 5 { width } else { growth };
                conv(naming.dense(block, unit, i), width + (i - 1) * growth, outputs)
            };
            Ok(DenseUnit([at(1)?, at(2)?, at(3)?, at(4)?, at(5)?]))
        };
        let block = |i: usize| -> Result<[DenseUnit; 3]> { Ok([unit(i, 1)?, unit(i, 2)?, unit(i, 3)?]) };
        let [before_last, last] = naming.last(doublings);
        Ok(Self {
            first: conv(naming.first().into(), IMAGE_CHANNELS * fold * fold, width)?,
            blocks: (0..blocks).map(block).collect::<Result<_>>()?,
            after_body: conv(naming.after_body(blocks), width, width)?,
            doublings: (0..doublings)
                .map(|i| conv(naming.doubling(i), width, width))
                .collect::<Result<_>>()?,
            last: [conv(before_last, width, width)?, conv(last, width, IMAGE_CHANNELS)?],
            fold,
            width,
        })
    }

    pub(super) fn factor(&self) -> usize {
        (1 << self.doublings.len()) / self.fold
    }

    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn forward(&self, picture: &Tensor) -> Result<Tensor> {
        let (_, _, height, width) = picture.dims4()?;
        let x = if self.fold > 1 { fold(picture, self.fold)? } else { picture.clone() };
        let features = self.first.forward(&x)?;
        let mut body = features.clone();
        for units in &self.blocks {
            let mut inner = body.clone();
            for unit in units {
                inner = unit.forward(&inner)?;
            }
            body = add(&body, &each(&inner, |inner| inner * RESIDUAL)?)?;
        }
        let mut x = add(&features, &self.after_body.forward(&body)?)?;
        for conv in &self.doublings {
            let (_, _, h, w) = x.dims4()?;
            x = leaky(&conv.forward(&enlarge(&x, 2 * h, 2 * w)?)?)?;
        }
        let [before_last, last] = &self.last;
        let y = last.forward(&leaky(&before_last.forward(&x)?)?)?;
        // Folding fills up sides that it does not divide; what grew out of the filling is cut away.
        Ok(y.narrow(2, 0, height * self.factor())?.narrow(3, 0, width * self.factor())?.contiguous()?)
    }
}

fn leaky(x: &Tensor) -> Result<Tensor> {
    each(x, |x| x.maximum(&(x * SLOPE)?))
}

/// Folds squares of `by` pixels into channels, after mirroring sides up to a multiple of `by`.
fn fold(picture: &Tensor, by: usize) -> Result<Tensor> {
    Ok(candle_nn::ops::pixel_unshuffle(&mirror(picture, by)?.contiguous()?, by)?)
}
