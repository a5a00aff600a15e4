//! Weights cut into panels of columns, in the order in which products read them.

use std::ops::Range;

use half::f16;
use half::slice::HalfFloatSliceExt;
use pulp::Arch;
use rayon::prelude::*;

use crate::task::panel_width;

/// A matrix `[depth, columns]` as `[panel][depth][width]`, with zeros behind the last column.
#[derive(Debug)]
pub(crate) struct Panels {
    pub arch: Arch,
    pub width: usize,
    pub depth: usize,
    pub columns: usize,
    values: Values,
}

/// Checkpoints mostly hold f16: keeping that halves the memory and what is read from it, and is exact.
#[derive(Debug)]
enum Values {
    F16(Vec<f16>),
    F32(Vec<f32>),
}

impl Panels {
    /// Packs the values that `value(depth, column)` gives.
    pub(crate) fn pack(
        arch: Arch,
        [depth, columns]: [usize; 2],
        value: impl Fn(usize, usize) -> f32 + Sync,
    ) -> Self {
        let width = panel_width(arch);
        let mut values = vec![0f32; columns.div_ceil(width) * depth * width];
        if depth > 0 {
            values.par_chunks_mut(depth * width).enumerate().for_each(|(panel, out)| {
                let first = panel * width;
                for column in first..columns.min(first + width) {
                    for k in 0..depth {
                        out[k * width + column - first] = value(k, column);
                    }
                }
            });
        }
        let exact = |value: &f32| f16::from_f32(*value).to_f32().to_bits() == value.to_bits();
        let values = if values.par_iter().all(exact) {
            let mut short = vec![f16::ZERO; values.len()];
            let chunks = short.par_chunks_mut(1 << 16).zip(values.par_chunks(1 << 16));
            chunks.for_each(|(short, values)| short.convert_from_f32_slice(values));
            Values::F16(short)
        } else {
            Values::F32(values)
        };
        Self { arch, width, depth, columns, values }
    }

    pub(crate) fn count(&self) -> usize {
        self.columns.div_ceil(self.width)
    }

    /// Bytes that the values take.
    pub(crate) fn bytes(&self) -> usize {
        match &self.values {
            Values::F16(values) => 2 * values.len(),
            Values::F32(values) => 4 * values.len(),
        }
    }

    /// Some rows of a panel in f32, in `scratch` if they are not held so.
    #[inline]
    pub(crate) fn rows<'a>(&'a self, panel: usize, rows: Range<usize>, scratch: &'a mut [f32]) -> &'a [f32] {
        let start = (panel * self.depth + rows.start) * self.width;
        let range = start..start + rows.len() * self.width;
        match &self.values {
            Values::F32(values) => &values[range],
            Values::F16(values) => {
                let scratch = &mut scratch[..range.len()];
                values[range].convert_to_f32_slice(scratch);
                scratch
            }
        }
    }
}

/// One value per column, with zeros behind the last.
pub(crate) fn padded(bias: &[f32], width: usize) -> Vec<f32> {
    let mut padded = bias.to_vec();
    padded.resize(bias.len().div_ceil(width) * width, 0.0);
    padded
}
