//! The change that an adapter makes to one layer.

use candle_core::{DType, Result, Tensor, bail};

/// A change to a weight, a bias, or both.
#[derive(Debug, Clone)]
pub(super) struct Delta {
    pub kind: Option<Kind>,
    /// Scales the change by `alpha / rank`; without it the change counts as it is.
    pub alpha: Option<f64>,
    /// Norms that the changed weight is scaled back to (DoRA).
    pub dora_scale: Option<Tensor>,
    /// Added to the bias.
    pub bias: Option<Tensor>,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// `up @ down`, for convolutions with an optional core between them (LoCon, Tucker form).
    Lora { up: Tensor, down: Tensor, mid: Option<Tensor> },
    /// Product of two low-rank matrices element by element (LoHa).
    Loha { first: Factor, second: Factor },
    /// Kronecker product (LoKr).
    Lokr { first: Factor, second: Factor },
    /// The whole difference.
    Full { diff: Tensor },
}

/// A matrix, whole or as a product.
#[derive(Debug, Clone)]
pub(super) enum Factor {
    Whole(Tensor),
    Product { a: Tensor, b: Tensor, core: Option<Tensor> },
}

impl Factor {
    fn rank(&self) -> Option<usize> {
        match self {
            Self::Whole(_) => None,
            Self::Product { b, .. } => b.dim(0).ok(),
        }
    }

    fn value(&self, kronecker: bool) -> Result<Tensor> {
        match self {
            Self::Whole(whole) => Ok(whole.clone()),
            Self::Product { a, b, core: None } if kronecker => a.matmul(&flat(b)?),
            Self::Product { a, b, core: None } => a.matmul(b),
            // core [i, j, ...], a [i, p], b [j, r]: sum over i and j gives [p, r, ...].
            Self::Product { a, b, core: Some(core) } => {
                tucker(&a.t()?.contiguous()?, &b.t()?.contiguous()?, core)
            }
        }
    }
}

impl Delta {
    /// Returns `weight` with `strength` times the change.
    ///
    /// # Shapes
    /// `weight`: `[out, in]` or `[out, in, kh, kw]`, f32; the result has the same.
    ///
    /// # Errors
    /// If the shapes do not go together.
    pub(super) fn apply(&self, weight: &Tensor, strength: f64) -> Result<Tensor> {
        let Some(kind) = &self.kind else { return Ok(weight.clone()) };
        let scale = match (self.alpha, kind.rank()) {
            (Some(alpha), Some(rank)) => alpha / rank as f64,
            _ => 1.0,
        };
        let change = kind.value()?;
        if change.elem_count() != weight.elem_count() {
            bail!("the change has shape {:?}", change.dims());
        }
        let change = (change.reshape(weight.shape())? * scale)?;
        match &self.dora_scale {
            None => weight + (change * strength)?,
            Some(norms) => {
                let changed = rescale(&(weight + change)?, norms)?;
                weight + ((changed - weight)? * strength)?
            }
        }
    }

    /// Returns `bias` with `strength` times the change.
    ///
    /// # Errors
    /// If the shapes differ.
    pub(super) fn apply_to_bias(&self, bias: &Tensor, strength: f64) -> Result<Tensor> {
        match &self.bias {
            Some(change) => bias + (change.reshape(bias.shape())? * strength)?,
            None => Ok(bias.clone()),
        }
    }
}

impl Kind {
    fn rank(&self) -> Option<usize> {
        match self {
            Self::Lora { down, .. } => down.dim(0).ok(),
            Self::Loha { first, .. } => first.rank(),
            // Either factor may be whole; the rank of the second decides when both are products.
            Self::Lokr { first, second } => second.rank().or_else(|| first.rank()),
            Self::Full { .. } => None,
        }
    }

    fn value(&self) -> Result<Tensor> {
        match self {
            Self::Lora { up, down, mid: None } => flat(up)?.matmul(&flat(down)?),
            Self::Lora { up, down, mid: Some(mid) } => {
                tucker(&flat(up)?, &flat(down)?.t()?.contiguous()?, mid)
            }
            Self::Loha { first, second } => first.value(false)? * second.value(false)?,
            Self::Lokr { first, second } => kronecker(&first.value(true)?, &second.value(true)?),
            Self::Full { diff } => Ok(diff.clone()),
        }
    }
}

/// `[out, in, ...]` to `[out, in * ...]`.
fn flat(x: &Tensor) -> Result<Tensor> {
    if x.rank() < 2 {
        bail!("a factor has shape {:?}", x.dims())
    }
    x.flatten_from(1)
}

/// `left [p, i]`, `right [r, j]`, `core [i, j, kh, kw]` to `[p, r, kh, kw]`.
fn tucker(left: &Tensor, right: &Tensor, core: &Tensor) -> Result<Tensor> {
    let (i, j, kh, kw) = core.dims4()?;
    let (p, r) = (left.dim(0)?, right.dim(0)?);
    let rows = left.matmul(&core.reshape((i, j * kh * kw))?)?.reshape((p, j, kh * kw))?;
    let columns = rows.transpose(0, 1)?.contiguous()?.reshape((j, p * kh * kw))?;
    right.matmul(&columns)?.reshape((r, p, kh, kw))?.transpose(0, 1)?.contiguous()
}

/// `[a, b]` and `[c, d, ...]` to `[a * c, b * d, ...]`.
fn kronecker(first: &Tensor, second: &Tensor) -> Result<Tensor> {
    let (a, b) = first.dims2()?;
    let rest: Vec<usize> = second.dims().get(2..).unwrap_or_default().to_vec();
    let second = flat_keep(second)?;
    let (c, d, k) = second.dims3()?;
    let product = first.reshape((a, 1, b, 1, 1))?.broadcast_mul(&second.reshape((1, c, 1, d, k))?)?;
    product.reshape([vec![a * c, b * d], rest].concat())
}

/// `[c, d, ...]` to `[c, d, product of the rest]`.
fn flat_keep(x: &Tensor) -> Result<Tensor> {
    let &[c, d, ref rest @ ..] = x.dims() else { bail!("a factor has shape {:?}", x.dims()) };
    x.reshape((c, d, rest.iter().product::<usize>()))
}

/// Scales the rows or the columns of `weight` to the given norms, whichever of them `norms` is shaped for.
fn rescale(weight: &Tensor, norms: &Tensor) -> Result<Tensor> {
    let (rows, columns) = (weight.dim(0)?, weight.dim(1)?);
    let per_row = norms.dim(0)? == rows && norms.elem_count() == rows;
    if !per_row && norms.elem_count() != columns {
        bail!("the norms have shape {:?}", norms.dims());
    }
    let squared = weight.to_dtype(DType::F64)?.sqr()?;
    let dims: Vec<usize> = (0..weight.rank()).filter(|&dim| dim != usize::from(!per_row)).collect();
    let found = squared.sum_keepdim(dims)?.sqrt()?.to_dtype(DType::F32)?;
    weight.broadcast_mul(&(norms.reshape(found.shape())? / found)?)
}
