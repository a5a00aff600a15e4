//! What conditioning says besides the text, brought into the form a family's network takes.

use candle_core::{DType, Tensor};

use super::{ConcatInput, Family, SeenPictures, VectorInput, sd1, sdxl};
use crate::error::{Error, Result};
use crate::sampling::{Crop, ResizeMethod, resize_latent};

/// Everything that nodes may attach to a prompt for the network; families take what they were trained with.
#[derive(Debug, Clone, Default)]
pub struct Extras {
    /// Pooled text, `[B, P]`.
    pub pooled: Option<Tensor>,
    /// Size of the picture that the sampled one is a part of, in pixels; by default the sampled one's.
    pub width: Option<f64>,
    pub height: Option<f64>,
    /// Place of the sampled picture in it; by default its corner.
    pub crop_w: Option<f64>,
    pub crop_h: Option<f64>,
    /// Size aimed at; by default `width` and `height`.
    pub target_width: Option<f64>,
    pub target_height: Option<f64>,
    pub aesthetic_score: Option<f64>,
    /// Latent of a picture to change, in the autoencoder's own scale, `[B, C, h, w]` of any size.
    pub concat_latent: Option<Tensor>,
    /// Where that picture may change (1): `[B, H, W]` or `[B, 1, H, W]` of any size.
    pub concat_mask: Option<Tensor>,
    /// Pictures that the prompt is shown.
    pub pictures: Vec<SeenPictures>,
}

/// Which side of the guidance a prompt is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Positive,
    Negative,
}

impl Side {
    /// The aesthetic score that the refiner is given when a prompt has none.
    fn aesthetic_score(self) -> f64 {
        match self {
            Self::Positive => 6.0,
            Self::Negative => 2.5,
        }
    }
}

/// Where a run starts: it gives the defaults.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// The latent on the link, `[B, C, h, w]` in the autoencoder's own scale.
    pub latent: &'a Tensor,
    /// Where it is sampled (1): `[h, w]`, `[B, h, w]` or `[B, 1, h, w]` of any size.
    pub noise_mask: Option<&'a Tensor>,
    /// The seed of the run, which also blurs the pictures that a prompt is shown.
    pub seed: u64,
}

/// What the network is given besides the text.
#[derive(Debug, Clone, Default)]
pub struct ExtraInputs {
    /// `[B, D]`.
    pub vector: Option<Tensor>,
    /// Further channels of the latent, `[B, C, h, w]` in the network's scale.
    pub concat: Option<Tensor>,
}

impl Family {
    /// Builds what this family's network is given besides the text and pictures, which
    /// [`DiffusionModel::extra_inputs`](crate::DiffusionModel::extra_inputs) adds.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if something that the family needs is missing or of a wrong shape.
    pub fn extra_inputs(&self, extras: &Extras, side: Side, start: &Start<'_>) -> Result<ExtraInputs> {
        if start.latent.rank() != 4 || start.latent.elem_count() == 0 {
            let dims = start.latent.dims();
            return Err(Error::InvalidArgument(format!("a latent is `[B, C, h, w]`, got {dims:?}")));
        }
        Ok(ExtraInputs { vector: self.vector(extras, side, start)?, concat: self.concat(extras, start)? })
    }

    fn vector(&self, extras: &Extras, side: Side, start: &Start<'_>) -> Result<Option<Tensor>> {
        let input = self.vector_input();
        if matches!(input, VectorInput::None | VectorInput::Pictures) {
            return Ok(None);
        }
        let pooled = extras.pooled.as_ref().filter(|pooled| pooled.rank() == 2).ok_or_else(|| {
            Error::InvalidArgument(format!("{self} needs the pooled text, which this conditioning lacks"))
        })?;
        let (_, _, rows, columns) = start.latent.dims4()?;
        let height = extras.height.unwrap_or((rows * sd1::DOWNSCALE) as f64);
        let width = extras.width.unwrap_or((columns * sd1::DOWNSCALE) as f64);
        let mut numbers =
            vec![height, width, extras.crop_h.unwrap_or_default(), extras.crop_w.unwrap_or_default()];
        match input {
            VectorInput::SizesAndScore => {
                numbers.push(extras.aesthetic_score.unwrap_or(side.aesthetic_score()))
            }
            _ => {
                numbers.extend([extras.target_height.unwrap_or(height), extras.target_width.unwrap_or(width)])
            }
        }
        Ok(Some(sdxl::vector(&pooled.to_dtype(DType::F32)?, &numbers)?))
    }

    fn concat(&self, extras: &Extras, start: &Start<'_>) -> Result<Option<Tensor>> {
        match self.concat_input() {
            ConcatInput::None => Ok(None),
            // These networks were trained on the autoencoder's own scale.
            ConcatInput::Image => Ok(Some(match &extras.concat_latent {
                Some(image) => fit(image, start.latent)?,
                None => start.latent.to_dtype(DType::F32)?.zeros_like()?,
            })),
            ConcatInput::MaskAndImage => Ok(Some(self.mask_and_image(extras, start)?)),
        }
    }

    /// The mask and the picture of the conditioning; without them those of the run; without a mask a blank picture
    /// that may change everywhere.
    fn mask_and_image(&self, extras: &Extras, start: &Start<'_>) -> Result<Tensor> {
        let (batch, _, height, width) = start.latent.dims4()?;
        let (mask, crop) = match (&extras.concat_mask, start.noise_mask) {
            (Some(mask), _) => (mask, Crop::Center),
            (None, Some(mask)) => (mask, Crop::Disabled),
            (None, None) => return blank(start.latent),
        };
        let image = extras.concat_latent.as_ref().unwrap_or(start.latent);
        let image = fit(image, start.latent)?.affine(self.latent_scale(), 0.0)?;
        let mask = match *mask.dims() {
            [h, w] if h * w > 0 => mask.reshape((1, 1, h, w))?,
            [b, h, w] | [b, 1, h, w] if b * h * w > 0 => mask.reshape((b, 1, h, w))?,
            ref dims => {
                return Err(Error::InvalidArgument(format!("a mask is `[B, H, W]`, got {dims:?}")));
            }
        };
        let mask = round(&resized(&mask.to_dtype(DType::F32)?, height, width, crop)?)?;
        Ok(Tensor::cat(&[fit_batch(&mask, batch)?, image], 1)?)
    }
}

/// The latent of a blank picture in the network's scale, behind a mask that lets it change everywhere.
///
/// # Source
/// Same values as ComfyUI.
fn blank(latent: &Tensor) -> Result<Tensor> {
    const MASK_AND_GREY: [f32; 5] = [1.0, 0.8223, -0.6876, 0.6364, 0.1380];
    let (batch, _, height, width) = latent.dims4()?;
    let row = Tensor::new(&MASK_AND_GREY, latent.device())?.reshape((1, MASK_AND_GREY.len(), 1, 1))?;
    Ok(row.repeat((batch, 1, height, width))?)
}

/// Brings a latent to the size and batch of another.
fn fit(image: &Tensor, latent: &Tensor) -> Result<Tensor> {
    let (batch, channels, height, width) = latent.dims4()?;
    match image.dims() {
        [_, c, ..] if image.rank() == 4 && *c == channels && image.elem_count() > 0 => {}
        dims => {
            return Err(Error::InvalidArgument(format!(
                "the picture to condition on is a latent `[B, {channels}, h, w]`, got {dims:?}"
            )));
        }
    }
    fit_batch(&resized(&image.to_dtype(DType::F32)?, height, width, Crop::Center)?, batch)
}

fn resized(image: &Tensor, height: usize, width: usize, crop: Crop) -> Result<Tensor> {
    let (_, _, old_height, old_width) = image.dims4()?;
    if (old_height, old_width) == (height, width) {
        return Ok(image.clone());
    }
    resize_latent(image, ResizeMethod::Bilinear, height, width, crop)
        .map_err(|error| Error::InvalidArgument(error.to_string()))
}

/// Spreads the samples of a batch evenly over another number of samples.
fn fit_batch(tensor: &Tensor, batch: usize) -> Result<Tensor> {
    let given = tensor.dim(0)?;
    if given == batch {
        return Ok(tensor.clone());
    }
    let place = |i: usize| match batch {
        1 => 0.0,
        _ if batch < given => (i as f64 * ((given - 1) as f64 / (batch - 1) as f64)).round_ties_even(),
        _ => ((i as f64 + 0.5) * (given as f64 / batch as f64)).floor(),
    };
    let index: Vec<u32> = (0..batch).map(|i| (place(i) as usize).min(given - 1) as u32).collect();
    Ok(tensor.contiguous()?.index_select(&Tensor::new(index, tensor.device())?, 0)?)
}

/// Rounds to the nearest whole number, halves to the even one.
fn round(tensor: &Tensor) -> Result<Tensor> {
    let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
    let values: Vec<f32> = values.into_iter().map(f32::round_ties_even).collect();
    Ok(Tensor::from_vec(values, tensor.dims(), tensor.device())?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn latent(batch: usize) -> Tensor {
        Tensor::full(2f32, (batch, 4, 4, 8), &Device::Cpu).unwrap()
    }

    fn plain() -> Extras {
        let pooled = Some(Tensor::ones((1, 8), DType::F32, &Device::Cpu).unwrap());
        Extras { pooled, ..Extras::default() }
    }

    fn build(family: Family, extras: &Extras, noise_mask: Option<&Tensor>) -> Result<ExtraInputs> {
        family.extra_inputs(extras, Side::Negative, &Start { latent: &latent(2), noise_mask, seed: 0 })
    }

    fn at(tensor: &Tensor, index: [usize; 4]) -> f32 {
        let [b, c, y, x] = index;
        tensor.get(b).unwrap().get(c).unwrap().get(y).unwrap().get(x).unwrap().to_scalar().unwrap()
    }

    /// The angle of the lowest index of an embedded number gives the number back.
    fn numbers(vector: &Tensor, pooled: usize) -> Vec<f64> {
        let row: Vec<f32> = vector.get(0).unwrap().to_vec1().unwrap();
        let slow = |chunk: &[f32]| {
            // The last of 128 frequencies is slow enough for the numbers used here not to wrap around.
            let frequency = (-(10_000f64.ln()) * 127.0 / 128.0).exp();
            (f64::from(chunk[255]).atan2(f64::from(chunk[127])) / frequency).round()
        };
        row[pooled..].chunks(sdxl::NUMBER_WIDTH).map(slow).collect()
    }

    #[test]
    fn sizes_default_to_the_latent() {
        let vector = build(Family::Sdxl, &plain(), None).unwrap().vector.unwrap();
        assert_eq!(vector.dims(), [1, 8 + 6 * 256]);
        assert_eq!(numbers(&vector, 8), [32.0, 64.0, 0.0, 0.0, 32.0, 64.0]);
        let refiner = build(Family::SdxlRefiner, &plain(), None).unwrap().vector.unwrap();
        assert_eq!(refiner.dims(), [1, 8 + 5 * 256]);
        // The score of 2.5 is too small for the slow frequency; its cosine at the fastest one tells.
        let row: Vec<f32> = refiner.get(0).unwrap().to_vec1().unwrap();
        assert!((row[8 + 4 * 256] - 2.5f32.cos()).abs() < 1e-6);
        let set = Extras { width: Some(640.0), crop_w: Some(16.0), target_height: Some(512.0), ..plain() };
        let vector = build(Family::Sdxl, &set, None).unwrap().vector.unwrap();
        assert_eq!(numbers(&vector, 8), [32.0, 640.0, 0.0, 16.0, 512.0, 640.0]);
        let error = build(Family::Sdxl, &Extras::default(), None).unwrap_err().to_string();
        assert!(error.contains("pooled"), "{error}");
        assert!(build(Family::Sd1, &Extras::default(), None).unwrap().vector.is_none());
    }

    #[test]
    fn inpainting_falls_back_to_the_run_and_then_to_a_blank_picture() {
        let blank = build(Family::Sd1Inpaint, &Extras::default(), None).unwrap().concat.unwrap();
        assert_eq!(blank.dims(), [2, 5, 4, 8]);
        let value = |c| at(&blank, [1, c, 3, 7]);
        assert_eq!(
            [value(0), value(1), value(2), value(3), value(4)],
            [1.0, 0.8223, -0.6876, 0.6364, 0.1380]
        );

        let mask = Tensor::new(&[[0f32, 1.0]], &Device::Cpu).unwrap();
        let from_run = build(Family::SdxlInpaint, &plain(), Some(&mask)).unwrap().concat.unwrap();
        assert_eq!((at(&from_run, [0, 0, 0, 0]), at(&from_run, [1, 0, 3, 7])), (0.0, 1.0));
        assert!((at(&from_run, [1, 2, 0, 0]) - 2.0 * 0.13025).abs() < 1e-6);

        let image = Tensor::ones((1, 4, 4, 8), DType::F32, &Device::Cpu).unwrap();
        let mask = Tensor::zeros((1, 1, 32, 64), DType::F32, &Device::Cpu).unwrap();
        let extras = Extras { concat_latent: Some(image), concat_mask: Some(mask), ..Extras::default() };
        let given = build(Family::Sd1Inpaint, &extras, None).unwrap().concat.unwrap();
        assert_eq!(at(&given, [1, 0, 0, 0]), 0.0);
        assert!((at(&given, [1, 4, 0, 0]) - 0.18215).abs() < 1e-6);
    }

    #[test]
    fn pictures_to_change_keep_their_scale() {
        let empty = build(Family::Sd1InstructPix2Pix, &Extras::default(), None).unwrap().concat.unwrap();
        assert_eq!((empty.dims(), at(&empty, [0, 3, 0, 0])), (&[2, 4, 4, 8][..], 0.0));
        let image = Tensor::full(3f32, (1, 4, 8, 16), &Device::Cpu).unwrap();
        let extras = Extras { concat_latent: Some(image), ..plain() };
        let given = build(Family::SdxlInstructPix2Pix, &extras, None).unwrap().concat.unwrap();
        assert_eq!((given.dims(), at(&given, [1, 3, 3, 7])), (&[2, 4, 4, 8][..], 3.0));
        let wrong = Tensor::zeros((1, 16, 4, 8), DType::F32, &Device::Cpu).unwrap();
        let extras = Extras { concat_latent: Some(wrong), ..Extras::default() };
        assert!(build(Family::Sd1InstructPix2Pix, &extras, None).is_err());
    }

    #[test]
    fn batches_are_spread_evenly() {
        let spread = |given: usize, batch: usize| -> Vec<f32> {
            let values: Vec<f32> = (0..given).map(|i| i as f32).collect();
            let tensor = Tensor::from_vec(values, (given, 1, 1, 1), &Device::Cpu).unwrap();
            fit_batch(&tensor, batch).unwrap().flatten_all().unwrap().to_vec1().unwrap()
        };
        assert_eq!(spread(2, 4), [0.0, 0.0, 1.0, 1.0]);
        assert_eq!(spread(5, 3), [0.0, 2.0, 4.0]);
        assert_eq!(spread(3, 1), [0.0]);
    }
}
