//! Tensors on the host and their file form.

use comfy_graph::{DType, Media};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A dense f32 tensor in host memory, row-major. Cloning shares the data.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    shape: Vec<usize>,
    data: Arc<[f32]>,
}

/// A tensor or a bundle that cannot be what it claims to be.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("shape {shape:?} needs {expected} values, got {got}")]
    WrongLength { shape: Vec<usize>, expected: usize, got: usize },
    #[error("not a safetensors file: {0}")]
    Format(#[from] safetensors::SafeTensorError),
    #[error("tensor `{name}` is {dtype:?}, only F32 is exchanged between stages")]
    WrongDType { name: String, dtype: Dtype },
    #[error("the bundle's description is missing or broken")]
    NoDescription,
    #[error("the bundle has no tensor `{0}`")]
    NoTensor(String),
}

impl HostTensor {
    /// Wraps values of a shape.
    ///
    /// # Errors
    /// When the number of values is not the product of the shape.
    pub fn new(shape: Vec<usize>, data: Vec<f32>) -> Result<Self, BundleError> {
        let expected = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).unwrap_or(usize::MAX);
        if expected != data.len() {
            return Err(BundleError::WrongLength { shape, expected, got: data.len() });
        }
        Ok(Self { shape, data: data.into() })
    }

    /// Makes a tensor of one repeated value.
    pub fn full(shape: Vec<usize>, value: f32) -> Self {
        let data = vec![value; shape.iter().product()].into();
        Self { shape, data }
    }

    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub fn data(&self) -> &[f32] {
        &self.data
    }
}

/// Named tensors and a JSON description: the file form of an IMAGE, MASK, LATENT or CONDITIONING.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bundle {
    pub tensors: BTreeMap<String, HostTensor>,
    /// Which tensor the artifact reference describes.
    pub principal: String,
    /// What the tensors are; small.
    pub description: serde_json::Map<String, serde_json::Value>,
}

// One metadata key only: the header must not depend on the order of a hash map, or equal content would get
// unequal digests.
const DESCRIPTION: &str = "comfy";

impl Bundle {
    /// Writes the bundle as safetensors bytes; equal bundles give equal bytes.
    ///
    /// # Errors
    /// When a tensor is not representable, which [`HostTensor::new`] rules out.
    pub fn encode(&self) -> Result<Vec<u8>, BundleError> {
        let description = serde_json::json!({ "principal": self.principal, "description": self.description });
        let metadata = HashMap::from([(DESCRIPTION.to_owned(), description.to_string())]);
        let views = self
            .tensors
            .iter()
            .map(|(name, t)| {
                Ok((name, TensorView::new(Dtype::F32, t.shape.clone(), bytemuck::cast_slice(&t.data))?))
            })
            .collect::<Result<Vec<_>, BundleError>>()?;
        Ok(safetensors::serialize(views, Some(metadata))?)
    }

    /// Reads a bundle back.
    ///
    /// # Errors
    /// When the bytes are not a bundle.
    pub fn decode(bytes: &[u8]) -> Result<Self, BundleError> {
        let (_, metadata) = SafeTensors::read_metadata(bytes)?;
        let file = SafeTensors::deserialize(bytes)?;
        let text = metadata
            .metadata()
            .as_ref()
            .and_then(|m| m.get(DESCRIPTION))
            .ok_or(BundleError::NoDescription)?;
        let mut json: serde_json::Value =
            serde_json::from_str(text).map_err(|_| BundleError::NoDescription)?;
        let serde_json::Value::Object(description) = json["description"].take() else {
            return Err(BundleError::NoDescription);
        };
        let principal = json["principal"].as_str().ok_or(BundleError::NoDescription)?.to_owned();
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors() {
            if view.dtype() != Dtype::F32 {
                return Err(BundleError::WrongDType { name, dtype: view.dtype() });
            }
            // The file may lie unaligned in memory, so the values are copied one by one.
            let data = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            tensors.insert(name, HostTensor::new(view.shape().to_vec(), data)?);
        }
        Ok(Self { tensors, principal, description })
    }

    /// What an artifact reference says about the bundle.
    pub fn media(&self) -> Media {
        let shape = self.tensors.get(&self.principal).map(|t| t.shape.iter().map(|&d| d as u64).collect());
        Media::Tensor { dtype: DType::F32, shape: shape.unwrap_or_default() }
    }

    /// Takes a tensor out.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn take(&mut self, name: &str) -> Result<HostTensor, BundleError> {
        self.tensors.remove(name).ok_or_else(|| BundleError::NoTensor(name.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle() -> Bundle {
        let mut description = serde_json::Map::new();
        description.insert("kind".into(), "LATENT".into());
        let tensors = BTreeMap::from([
            ("samples".to_owned(), HostTensor::new(vec![1, 2, 2], vec![1.0, -0.0, f32::MAX, 1e-40]).unwrap()),
            ("noise_mask".to_owned(), HostTensor::full(vec![1, 2], 0.5)),
        ]);
        Bundle { tensors, principal: "samples".into(), description }
    }

    #[test]
    fn bundles_survive_and_are_deterministic() {
        let bytes = bundle().encode().unwrap();
        assert_eq!(bytes, bundle().encode().unwrap());
        assert_eq!(Bundle::decode(&bytes).unwrap(), bundle());
        assert_eq!(bundle().media(), Media::Tensor { dtype: DType::F32, shape: vec![1, 2, 2] });
    }

    #[test]
    fn broken_files_are_errors() {
        let bytes = bundle().encode().unwrap();
        for cut in [0, 7, 8, 20, bytes.len() - 1] {
            assert!(Bundle::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert!(HostTensor::new(vec![usize::MAX, 2], vec![]).is_err());
    }
}
