//! What control networks add to the features of a UNet.

use candle_core::Tensor;

use super::changes::Unfit;
use crate::error::{Error, Result};

/// Feature maps to add, by the block of the descending half that they belong to.
///
/// # Shapes
/// `[B, C, h, w]` or `[1, C, h, w]`, as the block's own.
#[derive(Debug, Clone, Default)]
pub struct ControlSignals {
    /// Added to what a block gives, before the next one sees it.
    pub input: Vec<Option<Tensor>>,
    /// Added to what stands between the halves.
    pub middle: Option<Tensor>,
    /// Added to what a block hands over to the ascending half.
    pub skips: Vec<Option<Tensor>>,
}

impl ControlSignals {
    pub(super) fn add_to_input(&self, block: usize, h: Tensor, unfit: Unfit) -> Result<Tensor> {
        add(h, at(&self.input, block), unfit)
    }

    pub(super) fn add_to_middle(&self, h: Tensor, unfit: Unfit) -> Result<Tensor> {
        add(h, self.middle.as_ref(), unfit)
    }

    pub(super) fn add_to_skip(&self, block: usize, skip: Tensor, unfit: Unfit) -> Result<Tensor> {
        add(skip, at(&self.skips, block), unfit)
    }

    /// Adds up the signals of two networks.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if they are not for the same UNet.
    pub(crate) fn plus(self, other: Self) -> Result<Self> {
        Ok(Self {
            input: sum_all(self.input, other.input)?,
            middle: sum(self.middle, other.middle)?,
            skips: sum_all(self.skips, other.skips)?,
        })
    }

    /// Changes every feature map.
    pub(crate) fn map(self, change: impl Fn(&Tensor) -> candle_core::Result<Tensor>) -> Result<Self> {
        let one = |signal: Option<Tensor>| signal.as_ref().map(&change).transpose();
        let all = |signals: Vec<Option<Tensor>>| signals.into_iter().map(one).collect();
        let (input, skips): (candle_core::Result<_>, candle_core::Result<_>) =
            (all(self.input), all(self.skips));
        Ok(Self { input: input?, middle: one(self.middle)?, skips: skips? })
    }
}

fn at(signals: &[Option<Tensor>], block: usize) -> Option<&Tensor> {
    signals.get(block).and_then(Option::as_ref)
}

fn add(h: Tensor, signal: Option<&Tensor>, unfit: Unfit) -> Result<Tensor> {
    let Some(signal) = signal else { return Ok(h) };
    let fits = matches!((h.dims(), signal.dims()), ([b, inner @ ..], [n, given @ ..]) if inner == given && (n == b || *n == 1));
    if !fits {
        return match unfit {
            Unfit::Refused => Err(refused(h.dims(), signal.dims())),
            Unfit::LeftOut => Ok(h),
        };
    }
    let signal = signal.to_dtype(h.dtype())?;
    if h.dims() == signal.dims() { super::maps::add(&h, &signal) } else { Ok(h.broadcast_add(&signal)?) }
}

fn refused(features: &[usize], signal: &[usize]) -> Error {
    Error::InvalidArgument(format!(
        "a control signal of shape {signal:?} does not go with features of shape {features:?}: the control network is for another model"
    ))
}

fn sum(a: Option<Tensor>, b: Option<Tensor>) -> Result<Option<Tensor>> {
    let (a, b) = match (a, b) {
        (Some(a), Some(b)) => (a, b),
        (one, other) => return Ok(one.or(other)),
    };
    // The one with fewer rows is repeated.
    let (more, fewer) = if a.dims().first() >= b.dims().first() { (a, b) } else { (b, a) };
    add(more, Some(&fewer), Unfit::Refused).map(Some)
}

fn sum_all(a: Vec<Option<Tensor>>, b: Vec<Option<Tensor>>) -> Result<Vec<Option<Tensor>>> {
    let length = a.len().max(b.len());
    let padded = |signals: Vec<Option<Tensor>>| signals.into_iter().chain(std::iter::repeat(None));
    padded(a).zip(padded(b)).take(length).map(|(a, b)| sum(a, b)).collect()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn filled(value: f32, shape: &[usize]) -> Tensor {
        Tensor::full(value, shape, &Device::Cpu).unwrap()
    }

    fn first(tensor: &Tensor) -> f32 {
        tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()[0]
    }

    #[test]
    fn signals_add_up_where_both_have_one() {
        let one = ControlSignals {
            input: vec![None, Some(filled(1.0, &[1, 2, 2, 2]))],
            middle: Some(filled(2.0, &[2, 2, 1, 1])),
            skips: vec![],
        };
        let other = ControlSignals {
            input: vec![Some(filled(3.0, &[2, 2, 4, 4])), Some(filled(4.0, &[2, 2, 2, 2])), None],
            middle: None,
            skips: vec![Some(filled(5.0, &[2, 2, 4, 4]))],
        };
        let both = one.plus(other).unwrap();
        let inputs: Vec<_> = both.input.iter().map(|signal| signal.as_ref().map(first)).collect();
        assert_eq!(inputs, [Some(3.0), Some(5.0), None]);
        assert_eq!(both.input[1].as_ref().unwrap().dims(), [2, 2, 2, 2]);
        assert_eq!((both.middle.as_ref().map(first), both.skips.len()), (Some(2.0), 1));
        let features = filled(1.0, &[2, 2, 4, 4]);
        assert_eq!(first(&both.add_to_input(0, features.clone(), Unfit::Refused).unwrap()), 4.0);
        assert_eq!(first(&both.add_to_skip(0, features.clone(), Unfit::Refused).unwrap()), 6.0);
        assert_eq!(first(&both.add_to_skip(7, features.clone(), Unfit::Refused).unwrap()), 1.0);
        assert_eq!(first(&both.add_to_middle(features.clone(), Unfit::LeftOut).unwrap()), 1.0);
        let error = both.add_to_middle(features, Unfit::Refused).unwrap_err().to_string();
        assert!(error.contains("for another model"), "{error}");
    }
}
