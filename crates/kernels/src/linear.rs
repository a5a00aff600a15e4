//! Linear layers with packed weights.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use pulp::Arch;

use crate::elementwise::Geglu;
use crate::panels::{Panels, padded};
use crate::product::{Finish, Product};
use crate::storage::{contiguous, sequence};

/// `y = x W^T + b` on sequences.
#[derive(Debug)]
pub struct PackedLinear {
    panels: Panels,
    bias: Option<Vec<f32>>,
}

impl PackedLinear {
    /// Packs a weight `[outputs, inputs]` and a bias `[outputs]`.
    ///
    /// # Errors
    /// If one is not f32 on the CPU or of another rank.
    pub fn new(weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        Self::with_arch(Arch::new(), weight, bias)
    }

    pub(crate) fn with_arch(arch: Arch, weight: &Tensor, bias: Option<&Tensor>) -> Result<Self> {
        let (outputs, inputs) = weight.dims2()?;
        let weight = weight.flatten_all()?.to_vec1::<f32>()?;
        let panels = Panels::pack(arch, [inputs, outputs], |k, column| weight[column * inputs + k]);
        let bias = bias.map(|bias| Ok::<_, candle_core::Error>(padded(&bias.to_vec1()?, panels.width)));
        Ok(Self { bias: bias.transpose()?, panels })
    }

    /// Bytes that the weights take.
    pub fn bytes(&self) -> usize {
        self.panels.bytes() + self.bias.as_ref().map_or(0, |bias| 4 * bias.len())
    }

    /// # Shapes
    /// `[B, T, inputs]` in any memory order to `[B, T, outputs]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.apply_op1_no_bwd(&Forward { layer: self, gate: false })
    }

    /// Adds `more` `[B, T, outputs]` to the result.
    pub fn forward_add(&self, x: &Tensor, more: &Tensor) -> Result<Tensor> {
        x.apply_op2_no_bwd(&more.contiguous()?, &Forward { layer: self, gate: false })
    }

    /// Multiplies the first half of the result by the GELU of the second, giving `[B, T, outputs / 2]`.
    pub fn forward_geglu(&self, x: &Tensor) -> Result<Tensor> {
        if Product::can_gate(&self.panels) {
            x.apply_op1_no_bwd(&Forward { layer: self, gate: true })
        } else {
            self.forward(x)?.apply_op1_no_bwd(&Geglu)
        }
    }

    fn run(&self, x: (&CpuStorage, &Layout), finish: Finish<'_>) -> Result<(CpuStorage, Shape)> {
        let (batch, rows, inputs) = x.1.shape().dims3()?;
        if inputs != self.panels.depth {
            candle_core::bail!("the layer takes {} inputs, got {inputs}", self.panels.depth);
        }
        let product = Product { panels: &self.panels, bias: self.bias.as_deref(), finish };
        let mut y = vec![0f32; batch * rows * product.columns()];
        product.run(&sequence(x.0, x.1)?, &mut y);
        Ok((CpuStorage::F32(y), (batch, rows, product.columns()).into()))
    }
}

struct Forward<'a> {
    layer: &'a PackedLinear,
    gate: bool,
}

impl CustomOp1 for Forward<'_> {
    fn name(&self) -> &'static str {
        "packed-linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        self.layer.run((x, layout), if self.gate { Finish::Gate } else { Finish::Plain })
    }
}

impl CustomOp2 for Forward<'_> {
    fn name(&self) -> &'static str {
        "packed-linear-add"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        more: &CpuStorage,
        more_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (batch, rows, _) = x_layout.shape().dims3()?;
        if more_layout.dims() != [batch, rows, self.layer.panels.columns] {
            candle_core::bail!("cannot add {:?} to the layer's result", more_layout.dims());
        }
        self.layer.run((x, x_layout), Finish::Add(contiguous(more, more_layout)?))
    }
}
