//! Merging the weights of two models, tensor by tensor.

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use safetensors::Dtype;

use super::Patches;
use super::text_names::StoredPart;
use crate::checkpoint::{Float8, WeightFile};
use crate::error::Result;

/// How much of each of two tensors goes into the merged one: `own * first + other * second`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shares {
    pub own: f64,
    pub other: f64,
}

impl Shares {
    /// `ratio` of the first, the rest of the second.
    pub fn ratio(ratio: f64) -> Self {
        Self { own: ratio, other: 1.0 - ratio }
    }
}

/// Another source to be merged with, and by which shares.
#[derive(Debug, Clone)]
pub struct Merge<S> {
    pub other: Box<S>,
    pub shares: Shares,
    /// Other shares for tensors whose names within the part begin so; of several that fit, the longest counts.
    pub by_prefix: Vec<(String, Shares)>,
}

impl<S> Merge<S> {
    pub(super) fn shares_of(&self, name: &str) -> Shares {
        let fitting = self.by_prefix.iter().filter(|(prefix, _)| name.starts_with(prefix.as_str()));
        fitting.max_by_key(|(prefix, _)| prefix.len()).map_or(self.shares, |(_, shares)| *shares)
    }
}

/// An opened source to be merged with, or to be read from in another layout.
#[derive(Debug)]
pub(crate) struct OpenMerge {
    pub file: Arc<WeightFile>,
    pub stored_as: Option<Float8>,
    pub patches: Patches,
    pub tensors: HashMap<String, MergedTensor>,
}

/// What is merged into one tensor.
#[derive(Debug)]
pub(crate) struct MergedTensor {
    pub shares: Shares,
    pub pieces: Vec<Piece>,
}

/// A tensor of the other file and how it is stored there and here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub key: String,
    pub there: StoredPart,
    pub here: StoredPart,
}

impl OpenMerge {
    /// The tensors of a diffusion model that both files have.
    pub(super) fn unet_tensors<S>(
        merge: &Merge<S>,
        own: &WeightFile,
        other: &WeightFile,
        prefix: &str,
    ) -> HashMap<String, MergedTensor> {
        let both = own.header().keys().filter_map(|key| {
            let name = key.strip_prefix(prefix)?;
            other.header().contains(key).then(|| {
                let piece = Piece { key: key.into(), there: StoredPart::Whole, here: StoredPart::Whole };
                (key.to_owned(), MergedTensor { shares: merge.shares_of(name), pieces: vec![piece] })
            })
        });
        both.collect()
    }

    /// A file with its changes, whose tensors have the names they have there.
    pub(crate) fn of_file(file: Arc<WeightFile>, stored_as: Option<Float8>, patches: Patches) -> Self {
        Self { file, stored_as, patches, tensors: HashMap::new() }
    }

    /// The type that a tensor of our layout is stored in, and its shape.
    pub(crate) fn stored(&self, key: &str) -> Option<(Dtype, Vec<usize>)> {
        let mut joined: Option<(Dtype, Vec<usize>)> = None;
        for piece in &self.tensors.get(key)?.pieces {
            let info = self.file.header().get(&piece.key)?;
            let mut shape = info.shape.clone();
            if let StoredPart::Third(_) = piece.there {
                *shape.first_mut()? /= 3;
            }
            if (piece.there == StoredPart::Turned) != (piece.here == StoredPart::Turned) {
                shape.reverse();
            }
            match &mut joined {
                None => joined = Some((info.dtype, shape)),
                Some((_, whole)) => whole[0] += shape[0],
            }
        }
        joined
    }

    /// The numbers of a tensor of our layout, or of one that is named as in the file, with its shape.
    pub(crate) fn value(&self, key: &str) -> Result<Option<(Vec<f32>, Vec<usize>)>> {
        match self.tensors.get(key) {
            Some(merged) => self.read(merged),
            None => self.file.read_changed(key, self.stored_as, &self.patches),
        }
    }

    /// Returns `values` merged with what the other source has for the tensor `key`.
    ///
    /// # Source
    /// As ComfyUI, in f32; a tensor whose shapes differ keeps its own share and is left alone otherwise, which is
    /// what makes adding the difference of an inpainting model possible.
    pub(super) fn apply(&self, key: &str, mut values: Vec<f32>, shape: &[usize]) -> Result<Vec<f32>> {
        let Some(merged) = self.tensors.get(key) else { return Ok(values) };
        let (own, other) = (merged.shares.own as f32, merged.shares.other as f32);
        if own != 1.0 {
            values.iter_mut().for_each(|value| *value *= own);
        }
        if other == 0.0 {
            return Ok(values);
        }
        let Some((found, found_shape)) = self.read(merged)? else { return Ok(values) };
        if found_shape != shape {
            tracing::warn!(key, ?shape, ?found_shape, "a tensor was not merged, its shapes differ");
            return Ok(values);
        }
        values.iter_mut().zip(found).for_each(|(value, found)| *value += other * found);
        Ok(values)
    }

    fn read(&self, merged: &MergedTensor) -> Result<Option<(Vec<f32>, Vec<usize>)>> {
        let whole = |piece: &Piece| self.file.read_changed(&piece.key, self.stored_as, &self.patches);
        if let [piece] = &merged.pieces[..]
            && piece.there == piece.here
        {
            return whole(piece);
        }
        let mut parts = Vec::with_capacity(merged.pieces.len());
        for piece in &merged.pieces {
            let Some((values, shape)) = whole(piece)? else { return Ok(None) };
            let stored = Tensor::from_vec(values, shape, &Device::Cpu)?;
            let plain = piece.there.plain(&stored)?;
            // Turning is its own inverse, and thirds go below each other again.
            parts.push(if piece.here == StoredPart::Turned { plain.t()?.contiguous()? } else { plain });
        }
        let joined = Tensor::cat(&parts, 0)?;
        Ok(Some((joined.flatten_all()?.to_vec1()?, joined.dims().to_vec())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_fitting_prefix_decides() {
        let share = |own| Shares { own, other: 0.0 };
        let by_prefix = [("input", 0.1), ("input_blocks.1.", 0.2), ("out", 0.3)];
        let by_prefix = by_prefix.map(|(prefix, own)| (prefix.to_owned(), share(own))).into();
        let merge = Merge { other: Box::new(()), shares: share(0.9), by_prefix };
        for (name, own) in [
            ("input_blocks.1.0.in_layers.2.weight", 0.2),
            ("input_blocks.10.0.op.weight", 0.1),
            ("out.2.bias", 0.3),
            ("output_blocks.0.1.norm.weight", 0.3),
            ("time_embed.0.weight", 0.9),
        ] {
            assert_eq!(merge.shares_of(name), share(own), "{name}");
        }
    }
}
