//! Factors on the layers of attention.

/// Which attention of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionKind {
    /// A diffusion model's attention to itself.
    UnetSelf,
    /// A diffusion model's attention to the text.
    UnetCross,
    /// A text encoder's.
    Text,
}

/// Factors on the weights and biases of every attention of one kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionFactors {
    pub kind: AttentionKind,
    pub q: f64,
    pub k: f64,
    pub v: f64,
    pub out: f64,
}

impl AttentionFactors {
    /// The ends of layer names, and the factor of each.
    pub(super) fn by_name(&self) -> [(&'static str, f64); 4] {
        let names = match self.kind {
            AttentionKind::UnetSelf => ["attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0"],
            AttentionKind::UnetCross => ["attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"],
            AttentionKind::Text => {
                ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj"]
            }
        };
        let [q, k, v, out] = names;
        [(q, self.q), (k, self.k), (v, self.v), (out, self.out)]
    }
}
