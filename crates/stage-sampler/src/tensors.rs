//! Host tensors of links to and from candle tensors.

use crate::error;
use candle_core::{DType, Device, Tensor};
use comfy_artifacts::HostTensor;
use comfy_stage::NodeError;

/// Copies a host tensor to a device.
pub(crate) fn to_device(host: &HostTensor, device: &Device) -> Result<Tensor, NodeError> {
    Tensor::from_slice(host.data(), host.shape(), device).map_err(error::tensor)
}

/// Copies a tensor to the host as f32.
pub(crate) fn to_host(tensor: &Tensor) -> Result<HostTensor, NodeError> {
    let data = tensor
        .to_dtype(DType::F32)
        .and_then(|t| t.flatten_all())
        .and_then(|t| t.to_vec1::<f32>())
        .map_err(error::tensor)?;
    HostTensor::new(tensor.dims().to_vec(), data).map_err(error::bundle)
}

/// Turns decoder output into an IMAGE.
///
/// # Shapes
/// `[B,3,H,W]` in -1..=1 to `[B,H,W,3]` in 0..=1, clamped.
pub(crate) fn decoded_to_image(decoded: &Tensor) -> Result<HostTensor, NodeError> {
    let image = decoded
        .permute((0, 2, 3, 1))
        .and_then(|t| t.contiguous())
        .and_then(|t| (t + 1.0)? / 2.0)
        .and_then(|t| t.clamp(0f32, 1f32))
        .map_err(error::tensor)?;
    to_host(&image)
}

/// Where the part of a side begins that the encoder sees, and how long it is: a multiple of `step`, from the middle.
pub(crate) fn kept_by_encoder(size: usize, step: usize) -> (usize, usize) {
    ((size % step) / 2, size - size % step)
}

/// Turns an IMAGE into encoder input.
///
/// Sides that are not multiples of `step` lose pixels evenly at both ends; channels beyond the third are dropped.
///
/// # Shapes
/// `[B,H,W,C]` in 0..=1 to `[B,3,H',W']` in -1..=1.
///
/// # Errors
/// When the picture has fewer than three channels or is smaller than `step`.
pub(crate) fn image_to_encoder(
    image: &HostTensor,
    step: usize,
    device: &Device,
) -> Result<Tensor, NodeError> {
    let &[_, height, width, channels] = image.shape() else {
        return Err(NodeError::invalid(format!("an image has 4 dimensions, got {:?}", image.shape())));
    };
    if channels < 3 || height < step || width < step {
        let shape = image.shape();
        return Err(NodeError::invalid(format!(
            "cannot encode an image of shape {shape:?}: need 3 channels and {step} pixels a side"
        )));
    }
    let ((top, rows), (left, columns)) = (kept_by_encoder(height, step), kept_by_encoder(width, step));
    to_device(image, device)?
        .narrow(1, top, rows)
        .and_then(|t| t.narrow(2, left, columns))
        .and_then(|t| t.narrow(3, 0, 3))
        .and_then(|t| t.permute((0, 3, 1, 2)))
        .and_then(|t| t.contiguous())
        .and_then(|t| (t * 2.0)? - 1.0)
        .map_err(error::tensor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_survive_the_way_in_and_out() {
        let data: Vec<f32> = (0..2 * 9 * 10 * 3).map(|i| (i % 17) as f32 / 16.0).collect();
        let image = HostTensor::new(vec![2, 9, 10, 3], data).unwrap();
        let tensor = image_to_encoder(&image, 8, &Device::Cpu).unwrap();
        assert_eq!(tensor.dims(), [2, 3, 8, 8]);
        let back = decoded_to_image(&tensor).unwrap();
        assert_eq!(back.shape(), [2, 8, 8, 3]);
        // Pixel (0,0) of the crop is pixel (0,1) of the picture: one column is lost on each side, no row on top.
        assert_eq!(back.data()[..3], image.data()[3..6]);
        assert!(image_to_encoder(&HostTensor::full(vec![1, 8, 8, 1], 0.0), 8, &Device::Cpu).is_err());
    }
}
