//! T2I-adapters: small networks that see only the picture.

use candle_core::{DType, Tensor};

use super::hint::DOWNSCALE;
use crate::blocks::{ControlSignals, Conv2d, ConvShape};
use crate::checkpoint::control_names::ADAPTER_PREFIX;
use crate::checkpoint::{CheckpointHeader, InputBlock, Shapes, UnetConfig, Weights};
use crate::error::Result;

const LEVELS: usize = 4;
const BLOCKS_PER_LEVEL: usize = 2;

/// The layout of a T2I-adapter.
pub(super) struct AdapterLayout {
    /// Where its tensors stand.
    pub prefix: &'static str,
    /// Side of the squares of pixels that become channels: 16 for those of SDXL, else 8.
    unshuffle: usize,
    /// Channels of the picture.
    channels: usize,
    /// Width of every level.
    widths: [usize; LEVELS],
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    /// Blocks as wide as their level; `kernel` is that of every second convolution.
    Full { kernel: usize, strided: bool },
    /// Narrow blocks between convolutions of one pixel.
    Light { blocks: usize },
}

impl AdapterLayout {
    /// Reads the layout; none if the file holds no adapter.
    pub(super) fn read(header: &CheckpointHeader) -> Result<Option<Self>, String> {
        for prefix in ["", ADAPTER_PREFIX] {
            let shapes = Shapes { header, prefix };
            if shapes.has("body.0.in_conv.weight") && shapes.has("body.0.out_conv.weight") {
                return Self::read_light(&shapes, prefix).map(Some);
            }
            if shapes.has("conv_in.weight") && shapes.has("body.0.block1.weight") {
                return Self::read_full(&shapes, prefix).map(Some);
            }
        }
        Ok(None)
    }

    fn read_light(shapes: &Shapes<'_>, prefix: &'static str) -> Result<Self, String> {
        let [_, inputs, ..] = shapes.need::<4>("body.0.in_conv.weight")?;
        let mut widths = [0; LEVELS];
        for (level, width) in widths.iter_mut().enumerate() {
            [*width, ..] = shapes.need::<4>(&format!("body.{level}.out_conv.weight"))?;
        }
        let blocks = shapes.count(|i| format!("body.0.body.{i}.block1.weight"));
        let (unshuffle, channels) = (8, inputs / 64);
        check_inputs(inputs, unshuffle)?;
        Ok(Self { prefix, unshuffle, channels, widths, kind: Kind::Light { blocks } })
    }

    fn read_full(shapes: &Shapes<'_>, prefix: &'static str) -> Result<Self, String> {
        let [_, inputs, ..] = shapes.need::<4>("conv_in.weight")?;
        let mut widths = [0; LEVELS];
        for (level, width) in widths.iter_mut().enumerate() {
            [*width, ..] = shapes.need::<4>(&format!("body.{}.block1.weight", level * BLOCKS_PER_LEVEL))?;
        }
        let [.., kernel] = shapes.need::<4>("body.0.block2.weight")?;
        if kernel.is_multiple_of(2) {
            return Err(format!("its convolutions are {kernel} pixels wide, which is not odd"));
        }
        let strided = shapes.header.keys().any(|key| key.ends_with("down_opt.op.weight"));
        // Grey or coloured pictures, cut into squares of 16 pixels a side.
        let unshuffle = if inputs == 256 || inputs == 768 { 16 } else { 8 };
        check_inputs(inputs, unshuffle)?;
        let channels = inputs / (unshuffle * unshuffle);
        Ok(Self { prefix, unshuffle, channels, widths, kind: Kind::Full { kernel, strided } })
    }
}

fn check_inputs(inputs: usize, unshuffle: usize) -> Result<(), String> {
    let square = unshuffle * unshuffle;
    match inputs > 0 && inputs.is_multiple_of(square) {
        true => Ok(()),
        false => Err(format!("{inputs} channels are no pictures cut into squares of {square} pixels")),
    }
}

/// A T2I-adapter.
///
/// # Source
/// Mou et al. 2023 (arXiv 2302.08453), section 3.2.
#[derive(Debug)]
pub(super) struct T2iAdapter {
    unshuffle: usize,
    channels: usize,
    widths: [usize; LEVELS],
    stem: Option<Conv2d>,
    levels: Vec<Level>,
}

/// The blocks of one size.
#[derive(Debug)]
struct Level {
    down: Option<Down>,
    input: Option<Conv2d>,
    blocks: Vec<[Conv2d; 2]>,
    output: Option<Conv2d>,
}

#[derive(Debug)]
enum Down {
    Mean,
    Convolution(Conv2d),
}

impl T2iAdapter {
    pub(super) fn load(weights: &Weights<'_>, layout: AdapterLayout) -> Result<Self> {
        let AdapterLayout { unshuffle, channels, widths, kind, .. } = layout;
        let inputs = channels * unshuffle * unshuffle;
        let (stem, levels) = match kind {
            Kind::Full { kernel, strided } => {
                let stem = Conv2d::load(&weights.part("conv_in"), ConvShape::same(inputs, widths[0]))?;
                let level = |i: usize| {
                    let narrow = widths[i.saturating_sub(1)];
                    // Those for SDXL start at half the size and halve it once.
                    let down = if unshuffle == 16 { i == 2 } else { i > 0 };
                    load_full(weights, i, [narrow, widths[i]], (kernel, down.then_some(strided)))
                };
                (Some(stem), (0..LEVELS).map(level).collect::<Result<_>>()?)
            }
            Kind::Light { blocks } => {
                let level = |i: usize| {
                    let narrow = if i == 0 { inputs } else { widths[i - 1] };
                    load_light(&weights.part(format_args!("body.{i}")), i > 0, [narrow, widths[i]], blocks)
                };
                (None, (0..LEVELS).map(level).collect::<Result<_>>()?)
            }
        };
        Ok(Self { unshuffle, channels, widths, stem, levels })
    }

    /// Channels of the picture.
    pub(super) fn picture_channels(&self) -> usize {
        self.channels
    }

    /// The size that a picture is brought to for a latent of this size.
    pub(super) fn picture_size(&self, latent: [usize; 2]) -> [usize; 2] {
        latent.map(|side| (side * DOWNSCALE).next_multiple_of(self.unshuffle))
    }

    /// Where the features of each level are added: behind which block, or in the middle.
    fn places(&self) -> [Option<usize>; LEVELS] {
        match self.unshuffle {
            16 => [Some(3), Some(5), Some(8), None],
            _ => [Some(2), Some(5), Some(8), Some(11)],
        }
    }

    /// How often each level is half as large as the latent.
    fn halvings(&self) -> [u32; LEVELS] {
        match self.unshuffle {
            16 => [1, 1, 2, 2],
            _ => [0, 1, 2, 3],
        }
    }

    /// Says how the adapter differs from what a UNet needs, if it does.
    pub(super) fn difference(&self, unet: &UnetConfig) -> Option<String> {
        let halves = |block: &&InputBlock| matches!(block, InputBlock::Downsample { .. });
        // A place that the model has not is no wide and no large.
        let there = |place: Option<usize>| {
            let last = place.map_or(unet.input_blocks.len(), |block| block + 1);
            let width = match place {
                Some(block) => unet.input_blocks.get(block).map(InputBlock::channels),
                None => unet.middle.last().map(|block| block.out_channels),
            };
            let halvings = unet.input_blocks.iter().take(last).filter(halves).count() as u32;
            (width.unwrap_or_default(), halvings)
        };
        let ours: Vec<_> = self.widths.into_iter().zip(self.halvings()).collect();
        let theirs: Vec<_> = self.places().into_iter().map(there).collect();
        let show = |levels: &[(usize, u32)]| {
            let (widths, halvings): (Vec<_>, Vec<_>) = levels.iter().copied().unzip();
            format!("the widths {widths:?}, halved {halvings:?} times")
        };
        (ours != theirs)
            .then(|| format!("its levels have {}, the model's blocks there {}", show(&ours), show(&theirs)))
    }

    /// # Shapes
    /// `[N, channels, H, W]` in 0..=1, `H` and `W` as [`T2iAdapter::picture_size`] says.
    pub(super) fn forward(&self, picture: &Tensor, dtype: DType) -> Result<ControlSignals> {
        let mut x =
            candle_nn::ops::pixel_unshuffle(&picture.to_dtype(dtype)?, self.unshuffle)?.contiguous()?;
        if let Some(stem) = &self.stem {
            x = stem.forward(&x)?;
        }
        let mut signals = ControlSignals { input: vec![None; 12], ..ControlSignals::default() };
        for (level, place) in self.levels.iter().zip(self.places()) {
            x = level.forward(&x)?;
            match place {
                Some(block) => signals.input[block] = Some(x.clone()),
                None => signals.middle = Some(x.clone()),
            }
        }
        Ok(signals)
    }
}

fn load_full(
    weights: &Weights<'_>,
    level: usize,
    [inputs, outputs]: [usize; 2],
    (kernel, strided): (usize, Option<bool>),
) -> Result<Level> {
    let part = |i: usize| weights.part(format_args!("body.{}", level * BLOCKS_PER_LEVEL + i));
    let wide = |inputs, outputs| ConvShape { inputs, outputs, kernel, stride: 1, padding: kernel / 2 };
    let block = |i: usize| {
        Ok([
            Conv2d::load(&part(i).part("block1"), ConvShape::same(outputs, outputs))?,
            Conv2d::load(&part(i).part("block2"), wide(outputs, outputs))?,
        ])
    };
    let down = match strided {
        None => None,
        Some(false) => Some(Down::Mean),
        Some(true) => {
            let shape = ConvShape { stride: 2, ..ConvShape::same(inputs, inputs) };
            Some(Down::Convolution(Conv2d::load(&part(0).part("down_opt.op"), shape)?))
        }
    };
    let input = || Conv2d::load(&part(0).part("in_conv"), wide(inputs, outputs));
    Ok(Level {
        down,
        input: (inputs != outputs).then(input).transpose()?,
        blocks: (0..BLOCKS_PER_LEVEL).map(block).collect::<Result<_>>()?,
        output: None,
    })
}

fn load_light(
    weights: &Weights<'_>,
    down: bool,
    [inputs, outputs]: [usize; 2],
    blocks: usize,
) -> Result<Level> {
    let inner = outputs / 4;
    let block = |i: usize| {
        let part = weights.part(format_args!("body.{i}"));
        let load = |name| Conv2d::load(&part.part(name), ConvShape::same(inner, inner));
        Ok([load("block1")?, load("block2")?])
    };
    Ok(Level {
        down: down.then_some(Down::Mean),
        input: Some(Conv2d::load(&weights.part("in_conv"), ConvShape::point(inputs, inner))?),
        blocks: (0..blocks).map(block).collect::<Result<_>>()?,
        output: Some(Conv2d::load(&weights.part("out_conv"), ConvShape::point(inner, outputs))?),
    })
}

impl Level {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = match &self.down {
            None => x.clone(),
            Some(Down::Mean) => halved(x)?,
            Some(Down::Convolution(convolution)) => convolution.forward(x)?,
        };
        if let Some(input) = &self.input {
            x = input.forward(&x)?;
        }
        for [first, second] in &self.blocks {
            x = (second.forward(&first.forward(&x)?.relu()?)? + x)?;
        }
        match &self.output {
            Some(output) => output.forward(&x),
            None => Ok(x),
        }
    }
}

/// Takes the mean of squares of four; an odd side gets a zero at both ends first.
///
/// # Source
/// Same values as ComfyUI, for odd sides too.
fn halved(x: &Tensor) -> Result<Tensor> {
    let (_, _, height, width) = x.dims4()?;
    let padded = x.pad_with_zeros(2, height % 2, height % 2)?.pad_with_zeros(3, width % 2, width % 2)?;
    Ok(padded.contiguous()?.avg_pool2d(2)?)
}
