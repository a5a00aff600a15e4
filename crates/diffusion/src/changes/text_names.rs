//! Where the layouts of a CLIP text transformer keep the same tensor.

use candle_core::{Result, Tensor};

use crate::checkpoint::{ClipConfig, Projection};

/// How a stored tensor holds the one that Hugging Face's layout has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoredPart {
    Whole,
    /// One of three that are stored below each other.
    Third(usize),
    /// With rows and columns exchanged.
    Turned,
}

impl StoredPart {
    /// Takes the tensor out of what is stored.
    pub(crate) fn plain(self, stored: &Tensor) -> Result<Tensor> {
        match self {
            Self::Whole => Ok(stored.clone()),
            Self::Third(third) => {
                let rows = stored.dim(0)? / 3;
                stored.narrow(0, third * rows, rows)?.contiguous()
            }
            Self::Turned => stored.t()?.contiguous(),
        }
    }
}

/// A tensor of a text transformer.
#[derive(Debug, Clone)]
pub(crate) struct TextTensor {
    /// Its name in a file of Hugging Face's layout.
    pub name: String,
    /// Its full key in the file at hand.
    pub key: String,
    pub part: StoredPart,
}

const LAYERS: [(&str, &str, StoredPart); 8] = [
    ("self_attn.q_proj.", "attn.in_proj_", StoredPart::Third(0)),
    ("self_attn.k_proj.", "attn.in_proj_", StoredPart::Third(1)),
    ("self_attn.v_proj.", "attn.in_proj_", StoredPart::Third(2)),
    ("self_attn.out_proj.", "attn.out_proj.", StoredPart::Whole),
    ("mlp.fc1.", "mlp.c_fc.", StoredPart::Whole),
    ("mlp.fc2.", "mlp.c_proj.", StoredPart::Whole),
    ("layer_norm1.", "ln_1.", StoredPart::Whole),
    ("layer_norm2.", "ln_2.", StoredPart::Whole),
];

const OUTSIDE: [(&str, &str); 4] = [
    ("embeddings.token_embedding.weight", "token_embedding.weight"),
    ("embeddings.position_embedding.weight", "positional_embedding"),
    ("final_layer_norm.weight", "ln_final.weight"),
    ("final_layer_norm.bias", "ln_final.bias"),
];

/// Every tensor of a text transformer.
pub(crate) fn text_tensors(config: &ClipConfig) -> Vec<TextTensor> {
    let theirs = config.has_hugging_face_names();
    let tensor = |name: String, open_clip: String, part| {
        let (inner, part) = if theirs { (name.clone(), StoredPart::Whole) } else { (open_clip, part) };
        TextTensor { name: format!("text_model.{name}"), key: format!("{}{inner}", config.prefix), part }
    };
    let mut tensors: Vec<TextTensor> =
        OUTSIDE.map(|(name, open)| tensor(name.into(), open.into(), StoredPart::Whole)).into();
    for i in 0..config.layers {
        for (name, open, part) in LAYERS {
            for kind in ["weight", "bias"] {
                tensors.push(tensor(
                    format!("encoder.layers.{i}.{name}{kind}"),
                    format!("transformer.resblocks.{i}.{open}{kind}"),
                    part,
                ));
            }
        }
    }
    let (end, part) = match config.projection {
        None => return tensors,
        Some(Projection::Parameter(_)) => ("text_projection", StoredPart::Turned),
        Some(Projection::Layer(_)) => ("text_projection.weight", StoredPart::Whole),
    };
    let key = format!("{}{end}", config.projection_prefix);
    tensors.push(TextTensor { name: "text_projection.weight".into(), key, part });
    tensors
}
