//! What a network is given besides the noisy latent and its level.

use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::error::{Result, SamplingError};
use crate::blocks::Grounding;
use crate::control::AppliedControl;

/// The conditioning of one call of a network, a row per sample.
#[derive(Debug, Clone)]
pub struct ModelInputs {
    /// Encoded text, `[B,T,D]`.
    pub context: Tensor,
    /// The vector that a family is conditioned on besides the text, `[B,V]`.
    pub vector: Option<Tensor>,
    /// Channels that are put behind those of the scaled latent, `[B,C,h,w]`.
    pub concat: Option<Tensor>,
    /// Texts that belong to boxes of the picture.
    pub grounding: Option<Grounding>,
    /// The control networks that count here, the same for every sample.
    pub control: Option<AppliedControl>,
    /// The noise level, where there is one, for changes that count for a part of the run.
    pub sigma: Option<f64>,
}

impl ModelInputs {
    /// Conditions on text alone.
    pub fn text(context: Tensor) -> Self {
        Self { context, vector: None, concat: None, grounding: None, control: None, sigma: None }
    }

    /// Whether the boxes of two calls of the network can go into one.
    pub(super) fn goes_with(&self, other: &Self) -> bool {
        match (&self.grounding, &other.grounding) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(&one.gligen, &other.gligen),
            _ => false,
        }
    }

    /// Repeats what is given once for every sample of a batch.
    pub(super) fn fit_batch(&self, batch: usize) -> Result<Self> {
        let fit = |tensor: &Tensor, field| fit_batch(tensor, batch, field);
        Ok(Self {
            context: fit(&self.context, "conditioning")?,
            vector: self.vector.as_ref().map(|vector| fit(vector, "pooled conditioning")).transpose()?,
            concat: self.concat.as_ref().map(|concat| fit(concat, "latent to condition on")).transpose()?,
            grounding: match &self.grounding {
                None => None,
                Some(Grounding { gligen, objects }) => {
                    Some(Grounding { gligen: gligen.clone(), objects: fit(objects, "boxes")? })
                }
            },
            control: self.control.clone(),
            sigma: self.sigma,
        })
    }

    /// Joins the rows of several inputs, whose texts have one length and whose control networks are the same.
    pub(super) fn cat(inputs: &[Self]) -> Result<Self> {
        let contexts: Vec<&Tensor> = inputs.iter().map(|input| &input.context).collect();
        Ok(Self {
            context: Tensor::cat(&contexts, 0)?,
            vector: cat_optional(inputs.iter().map(|input| input.vector.as_ref()), "pooled conditioning")?,
            concat: cat_optional(inputs.iter().map(|input| input.concat.as_ref()), "latent to condition on")?,
            grounding: match inputs.first().and_then(|input| input.grounding.as_ref()) {
                None => None,
                Some(first) => {
                    let objects = inputs.iter().map(|input| Some(&input.grounding.as_ref()?.objects));
                    let objects = cat_optional(objects, "boxes")?;
                    objects.map(|objects| Grounding { gligen: first.gligen.clone(), objects })
                }
            },
            control: inputs.first().and_then(|input| input.control.clone()),
            sigma: inputs.first().and_then(|input| input.sigma),
        })
    }
}

fn fit_batch(tensor: &Tensor, batch: usize, field: &'static str) -> Result<Tensor> {
    let tensor = tensor.to_dtype(DType::F32)?;
    match tensor.dim(0)? {
        given if given == batch => Ok(tensor),
        1 => {
            let mut repeats = vec![1; tensor.rank()];
            repeats[0] = batch;
            Ok(tensor.repeat(repeats)?)
        }
        given => Err(SamplingError::invalid(field, format!("{given} entries for a batch of {batch}"))),
    }
}

fn cat_optional<'a>(
    tensors: impl Iterator<Item = Option<&'a Tensor>>,
    field: &'static str,
) -> Result<Option<Tensor>> {
    let tensors: Vec<Option<&Tensor>> = tensors.collect();
    let given: Vec<&Tensor> = tensors.iter().copied().flatten().collect();
    match given.len() {
        0 => Ok(None),
        n if n == tensors.len() => Ok(Some(Tensor::cat(&given, 0)?)),
        _ => Err(SamplingError::invalid(field, "some entries have it and others do not")),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn filled(value: f32, shape: &[usize]) -> Tensor {
        Tensor::full(value, shape, &Device::Cpu).unwrap()
    }

    #[test]
    fn rows_are_repeated_and_joined() {
        let inputs = |value| ModelInputs {
            vector: Some(filled(value, &[1, 3])),
            concat: Some(filled(value, &[2, 5, 4, 4])),
            ..ModelInputs::text(filled(value, &[1, 77, 8]))
        };
        let fitted = [inputs(1.0).fit_batch(2).unwrap(), inputs(2.0).fit_batch(2).unwrap()];
        let joined = ModelInputs::cat(&fitted).unwrap();
        assert_eq!(joined.context.dims(), [4, 77, 8]);
        assert_eq!(joined.concat.unwrap().dims(), [4, 5, 4, 4]);
        let vector: Vec<Vec<f32>> = joined.vector.unwrap().to_vec2().unwrap();
        assert_eq!(vector, [[1.0; 3], [1.0; 3], [2.0; 3], [2.0; 3]]);
        assert!(inputs(1.0).fit_batch(3).unwrap_err().to_string().contains("latent"));
        let mixed = [fitted[0].clone(), ModelInputs::text(filled(0.0, &[2, 77, 8]))];
        assert!(ModelInputs::cat(&mixed).is_err());
    }
}
