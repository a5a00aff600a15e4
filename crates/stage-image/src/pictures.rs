//! IMAGE tensors as the pictures they hold.

use comfy_artifacts::HostTensor;
use comfy_imaging::{Channels, ImagingError, PixelView};
use comfy_stage::NodeError;

/// The shape of an IMAGE: `[batch, height, width, channels]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch<'a> {
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: Channels,
    data: &'a [f32],
}

impl<'a> Batch<'a> {
    /// Reads the shape of an IMAGE.
    ///
    /// # Errors
    /// When it is not four-dimensional, empty, or has other than 1, 3 or 4 channels.
    pub(crate) fn new(image: &'a HostTensor) -> Result<Self, NodeError> {
        let wrong = || {
            let shape = image.shape();
            NodeError::invalid(format!("an image must be [batch, height, width, 1, 3 or 4], got {shape:?}"))
        };
        let &[batch, height, width, channels] = image.shape() else { return Err(wrong()) };
        let channels = match channels {
            1 => Channels::Gray,
            3 => Channels::Rgb,
            4 => Channels::Rgba,
            _ => return Err(wrong()),
        };
        if batch == 0 || height == 0 || width == 0 {
            return Err(wrong());
        }
        Ok(Self { height, width, channels, data: image.data() })
    }

    /// Goes through the pictures one by one.
    pub(crate) fn pictures(self) -> impl ExactSizeIterator<Item = &'a [f32]> {
        self.data.chunks_exact(self.height * self.width * self.channels.count())
    }

    /// Gives samples of one picture their size.
    pub(crate) fn view<'b, T>(&self, samples: &'b [T]) -> Result<PixelView<'b, T>, NodeError> {
        PixelView::new(self.width, self.height, self.channels, samples).map_err(imaging_error)
    }
}

/// Says what a failure of the picture crate means for a job. None is cured by trying again.
pub(crate) fn imaging_error(error: ImagingError) -> NodeError {
    match error {
        ImagingError::Magick { .. }
        | ImagingError::PolicyTooOpen { .. }
        | ImagingError::BufferLength { .. } => NodeError::internal(error.to_string()),
        ImagingError::UnsupportedFormat { .. }
        | ImagingError::TooLarge { .. }
        | ImagingError::Malformed { .. }
        | ImagingError::InvalidArgument { .. } => NodeError::invalid(error.to_string()),
    }
}

/// Makes a tensor of samples whose number follows from the shape.
pub(crate) fn tensor(shape: Vec<usize>, samples: Vec<f32>) -> Result<HostTensor, NodeError> {
    Ok(HostTensor::new(shape, samples)?)
}
