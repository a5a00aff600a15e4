//! Typed access to what fills a node's inputs.

use crate::data::{ClipVisionOutput, Conditioning, Data, Guider, Latent};
use crate::node::NodeError;
use comfy_artifacts::HostTensor;
use comfy_graph::Literal;
use std::collections::BTreeMap;

/// The inputs of one run of a node. Validation has converted them already, so a wrong type here is a bug of the
/// caller and an error, not a panic.
///
/// A node whose spec says `input_is_list` gets lists: [`Inputs::list`] and [`Inputs::images`] give their elements, and
/// the plain accessors the first one, which is what such nodes want of their widgets.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    values: BTreeMap<String, Data>,
}

macro_rules! accessors {
    ($($required:ident, $optional:ident, $pattern:pat => $value:expr, $type:ty, $expected:literal;)*) => {$(
        #[doc = concat!("Takes a required ", $expected, ".")]
        ///
        /// # Errors
        /// When it is missing or something else.
        pub fn $required(&self, name: &str) -> Result<$type, NodeError> {
            self.$optional(name)?.ok_or_else(|| missing(name))
        }

        #[doc = concat!("Takes an optional ", $expected, ".")]
        ///
        /// # Errors
        /// When it is something else.
        pub fn $optional(&self, name: &str) -> Result<Option<$type>, NodeError> {
            match self.first(name)? {
                None => Ok(None),
                Some($pattern) => Ok(Some($value)),
                Some(other) => Err(wrong(name, $expected, other)),
            }
        }
    )*};
}

impl Inputs {
    pub fn new(values: impl IntoIterator<Item = (String, Data)>) -> Self {
        Self { values: values.into_iter().collect() }
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Data> {
        self.values.values()
    }

    pub fn get(&self, name: &str) -> Option<&Data> {
        self.values.get(name)
    }

    /// The elements of an input; one that is no list is the only element.
    ///
    /// # Errors
    /// When it is missing.
    pub fn list(&self, name: &str) -> Result<&[Data], NodeError> {
        self.values.get(name).map(Data::items).ok_or_else(|| missing(name))
    }

    /// The elements of a list of pictures.
    ///
    /// # Errors
    /// When it is missing or an element is something else.
    pub fn images(&self, name: &str) -> Result<Vec<&HostTensor>, NodeError> {
        let image = |data| match data {
            &Data::Image(ref tensor) => Ok(tensor),
            other => Err(wrong(name, "a list of IMAGE", other)),
        };
        self.list(name)?.iter().map(image).collect()
    }

    /// The elements of a list of latents.
    ///
    /// # Errors
    /// When it is missing or an element is something else.
    pub fn latents(&self, name: &str) -> Result<Vec<&Latent>, NodeError> {
        let latent = |data| match data {
            &Data::Latent(ref latent) => Ok(latent),
            other => Err(wrong(name, "a list of LATENT", other)),
        };
        self.list(name)?.iter().map(latent).collect()
    }

    fn first(&self, name: &str) -> Result<Option<&Data>, NodeError> {
        match self.values.get(name) {
            Some(Data::List(items)) => match items.first() {
                Some(first) => Ok(Some(first)),
                None => Err(NodeError::invalid(format!("input `{name}` is an empty list"))),
            },
            other => Ok(other),
        }
    }

    accessors! {
        int, opt_int, Data::Literal(Literal::Int(i)) => *i, i128, "INT";
        boolean, opt_boolean, Data::Literal(Literal::Bool(b)) => *b, bool, "BOOLEAN";
        text, opt_text, Data::Literal(Literal::Text(s)) => s.as_str(), &str, "STRING";
        image, opt_image, Data::Image(t) => t, &HostTensor, "IMAGE";
        mask, opt_mask, Data::Mask(t) => t, &HostTensor, "MASK";
        latent, opt_latent, Data::Latent(l) => l, &Latent, "LATENT";
        conditioning, opt_conditioning, Data::Conditioning(c) => c, &Conditioning, "CONDITIONING";
        guider, opt_guider, Data::Guider(g) => g, &Guider, "GUIDER";
        clip_vision_output, opt_clip_vision_output, Data::ClipVisionOutput(o) => o, &ClipVisionOutput, "CLIP_VISION_OUTPUT";
        recipe, opt_recipe, Data::Recipe(r) => r, &serde_json::Value, "recipe";
    }

    /// Takes a required number, whole or not.
    ///
    /// # Errors
    /// When it is missing, something else or not finite.
    pub fn float(&self, name: &str) -> Result<f64, NodeError> {
        match self.first(name)? {
            None => Err(missing(name)),
            Some(Data::Literal(Literal::Float(f))) if f.is_finite() => Ok(*f),
            Some(Data::Literal(Literal::Int(i))) => Ok(*i as f64),
            Some(other) => Err(wrong(name, "finite FLOAT", other)),
        }
    }

    /// Takes a required whole number that fits `T`.
    ///
    /// # Errors
    /// When it is missing, something else or out of range.
    pub fn int_as<T: TryFrom<i128>>(&self, name: &str) -> Result<T, NodeError> {
        let value = self.int(name)?;
        T::try_from(value).map_err(|_| NodeError::invalid(format!("input `{name}` is out of range: {value}")))
    }
}

fn missing(name: &str) -> NodeError {
    NodeError::invalid(format!("input `{name}` is missing"))
}

fn wrong(name: &str, expected: &str, got: &Data) -> NodeError {
    NodeError::invalid(format!("input `{name}` must be {expected}, got {}", got.kind()))
}
