//! Convolutions with packed weights: by transformed tiles where that applies, else by gathering what each pixel sees.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use pulp::Arch;
use rayon::prelude::*;

use crate::maps::channels_last;
use crate::panels::{Panels, padded};
use crate::product::{Block, Finish, Product};
use crate::storage::{contiguous, pixels};
use crate::task::Shared;
use crate::winograd::Winograd;

/// Pixels gathered at a time.
const PIXELS: usize = 96;

/// How a kernel moves over its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvSizes {
    pub stride: usize,
    pub padding: usize,
}

/// What a convolution's result is added to.
#[derive(Debug, Clone, Copy)]
pub enum Addend<'a> {
    Nothing,
    /// A map of the result's shape.
    Map(&'a Tensor),
    /// `[B, outputs]`: one value for every pixel of a channel.
    Channels(&'a Tensor),
}

/// A two-dimensional convolution with bias.
#[derive(Debug)]
pub struct PackedConv {
    kind: Kind,
    sizes: ConvSizes,
    kernel: usize,
    inputs: usize,
    outputs: usize,
}

#[derive(Debug)]
enum Kind {
    Winograd(Winograd),
    Gathered { panels: Panels, bias: Vec<f32> },
}

/// Extents of one call.
#[derive(Clone, Copy)]
pub(crate) struct Extents {
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    pub out_height: usize,
    pub out_width: usize,
}

impl PackedConv {
    /// Packs a weight `[outputs, inputs, K, K]` and a bias `[outputs]`.
    ///
    /// # Errors
    /// If one is not f32 on the CPU or of another shape.
    pub fn new(weight: &Tensor, bias: &Tensor, sizes: ConvSizes) -> Result<Self> {
        Self::with_arch(Arch::new(), weight, bias, sizes)
    }

    pub(crate) fn with_arch(arch: Arch, weight: &Tensor, bias: &Tensor, sizes: ConvSizes) -> Result<Self> {
        let (outputs, inputs, kernel, _) = weight.dims4()?;
        let weight = weight.flatten_all()?.to_vec1::<f32>()?;
        let bias = bias.to_vec1::<f32>()?;
        let same = kernel == 3 && sizes == ConvSizes { stride: 1, padding: 1 };
        let kind = if same && Winograd::pays(arch, inputs, outputs) {
            Kind::Winograd(Winograd::pack(arch, &weight, &bias, inputs))
        } else {
            let taps = kernel * kernel;
            let panels = Panels::pack(arch, [taps * inputs, outputs], |k, column| {
                weight[(column * inputs + k % inputs) * taps + k / inputs]
            });
            Kind::Gathered { bias: padded(&bias, panels.width), panels }
        };
        Ok(Self { kind, sizes, kernel, inputs, outputs })
    }

    /// Bytes that the weights take.
    pub fn bytes(&self) -> usize {
        match &self.kind {
            Kind::Winograd(layer) => layer.bytes(),
            Kind::Gathered { panels, bias } => panels.bytes() + 4 * bias.len(),
        }
    }

    /// # Shapes
    /// `x` `[B, inputs, H, W]` to `[B, outputs, H', W']` with channels innermost in memory.
    pub fn forward(&self, x: &Tensor, addend: Addend<'_>) -> Result<Tensor> {
        let y = match addend {
            Addend::Nothing => x.apply_op1_no_bwd(&Forward(self))?,
            Addend::Map(more) | Addend::Channels(more) => x.apply_op2_no_bwd(more, &Forward(self))?,
        };
        channels_last(&y)
    }

    fn extents(&self, x: &Layout) -> Result<Extents> {
        let (batch, inputs, height, width) = x.shape().dims4()?;
        let ConvSizes { stride, padding } = self.sizes;
        let (padded_height, padded_width) = (height + 2 * padding, width + 2 * padding);
        if inputs != self.inputs || padded_height < self.kernel || padded_width < self.kernel {
            candle_core::bail!(
                "a convolution of {} channels and a kernel of {} cannot take {:?}",
                self.inputs,
                self.kernel,
                x.dims()
            );
        }
        let out_height = (padded_height - self.kernel) / stride + 1;
        let out_width = (padded_width - self.kernel) / stride + 1;
        Ok(Extents { batch, height, width, out_height, out_width })
    }

    /// Convolves; the shape that comes back is `[B, H', W', outputs]`.
    fn run(
        &self,
        x: (&CpuStorage, &Layout),
        channels: Option<&[f32]>,
        map: Option<&[f32]>,
    ) -> Result<(CpuStorage, Shape)> {
        let extents = self.extents(x.1)?;
        let Extents { batch, out_height, out_width, .. } = extents;
        let x = pixels(x.0, x.1)?;
        let mut y = vec![0f32; batch * out_height * out_width * self.outputs];
        match &self.kind {
            Kind::Winograd(layer) => layer.run(&x, &mut y, extents, [channels, map]),
            Kind::Gathered { panels, bias } => {
                let finish = map.map_or(Finish::Plain, Finish::Add);
                let product = Product { panels, bias: Some(bias), finish };
                if self.kernel == 1 && self.sizes == (ConvSizes { stride: 1, padding: 0 }) {
                    product.run(&x, &mut y);
                } else {
                    self.gather_all(product, &x, &mut y, extents);
                }
                if let Some(channels) = channels {
                    let images = y.par_chunks_mut(self.outputs).enumerate();
                    images.for_each(|(pixel, y)| {
                        let image = pixel / (out_height * out_width);
                        let more = &channels[image * self.outputs..][..self.outputs];
                        y.iter_mut().zip(more).for_each(|(y, more)| *y += more);
                    });
                }
            }
        }
        Ok((CpuStorage::F32(y), (batch, out_height, out_width, self.outputs).into()))
    }

    fn gather_all(&self, product: Product<'_>, x: &[f32], y: &mut [f32], extents: Extents) {
        let rows = extents.batch * extents.out_height * extents.out_width;
        let depth = product.panels.depth;
        let per_block = rows.div_ceil(8).next_multiple_of(12).min(PIXELS);
        let y = Shared::new(y);
        (0..rows.div_ceil(per_block)).into_par_iter().for_each_init(Vec::new, |gathered, block| {
            let first = block * per_block;
            let rows = per_block.min(rows - first);
            gathered.resize(rows * depth, 0f32);
            for (row, out) in gathered.chunks_exact_mut(depth).enumerate() {
                self.gather(out, x, first + row, extents);
            }
            let block = Block { x: gathered, rows, first };
            // SAFETY: every task has rows of its own, and `y` holds them.
            unsafe { product.block(block, 0..product.panels.count(), y) };
        });
    }

    /// Copies what the kernel sees at one pixel of the result: tap by tap, all channels of each.
    fn gather(&self, out: &mut [f32], x: &[f32], pixel: usize, extents: Extents) {
        let Extents { height, width, out_height, out_width, .. } = extents;
        let ConvSizes { stride, padding } = self.sizes;
        let image = pixel / (out_height * out_width);
        let (line, column) = (pixel / out_width % out_height, pixel % out_width);
        for (tap, out) in out.chunks_exact_mut(self.inputs).enumerate() {
            let inside = |at: usize, tap: usize, length: usize| {
                (at * stride + tap).checked_sub(padding).filter(|at| *at < length)
            };
            let place = (inside(line, tap / self.kernel, height), inside(column, tap % self.kernel, width));
            match place {
                (Some(line), Some(column)) => {
                    let start = ((image * height + line) * width + column) * self.inputs;
                    out.copy_from_slice(&x[start..][..self.inputs]);
                }
                _ => out.fill(0.0),
            }
        }
    }
}

struct Forward<'a>(&'a PackedConv);

impl CustomOp1 for Forward<'_> {
    fn name(&self) -> &'static str {
        "packed-conv2d"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.0.run((x, layout), None, None)
    }
}

impl CustomOp2 for Forward<'_> {
    fn name(&self) -> &'static str {
        "packed-conv2d-add"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        more: &CpuStorage,
        more_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let Extents { batch, out_height, out_width, .. } = self.0.extents(x_layout)?;
        let outputs = self.0.outputs;
        match *more_layout.dims() {
            [b, o] if [b, o] == [batch, outputs] => {
                self.0.run((x, x_layout), Some(contiguous(more, more_layout)?), None)
            }
            [b, o, h, w] if [b, o, h, w] == [batch, outputs, out_height, out_width] => {
                self.0.run((x, x_layout), None, Some(&pixels(more, more_layout)?))
            }
            _ => candle_core::bail!("cannot add {:?} to the convolution's result", more_layout.dims()),
        }
    }
}
