//! Reads the layout of a text encoder from tensor shapes alone.

use super::config::Shapes;
use super::header::CheckpointHeader;
use crate::families::TextPart;

/// How a CLIP text transformer's tensors are named; the arithmetic is the same but for the activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClipLayout {
    /// Hugging Face names and OpenAI's approximate GELU.
    HuggingFace,
    /// Hugging Face names and the exact GELU: the larger models, converted.
    HuggingFaceGelu,
    /// OpenCLIP names with query, key and value in one matrix, and the exact GELU.
    OpenClip,
}

/// How the projection of the pooled text is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Projection {
    /// `text_projection`, to be multiplied from the right: `[width, projected]`.
    Parameter(usize),
    /// `text_projection.weight` of a linear layer: `[projected, width]`.
    Layer(usize),
}

impl Projection {
    /// The width of what it gives.
    pub fn width(self) -> usize {
        match self {
            Self::Parameter(width) | Self::Layer(width) => width,
        }
    }
}

/// Layout of a CLIP text transformer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClipConfig {
    /// Key prefix up to and including the optional `text_model.` level.
    pub prefix: String,
    pub layout: ClipLayout,
    pub vocabulary: usize,
    pub positions: usize,
    pub width: usize,
    pub mlp_width: usize,
    pub layers: usize,
    pub heads: usize,
    /// Of the pooled text; without one it is taken as it is.
    pub projection: Option<Projection>,
    /// Where the projection is: beside the level that the encoder's prefix ends in, or within it.
    pub projection_prefix: String,
}

/// Key names of a layout, as far as shapes are read from them.
struct Names {
    tokens: &'static str,
    positions: &'static str,
    layers: &'static str,
    up: &'static str,
    norm: &'static str,
}

impl ClipLayout {
    fn names(self) -> Names {
        match self {
            Self::HuggingFace | Self::HuggingFaceGelu => Names {
                tokens: "embeddings.token_embedding.weight",
                positions: "embeddings.position_embedding.weight",
                layers: "encoder.layers",
                up: "mlp.fc1.weight",
                norm: "layer_norm1.weight",
            },
            Self::OpenClip => Names {
                tokens: "token_embedding.weight",
                positions: "positional_embedding",
                layers: "transformer.resblocks",
                up: "mlp.c_fc.weight",
                norm: "ln_1.weight",
            },
        }
    }

    /// The head count, which no tensor shape tells.
    ///
    /// Every published CLIP has heads of 64 channels; a miniature CLIP-L, too narrow for that, has four heads.
    fn heads(self, width: usize) -> usize {
        match self {
            Self::HuggingFace => (width / 64).max(4),
            Self::HuggingFaceGelu | Self::OpenClip => width / 64,
        }
    }
}

impl ClipConfig {
    /// Reads the layout of a family's text encoder in `header`.
    pub fn from_header(header: &CheckpointHeader, part: &TextPart) -> Result<Self, String> {
        let names = part.layout.names();
        let found = |prefix: &&str| header.contains(&format!("{prefix}{}", names.tokens));
        let missing = || format!("no `{}{}`", part.prefixes[0], names.tokens);
        let prefix = part.prefixes.iter().copied().find(found).ok_or_else(missing)?;
        let shapes = Shapes { header, prefix };
        let [vocabulary, width] = shapes.need::<2>(names.tokens)?;
        let [positions, _] = shapes.need::<2>(names.positions)?;
        let [mlp_width, _] = shapes.need::<2>(&format!("{}.0.{}", names.layers, names.up))?;
        let layers = shapes.count(|i| format!("{}.{i}.{}", names.layers, names.norm));
        if width == 0 || !width.is_multiple_of(64) {
            return Err(format!("text width {width} is not a multiple of 64"));
        }
        if vocabulary < 49408 || positions < 77 {
            return Err(format!("{vocabulary} tokens at {positions} positions are too few for CLIP"));
        }
        let (projection, projection_prefix) = projection(header, prefix)?;
        Ok(Self {
            prefix: prefix.into(),
            layout: part.layout,
            vocabulary,
            positions,
            width,
            mlp_width,
            layers,
            heads: part.layout.heads(width),
            projection,
            projection_prefix: projection_prefix.into(),
        })
    }

    /// Whether tensors are named as Hugging Face names them.
    pub(crate) fn has_hugging_face_names(&self) -> bool {
        self.layout != ClipLayout::OpenClip
    }

    /// Reads the layouts of all text encoders of a family, in the order their outputs are joined.
    ///
    /// # Errors
    /// The reason why one of them cannot be used.
    pub fn all(header: &CheckpointHeader, parts: &[TextPart]) -> Result<Vec<Self>, String> {
        parts.iter().map(|part| Self::from_header(header, part)).collect()
    }
}

/// The projection of the encoder at `prefix` and the prefix that it stands at.
fn projection<'a>(
    header: &CheckpointHeader,
    prefix: &'a str,
) -> Result<(Option<Projection>, &'a str), String> {
    // Hugging Face keeps it beside the `text_model.` level, not within.
    for prefix in [prefix, prefix.strip_suffix("text_model.").unwrap_or(prefix)] {
        let shapes = Shapes { header, prefix };
        if shapes.has("text_projection") {
            let [_, projected] = shapes.need::<2>("text_projection")?;
            return Ok((Some(Projection::Parameter(projected)), prefix));
        }
        if shapes.has("text_projection.weight") {
            let [projected, _] = shapes.need::<2>("text_projection.weight")?;
            return Ok((Some(Projection::Layer(projected)), prefix));
        }
    }
    Ok((None, prefix))
}
