//! Where a prompt counts: areas and masks, brought to the size of a latent.

use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::error::{Result, SamplingError};
use super::grounding::GroundedText;
use super::guidance::ConditioningEntry;
use super::latent::{ResizeMethod, resize_planes};
use super::model_inputs::ModelInputs;
use super::schedule::NoiseSchedule;
use super::sharing::share;
use crate::control::{AppliedControl, ControlUse};

/// A rectangle of the latent, in latent pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    pub x: usize,
    pub y: usize,
    pub width: usize,
    pub height: usize,
}

/// A rectangle of a latent whose size need not be known yet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Region {
    Pixels(Area),
    /// In shares (0..=1) of the latent's sides.
    Shares {
        x: f64,
        y: f64,
        width: f64,
        height: f64,
    },
}

/// How much a prompt counts at every place.
#[derive(Debug, Clone)]
pub struct RegionMask {
    /// `[h,w]` or `[B,h,w]` of any size, 0..=1.
    pub values: Tensor,
    /// Factor of all values.
    pub strength: f64,
    /// Also makes the box around everything above 0 the prompt's area.
    pub area_from_bounds: bool,
}

/// Smallest side of an area that is taken from a mask, in latent pixels.
const MIN_BOUNDS: usize = 8;

/// Width of the soft border of an area, in latent pixels, unless the area is small.
const BORDER: usize = 8;

/// An entry at a latent of known size.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub inputs: ModelInputs,
    pub grounding: Option<GroundedText>,
    pub area: Option<Area>,
    /// `[B,1,H,W]` over the whole latent, with its strength.
    mask: Option<Tensor>,
    strength: f64,
    start_sigma: f64,
    end_sigma: f64,
    pub controls: Vec<PlacedControl>,
    pub control_for_all: bool,
    /// What the entry's estimate is multiplied with.
    pub weight: Weight,
}

/// A control network of an entry and the levels at which it counts.
#[derive(Debug, Clone)]
pub(super) struct PlacedControl {
    used: Arc<ControlUse>,
    start_sigma: f64,
    end_sigma: f64,
}

/// How much an estimate counts.
#[derive(Debug, Clone)]
pub(super) enum Weight {
    Uniform(f64),
    /// `[B,1,h,w]`, `B` being the batch or 1.
    Map(Tensor),
}

/// Brings the entries of all sides to a latent of `shape` (`[B,C,H,W]`).
///
/// Where a side has an area that another one has not, the other gets a copy of the entry that covers it most closely.
///
/// # Errors
/// Fails on an area outside of the latent and on masks that do not fit the batch.
pub(super) fn place(
    sides: &[&[ConditioningEntry]],
    schedule: &NoiseSchedule,
    shape: &[usize],
) -> Result<Vec<Vec<Placed>>> {
    let mut placed = Vec::with_capacity(sides.len());
    for side in sides {
        placed.push(
            side.iter().map(|entry| Placed::new(entry, schedule, shape)).collect::<Result<Vec<Placed>>>()?,
        );
    }
    share(&mut placed);
    for entry in placed.iter_mut().flatten() {
        entry.finish(shape)?;
    }
    Ok(placed)
}

impl Placed {
    fn new(entry: &ConditioningEntry, schedule: &NoiseSchedule, shape: &[usize]) -> Result<Self> {
        let mut area = entry.area.map(|region| region.pixels(shape[3], shape[2]));
        let mut mask = None;
        if let Some(given) = &entry.mask {
            let values = fit_values(&given.values, shape)?;
            if given.area_from_bounds {
                area = Some(bounds(&values)?);
            }
            mask = Some(values.affine(given.strength, 0.0)?);
        }
        Ok(Self {
            inputs: ModelInputs {
                vector: entry.vector.clone(),
                concat: entry.concat.clone(),
                ..ModelInputs::text(entry.embedding.clone())
            },
            grounding: entry.grounding.clone(),
            area,
            mask,
            strength: entry.strength,
            start_sigma: schedule.percent_to_sigma(entry.start_percent),
            end_sigma: schedule.percent_to_sigma(entry.end_percent),
            controls: entry.controls.iter().map(|used| PlacedControl::new(used, schedule)).collect(),
            control_for_all: entry.control_for_all,
            weight: Weight::Uniform(entry.strength),
        })
    }

    pub fn active(&self, sigma: f64) -> bool {
        (self.end_sigma..=self.start_sigma).contains(&sigma)
    }

    /// Cuts the part of a latent the entry is about.
    pub fn crop(&self, x: &Tensor) -> Result<Tensor> {
        match self.area {
            None => Ok(x.clone()),
            Some(area) => {
                Ok(x.narrow(2, area.y, area.height)?.narrow(3, area.x, area.width)?.contiguous()?)
            }
        }
    }

    /// Whether the entry can share a call of the network with another one at a level: its part of the latent has the
    /// same size, and the same control networks count.
    pub fn goes_with(&self, other: &Self, sigma: f64) -> bool {
        let size = |entry: &Self| entry.area.map(|area| (area.width, area.height));
        let (ours, theirs) = (self.controls_at(sigma), other.controls_at(sigma));
        size(self) == size(other)
            && ours.len() == theirs.len()
            && std::iter::zip(&ours, &theirs).all(|(a, b)| Arc::ptr_eq(a, b))
            && self.inputs.goes_with(&other.inputs)
    }

    fn controls_at(&self, sigma: f64) -> Vec<Arc<ControlUse>> {
        let counts = |control: &&PlacedControl| (control.end_sigma..=control.start_sigma).contains(&sigma);
        self.controls.iter().filter(counts).map(|control| control.used.clone()).collect()
    }

    /// Returns what the network is given besides the entry's part of the latent `x`.
    pub fn inputs_at(&self, x: &Tensor, sigma: f64) -> Result<ModelInputs> {
        let batch = x.dim(0)?;
        let mut inputs = self.inputs.fit_batch(batch)?;
        let uses = self.controls_at(sigma);
        inputs.control = (!uses.is_empty()).then_some(AppliedControl { uses, batch });
        if let Some(concat) = inputs.concat.take() {
            inputs.concat = Some(self.crop(&concat)?);
        }
        Ok(inputs)
    }

    /// Cuts the area to the latent and works out the weights.
    fn finish(&mut self, shape: &[usize]) -> Result<()> {
        let (height, width) = (shape[2], shape[3]);
        if let Some(area) = &mut self.area {
            let inside = area.x < width && area.y < height && area.width > 0 && area.height > 0;
            if !inside {
                let reason = format!("{area:?} lies outside of a latent of {width} by {height}");
                return Err(SamplingError::invalid("conditioning area", reason));
            }
            area.width = area.width.min(width - area.x);
            area.height = area.height.min(height - area.y);
        }
        if let Some(grounding) = &self.grounding {
            let (width, height) = self.area.map_or((width, height), |area| (area.width, area.height));
            self.inputs.grounding = Some(grounding.place(width, height)?);
        }
        if let Some(mask) = &self.mask {
            let map = self.crop(mask)?.affine(self.strength, 0.0)?;
            self.weight = Weight::Map(map);
        } else if let Some(area) = self.area {
            let rows = ramp(area.y, area.height, height);
            let columns = ramp(area.x, area.width, width);
            let strength = self.strength as f32;
            let values: Vec<f32> = rows
                .iter()
                .flat_map(|row| columns.iter().map(move |column| strength * row * column))
                .collect();
            let map =
                Tensor::from_vec(values, (1, 1, area.height, area.width), self.inputs.context.device())?;
            self.weight = Weight::Map(map);
        }
        Ok(())
    }
}

impl Region {
    /// Returns the rectangle in latent pixels.
    fn pixels(self, latent_width: usize, latent_height: usize) -> Area {
        let (x, y, width, height) = match self {
            Self::Pixels(area) => return area,
            Self::Shares { x, y, width, height } => (x, y, width, height),
        };
        let scale = |share: f64, side: usize| (share * side as f64).round_ties_even().max(0.0) as usize;
        Area {
            x: scale(x, latent_width),
            y: scale(y, latent_height),
            width: scale(width, latent_width).max(1),
            height: scale(height, latent_height).max(1),
        }
    }
}

impl Area {
    pub(super) fn holds(&self, inner: &Area) -> bool {
        inner.x >= self.x
            && inner.y >= self.y
            && inner.x + inner.width <= self.x + self.width
            && inner.y + inner.height <= self.y + self.height
    }
}

/// Weights along one axis of an area: they rise over the border at ends that do not meet the latent's edge.
fn ramp(offset: usize, length: usize, side: usize) -> Vec<f32> {
    let border = BORDER.min(length / 4);
    let mut weights = vec![1f32; length];
    for step in 0..border {
        let factor = (1.0 / border as f64 * (step + 1) as f64) as f32;
        if offset != 0 {
            weights[step] *= factor;
        }
        if offset + length < side {
            weights[length - 1 - step] *= factor;
        }
    }
    weights
}

/// Brings a mask to the size and batch of a latent: `[B,1,H,W]`, `B` being the batch or 1.
fn fit_values(mask: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let (count, height, width) = match *mask.dims() {
        [height, width] => (1, height, width),
        [count, height, width] | [count, 1, height, width] => (count, height, width),
        ref other => {
            let reason = format!("expected `[batch, height, width]`, got {other:?}");
            return Err(SamplingError::invalid("conditioning mask", reason));
        }
    };
    let mut mask = mask.to_dtype(DType::F32)?.reshape((count, 1, height, width))?;
    if (height, width) != (shape[2], shape[3]) {
        mask = resize_planes(&mask, ResizeMethod::Bilinear, shape[2], shape[3])?;
    }
    let batch = shape[0];
    match count {
        1 => Ok(mask),
        count if count >= batch => Ok(mask.narrow(0, 0, batch)?),
        count if batch.is_multiple_of(count) => Ok(mask.repeat((batch / count, 1, 1, 1))?),
        count => {
            let reason = format!("{count} masks do not go into a batch of {batch}");
            Err(SamplingError::invalid("conditioning mask", reason))
        }
    }
}

impl PlacedControl {
    fn new(used: &Arc<ControlUse>, schedule: &NoiseSchedule) -> Self {
        let options = used.options();
        Self {
            used: used.clone(),
            start_sigma: schedule.percent_to_sigma(options.start_percent),
            end_sigma: schedule.percent_to_sigma(options.end_percent),
        }
    }
}

/// Returns the box around all values of a mask that are not 0, or a small one if there are none.
fn bounds(mask: &Tensor) -> Result<Area> {
    let planes: Vec<Vec<Vec<f32>>> = mask.squeeze(1)?.to_vec3()?;
    let (mut left, mut right, mut top, mut bottom) = (usize::MAX, 0, usize::MAX, 0);
    for (y, row) in planes.iter().flat_map(|plane| plane.iter().enumerate()) {
        for (x, _) in row.iter().enumerate().filter(|(_, value)| **value != 0.0) {
            (left, right) = (left.min(x), right.max(x));
            (top, bottom) = (top.min(y), bottom.max(y));
        }
    }
    if left > right {
        return Ok(Area { x: 0, y: 0, width: MIN_BOUNDS, height: MIN_BOUNDS });
    }
    let side = |from: usize, to: usize| (to - from + 1).max(MIN_BOUNDS);
    Ok(Area { x: left, y: top, width: side(left, right), height: side(top, bottom) })
}

/// Adds up estimates over a whole latent by their weights.
#[derive(Default)]
pub(super) struct Sum(Option<(Tensor, Weight)>);

/// Keeps a place that no entry counts at from dividing by 0.
const SMALLEST_WEIGHT: f64 = 1e-37;

impl Sum {
    /// Adds the estimate of an entry for its part of a latent of `shape`.
    pub fn add(&mut self, entry: &Placed, estimate: &Tensor, shape: &[usize]) -> Result<()> {
        let (weighted, weight) = match &entry.weight {
            Weight::Uniform(weight) => (estimate.affine(*weight, 0.0)?, entry.weight.clone()),
            Weight::Map(map) => (
                spread(&estimate.broadcast_mul(map)?, entry.area, shape)?,
                entry.weight.spread(entry.area, shape)?,
            ),
        };
        self.0 = Some(match self.0.take() {
            None => (weighted, weight),
            Some((sum, total)) => ((sum + weighted)?, total.plus(&weight, shape)?),
        });
        Ok(())
    }

    /// Returns the weighted mean; 0 where nothing counts.
    pub fn mean(self, like: &Tensor) -> Result<Tensor> {
        match self.0 {
            Some((sum, Weight::Uniform(weight))) if weight != 0.0 => Ok(sum.affine(1.0 / weight, 0.0)?),
            Some((sum, Weight::Map(map))) => Ok(sum.broadcast_div(&map.affine(1.0, SMALLEST_WEIGHT)?)?),
            // A side that says nothing at this level estimates nothing.
            _ => Ok(like.zeros_like()?),
        }
    }
}

impl Weight {
    fn spread(&self, area: Option<Area>, shape: &[usize]) -> Result<Self> {
        match self {
            Self::Uniform(weight) => Ok(Self::Uniform(*weight)),
            Self::Map(map) => Ok(Self::Map(spread(map, area, shape)?)),
        }
    }

    fn plus(&self, other: &Self, shape: &[usize]) -> Result<Self> {
        Ok(match (self, other) {
            (Self::Uniform(a), Self::Uniform(b)) => Self::Uniform(a + b),
            (Self::Map(map), Self::Uniform(weight)) | (Self::Uniform(weight), Self::Map(map)) => {
                debug_assert_eq!(map.dims()[2..], shape[2..]);
                Self::Map(map.affine(1.0, *weight)?)
            }
            (Self::Map(a), Self::Map(b)) => Self::Map(a.broadcast_add(b)?),
        })
    }
}

/// Surrounds the values of an area with zeros up to the size of the latent.
fn spread(values: &Tensor, area: Option<Area>, shape: &[usize]) -> Result<Tensor> {
    let Some(area) = area else { return Ok(values.clone()) };
    let rows = values.pad_with_zeros(2, area.y, shape[2] - area.y - area.height)?;
    Ok(rows.pad_with_zeros(3, area.x, shape[3] - area.x - area.width)?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn area(x: usize, y: usize, width: usize, height: usize) -> Area {
        Area { x, y, width, height }
    }

    fn entry(value: f32) -> ConditioningEntry {
        ConditioningEntry::new(Tensor::full(value, (1, 77, 8), &Device::Cpu).unwrap())
    }

    fn with_area(value: f32, area: Area) -> ConditioningEntry {
        ConditioningEntry { area: Some(Region::Pixels(area)), ..entry(value) }
    }

    fn text(placed: &Placed) -> f32 {
        placed.inputs.context.flatten_all().unwrap().to_vec1::<f32>().unwrap()[0]
    }

    fn place_two(first: &[ConditioningEntry], second: &[ConditioningEntry]) -> Result<Vec<Vec<Placed>>> {
        place(&[first, second], &NoiseSchedule::sd15(), &[2, 4, 32, 64])
    }

    #[test]
    fn shares_round_to_even_and_keep_a_pixel() {
        let shares = Region::Shares { x: 0.5, y: 0.25, width: 0.0, height: 0.75 };
        assert_eq!(shares.pixels(64, 10), area(32, 2, 1, 8));
    }

    #[test]
    fn borders_are_soft_inside_the_picture_only() {
        assert_eq!(ramp(0, 8, 8), [1.0; 8]);
        assert_eq!(ramp(4, 8, 16), [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5]);
        let wide = ramp(0, 40, 64);
        assert_eq!(wide[..32], [1.0; 32]);
        assert_eq!(wide[32..], [1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]);
    }

    #[test]
    fn the_other_side_gets_the_same_areas() {
        let left = area(0, 0, 32, 32);
        let first = [with_area(1.0, left), with_area(2.0, area(32, 0, 32, 32)), entry(3.0)];
        let second = [entry(4.0), with_area(5.0, area(0, 0, 40, 32))];
        let placed = place_two(&first, &second).unwrap();
        let seen = |side: &[Placed]| side.iter().map(|p| (text(p), p.area)).collect::<Vec<_>>();
        let wide = Some(area(0, 0, 40, 32));
        let right = Some(area(32, 0, 32, 32));
        // The left area lies in the second side's own one, the right one only in the whole picture.
        assert_eq!(seen(&placed[1]), [(4.0, None), (5.0, wide), (5.0, Some(left)), (4.0, right)]);
        // And the second side's own area comes back to the first, from its entry for the whole picture.
        assert_eq!(seen(&placed[0])[3..], [(3.0, wide)]);
    }

    #[test]
    fn areas_are_cut_to_the_latent_or_refused() {
        let placed = place_two(&[with_area(1.0, area(60, 30, 32, 32))], &[]).unwrap();
        assert_eq!(placed[0][0].area, Some(area(60, 30, 4, 2)));
        let error = place_two(&[with_area(1.0, area(64, 0, 8, 8))], &[]).unwrap_err().to_string();
        assert!(error.contains("64 by 32"), "{error}");
    }

    #[test]
    fn masks_fit_the_latent() {
        let mut values = vec![0f32; 32 * 64];
        values[5 * 64 + 10] = 0.5;
        values[20 * 64 + 30] = 1.0;
        let values = Tensor::from_vec(values, (1, 32, 64), &Device::Cpu).unwrap();
        let masked = |values: &Tensor| ConditioningEntry {
            mask: Some(RegionMask { values: values.clone(), strength: 2.0, area_from_bounds: true }),
            ..entry(1.0)
        };
        let placed = place_two(&[masked(&values)], &[]).unwrap();
        assert_eq!(placed[0][0].area, Some(area(10, 5, 21, 16)));
        let Weight::Map(map) = &placed[0][0].weight else { panic!("a mask gives a map") };
        assert_eq!(map.dims(), [1, 1, 16, 21]);
        assert_eq!(map.max_all().unwrap().to_scalar::<f32>().unwrap(), 2.0);
        let none = place_two(&[masked(&values.zeros_like().unwrap())], &[]).unwrap();
        assert_eq!(none[0][0].area, Some(area(0, 0, 8, 8)));
        let three = Tensor::ones((3, 4, 4), DType::F32, &Device::Cpu).unwrap();
        assert!(place(&[&[masked(&three)]], &NoiseSchedule::sd15(), &[4, 4, 8, 8]).is_err());
        let flat = Tensor::ones(3, DType::F32, &Device::Cpu).unwrap();
        assert!(place_two(&[masked(&flat)], &[]).is_err());
    }
}
