//! IMAGE and MASK values as the pictures they hold.

use std::borrow::Cow;

use comfy_artifacts::HostTensor;
use comfy_imaging::{Channels, Crop, ImagingError, PixelView, Pixels, Resize, ResizeMethod, resize};
use comfy_stage::{Ctx, Data, Inputs, NodeError, Outputs};

use crate::state::ImageState;

/// The most samples of one result: 4 GiB of f32.
const MAX_SAMPLES: usize = 1 << 30;

/// Pictures of one size, `[batch, height, width, channels]`; a mask is a picture of one channel.
#[derive(Debug, Clone)]
pub(crate) struct Pictures<'a> {
    pub(crate) batch: usize,
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) channels: usize,
    pub(crate) data: Cow<'a, [f32]>,
}

/// The size of a picture in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) width: usize,
    pub(crate) height: usize,
}

/// A rectangle inside of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) x: usize,
    pub(crate) y: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
}

impl<'a> Pictures<'a> {
    /// Takes an IMAGE input.
    ///
    /// # Errors
    /// When it is missing, not four-dimensional, empty, or has other than 1, 3 or 4 channels.
    pub(crate) fn image(inputs: &'a Inputs, name: &str) -> Result<Self, NodeError> {
        let image = inputs.image(name)?;
        let wrong = || {
            let shape = image.shape();
            NodeError::invalid(format!("an image must be [batch, height, width, 1, 3 or 4], got {shape:?}"))
        };
        let &[batch, height, width, channels @ (1 | 3 | 4)] = image.shape() else { return Err(wrong()) };
        if image.data().is_empty() {
            return Err(wrong());
        }
        Ok(Self { batch, height, width, channels, data: Cow::Borrowed(image.data()) })
    }

    /// Takes a MASK input: `[height, width]` with any dimensions before.
    ///
    /// # Errors
    /// When it is missing, flat or empty.
    pub(crate) fn mask(inputs: &'a Inputs, name: &str) -> Result<Self, NodeError> {
        let mask = inputs.mask(name)?;
        match *mask.shape() {
            [.., height, width] if !mask.data().is_empty() => {
                let batch = mask.data().len() / (height * width);
                Ok(Self { batch, height, width, channels: 1, data: Cow::Borrowed(mask.data()) })
            }
            _ => Err(NodeError::invalid(format!(
                "a mask must be [batch, height, width], got {:?}",
                mask.shape()
            ))),
        }
    }

    /// Makes pictures of samples; `size` fits them.
    pub(crate) fn new(batch: usize, size: Size, channels: usize, data: Vec<f32>) -> Pictures<'static> {
        debug_assert_eq!(data.len(), batch * size.height * size.width * channels);
        Pictures { batch, height: size.height, width: size.width, channels, data: Cow::Owned(data) }
    }

    /// Makes pictures that have the same sample everywhere.
    ///
    /// # Errors
    /// When they would be too large.
    pub(crate) fn full(
        batch: usize,
        size: Size,
        channels: usize,
        sample: f32,
    ) -> Result<Pictures<'static>, NodeError> {
        let samples = affordable(batch, size, channels)?;
        Ok(Pictures::new(batch, size, channels, vec![sample; samples]))
    }

    pub(crate) fn size(&self) -> Size {
        Size { width: self.width, height: self.height }
    }

    /// Samples of one picture.
    pub(crate) fn picture_len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Goes through the pictures one by one.
    pub(crate) fn pictures(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.data.chunks_exact(self.picture_len())
    }

    /// The picture at `index`, or the last one.
    pub(crate) fn picture(&self, index: usize) -> &[f32] {
        let start = index.min(self.batch - 1) * self.picture_len();
        &self.data[start..start + self.picture_len()]
    }

    /// Gives samples of one picture their size.
    pub(crate) fn view<'b, T>(&self, samples: &'b [T]) -> Result<PixelView<'b, T>, NodeError> {
        let channels = match self.channels {
            1 => Channels::Gray,
            3 => Channels::Rgb,
            _ => Channels::Rgba,
        };
        PixelView::new(self.width, self.height, channels, samples).map_err(imaging_error)
    }

    /// The samples, to be changed in place.
    pub(crate) fn samples_mut(&mut self) -> &mut [f32] {
        self.data.to_mut()
    }

    /// Changes every sample by itself.
    pub(crate) fn mapped(mut self, change: impl Fn(f32) -> f32) -> Self {
        self.samples_mut().iter_mut().for_each(|sample| *sample = change(*sample));
        self
    }

    /// Changes every picture by itself; reports progress and stops when asked to.
    ///
    /// # Errors
    /// Those of `change`, and `Cancelled`.
    pub(crate) fn each(
        &self,
        ctx: &Ctx<'_, ImageState>,
        mut change: impl FnMut(PixelView<'_, f32>) -> Result<Pixels<f32>, ImagingError>,
    ) -> Result<Pictures<'static>, NodeError> {
        let mut size = self.size();
        let mut channels = self.channels;
        let mut data = Vec::new();
        for (picture, done) in self.pictures().zip(1..) {
            ctx.check_cancelled()?;
            let changed = change(self.view(picture)?).map_err(imaging_error)?;
            size = Size { width: changed.width(), height: changed.height() };
            channels = changed.channels().count();
            data.extend(changed.into_data());
            if self.batch > 1 {
                ctx.progress(done, self.batch as u64);
            }
        }
        Ok(Pictures::new(self.batch, size, channels, data))
    }

    /// Resizes every picture.
    ///
    /// # Errors
    /// When a side would be empty or the result too large, and `Cancelled`.
    pub(crate) fn resized(
        &self,
        ctx: &Ctx<'_, ImageState>,
        size: Size,
        method: ResizeMethod,
        crop: Crop,
    ) -> Result<Pictures<'static>, NodeError> {
        affordable(self.batch, size, self.channels)?;
        let order = Resize { method, width: size.width, height: size.height, crop };
        self.each(ctx, |picture| resize(picture, &order))
    }

    /// Cuts a rectangle out of every picture. It must lie inside.
    pub(crate) fn cut(&self, window: Window) -> Pictures<'static> {
        let row = self.width * self.channels;
        let part = window.x * self.channels..(window.x + window.width) * self.channels;
        let data = self
            .pictures()
            .flat_map(|picture| picture.chunks_exact(row).skip(window.y).take(window.height))
            .flat_map(|line| &line[part.clone()])
            .copied()
            .collect();
        Pictures::new(self.batch, Size { width: window.width, height: window.height }, self.channels, data)
    }

    /// Lays pictures over these, with their top left corner at a point; what sticks out is lost.
    pub(crate) fn paste(&mut self, other: &Pictures<'_>, (x, y): (usize, usize)) {
        let (width, height, channels) = (self.width, self.height, self.channels);
        let columns = other.width.min(width.saturating_sub(x)) * channels;
        let rows = other.height.min(height.saturating_sub(y));
        let (picture_len, other_row) = (self.picture_len(), other.width * channels);
        for (index, picture) in self.samples_mut().chunks_exact_mut(picture_len).enumerate() {
            let lines = other.picture(index).chunks_exact(other_row).take(rows);
            for (line, row) in lines.zip(y..) {
                let start = (row * width + x) * channels;
                picture[start..start + columns].copy_from_slice(&line[..columns]);
            }
        }
    }

    /// Brings the number of pictures to `batch`: repeats them in order, or drops the last.
    ///
    /// # Errors
    /// When the result would be too large.
    pub(crate) fn with_batch(self, batch: usize) -> Result<Self, NodeError> {
        if batch == self.batch {
            return Ok(self);
        }
        let samples = affordable(batch, self.size(), self.channels)?;
        let data: Vec<f32> = self.data.iter().copied().cycle().take(samples).collect();
        Ok(Self { batch, data: Cow::Owned(data), ..self })
    }

    /// Adds channels with one sample, or drops the last ones.
    pub(crate) fn with_channels(self, channels: usize, added: f32) -> Self {
        if channels == self.channels {
            return self;
        }
        let widen = |pixel: &[f32]| -> Vec<f32> {
            pixel.iter().copied().chain(std::iter::repeat(added)).take(channels).collect()
        };
        let data = self.data.chunks_exact(self.channels).flat_map(widen).collect();
        Self { channels, data: Cow::Owned(data), ..self }
    }

    /// Takes one channel of every picture as a mask.
    ///
    /// # Errors
    /// When there is no such channel.
    pub(crate) fn channel(&self, index: usize) -> Result<Pictures<'static>, NodeError> {
        if index >= self.channels {
            let channels = self.channels;
            return Err(NodeError::invalid(format!(
                "the image has {channels} channels, channel {index} was asked"
            )));
        }
        let data = self.data.iter().skip(index).step_by(self.channels).copied().collect();
        Ok(Pictures::new(self.batch, self.size(), 1, data))
    }

    /// As an IMAGE.
    ///
    /// # Errors
    /// None that the fields do not rule out.
    pub(crate) fn into_image(self) -> Result<Data, NodeError> {
        let shape = vec![self.batch, self.height, self.width, self.channels];
        Ok(Data::Image(HostTensor::new(shape, self.data.into_owned())?))
    }

    /// As a MASK.
    ///
    /// # Errors
    /// When there is more than one channel.
    pub(crate) fn into_mask(self) -> Result<Data, NodeError> {
        let shape = vec![self.batch, self.height, self.width];
        Ok(Data::Mask(HostTensor::new(shape, self.data.into_owned())?))
    }

    /// As the only output, an IMAGE.
    ///
    /// # Errors
    /// As [`Pictures::into_image`].
    pub(crate) fn one_image(self) -> Result<Outputs, NodeError> {
        self.into_image().map(Outputs::one)
    }

    /// As the only output, a MASK.
    ///
    /// # Errors
    /// As [`Pictures::into_mask`].
    pub(crate) fn one_mask(self) -> Result<Outputs, NodeError> {
        self.into_mask().map(Outputs::one)
    }
}

/// Counts the samples of pictures, unless they are too many.
///
/// # Errors
/// Over 2^30 samples.
pub(crate) fn affordable(batch: usize, size: Size, channels: usize) -> Result<usize, NodeError> {
    let Size { width, height } = size;
    let samples = [batch, height, width, channels].into_iter().try_fold(1_usize, usize::checked_mul);
    samples.filter(|samples| *samples <= MAX_SAMPLES).ok_or_else(|| {
        NodeError::invalid(format!(
            "{batch} pictures of {width}x{height} would be larger than the limit of {MAX_SAMPLES} samples"
        ))
    })
}

/// The batch of an operation on two batches that repeats a single picture.
///
/// # Errors
/// When neither is one and they differ.
pub(crate) fn common_batch(a: &Pictures<'_>, b: &Pictures<'_>) -> Result<usize, NodeError> {
    match (a.batch, b.batch) {
        (a, b) if a == b || b == 1 => Ok(a),
        (1, b) => Ok(b),
        (a, b) => Err(NodeError::invalid(format!("a batch of {a} does not go with a batch of {b}"))),
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
