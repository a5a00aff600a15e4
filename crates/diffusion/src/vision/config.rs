//! Reads the layout of an image encoder from tensor shapes alone.

use crate::checkpoint::CheckpointHeader;

/// More layers than any published encoder has.
const MAX_LAYERS: usize = 256;
/// Every published encoder has so many heads, whatever its width.
const HEADS: usize = 16;
/// Encoders of the original release have at most so many layers; OpenCLIP's larger ones have more.
const MAX_APPROXIMATE_LAYERS: usize = 24;
const MAX_PICTURE_PX: usize = 4096;

/// How the tensors are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VisionLayout {
    /// As the transformers library names them.
    HuggingFace,
    /// As OpenAI's release and OpenCLIP name them.
    OpenClip,
}

/// Layout of a CLIP image encoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VisionConfig {
    pub layout: VisionLayout,
    /// Key prefix of the encoder.
    pub prefix: &'static str,
    pub width: usize,
    pub mlp_width: usize,
    pub layers: usize,
    pub heads: usize,
    /// Pixels along the side of a patch.
    pub patch_px: usize,
    /// Pixels along the side of the square picture that it sees.
    pub picture_px: usize,
    /// Width of the embedding that a picture has in common with a text.
    pub projected: usize,
    /// Whether it was trained with the sigmoid approximation of GELU.
    pub quick_gelu: bool,
}

/// Places of an encoder in a file.
const PLACES: [(VisionLayout, &str); 3] = [
    (VisionLayout::HuggingFace, "vision_model."),
    (VisionLayout::OpenClip, "visual."),
    // In checkpoints that are conditioned on pictures.
    (VisionLayout::OpenClip, "embedder.model.visual."),
];

struct Names {
    class: &'static str,
    patches: &'static str,
    positions: &'static str,
    layers: &'static str,
    up: &'static str,
    norm: &'static str,
}

impl VisionLayout {
    fn names(self) -> Names {
        match self {
            Self::HuggingFace => Names {
                class: "embeddings.class_embedding",
                patches: "embeddings.patch_embedding.weight",
                positions: "embeddings.position_embedding.weight",
                layers: "encoder.layers",
                up: "mlp.fc1.weight",
                norm: "layer_norm1.weight",
            },
            Self::OpenClip => Names {
                class: "class_embedding",
                patches: "conv1.weight",
                positions: "positional_embedding",
                layers: "transformer.resblocks",
                up: "mlp.c_fc.weight",
                norm: "ln_1.weight",
            },
        }
    }
}

impl VisionConfig {
    /// Reads the layout of the image encoder in `header`.
    ///
    /// # Errors
    /// The reason why there is none that can be run.
    pub fn from_header(header: &CheckpointHeader) -> Result<Self, String> {
        let there = |place: &&(VisionLayout, &str)| {
            header.contains(&format!("{}{}", place.1, place.0.names().patches))
        };
        let &(layout, prefix) = PLACES
            .iter()
            .find(there)
            .ok_or("its layers are not those of a CLIP image encoder (`vision_model.` or `visual.`)")?;
        let names = layout.names();
        let shape = |name: &str| header.shape(&format!("{prefix}{name}"));
        let misshapen = |name: &str| format!("`{prefix}{name}` is missing or misshapen");
        let Some(&[width, 3, patch_px, high]) = shape(names.patches) else {
            return Err(misshapen(names.patches));
        };
        let Some(&[positions, _]) = shape(names.positions) else { return Err(misshapen(names.positions)) };
        if shape(names.class).is_none() {
            return Err(format!(
                "{}; encoders without a class token are not supported",
                misshapen(names.class)
            ));
        }
        let first = format!("{}.0.{}", names.layers, names.up);
        let Some(&[mlp_width, _]) = shape(&first) else { return Err(misshapen(&first)) };
        let layers = (0..MAX_LAYERS)
            .take_while(|i| shape(&format!("{}.{i}.{}", names.layers, names.norm)).is_some())
            .count();
        let side = positions.saturating_sub(1).isqrt();
        let picture_px = side.saturating_mul(patch_px);
        if side == 0 || side * side + 1 != positions || patch_px != high || picture_px > MAX_PICTURE_PX {
            return Err(format!("{positions} positions of patches {patch_px} by {high} form no square"));
        }
        let projected = match layout {
            VisionLayout::HuggingFace => match header.shape("visual_projection.weight") {
                Some(&[projected, _]) => projected,
                _ => return Err("`visual_projection.weight` is missing or misshapen".into()),
            },
            VisionLayout::OpenClip => match shape("proj") {
                Some(&[_, projected]) => projected,
                _ => return Err(misshapen("proj")),
            },
        };
        // A miniature, too narrow for sixteen heads, has heads of 64 channels.
        let heads = (width / 64).clamp(1, HEADS);
        if layers < 2 || !width.is_multiple_of(heads) {
            return Err(format!("{layers} layers that are {width} wide are no CLIP image encoder"));
        }
        Ok(Self {
            layout,
            prefix,
            width,
            mlp_width,
            layers,
            heads,
            patch_px,
            picture_px,
            projected,
            quick_gelu: layers <= MAX_APPROXIMATE_LAYERS,
        })
    }
}
