//! What a node works with: values on links, decoded.

use comfy_artifacts::HostTensor;
use comfy_graph::Literal;
use std::collections::BTreeMap;

/// The value of an output slot inside a stage.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    Literal(Literal),
    /// Pictures `[B,H,W,C]` (C is 3, rarely 4 or 1), 0..=1.
    Image(HostTensor),
    /// Masks `[B,H,W]`, 0..=1.
    Mask(HostTensor),
    Latent(Latent),
    Conditioning(Conditioning),
    Guider(Guider),
    ClipVisionOutput(ClipVisionOutput),
    /// How to make a MODEL, CLIP or VAE, or what a SAMPLER, SIGMAS or NOISE link says.
    Recipe(serde_json::Value),
    /// Several values in order, none of them a list: an output whose spec says `is_list`, or an input of a node whose
    /// spec says `input_is_list`. Other nodes never see one, they run once per element.
    List(Vec<Data>),
    /// No value: nodes that take it are not run. The text, if any, is told to the person.
    Blocked(Option<String>),
}

impl Data {
    /// The socket type, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Data::Literal(literal) => literal.kind(),
            Data::Image(_) => "IMAGE",
            Data::Mask(_) => "MASK",
            Data::Latent(_) => "LATENT",
            Data::Conditioning(_) => "CONDITIONING",
            Data::Guider(_) => "GUIDER",
            Data::ClipVisionOutput(_) => "CLIP_VISION_OUTPUT",
            Data::Recipe(_) => "recipe",
            Data::List(_) => "list",
            Data::Blocked(_) => "blocked",
        }
    }

    /// The elements of a list; anything else is a list of itself.
    pub fn items(&self) -> &[Data] {
        match self {
            Data::List(items) => items,
            single => std::slice::from_ref(single),
        }
    }

    /// A list, or its element when there is exactly one.
    pub fn from_items(mut items: Vec<Data>) -> Self {
        match items.pop() {
            Some(only) if items.is_empty() => only,
            Some(last) => {
                items.push(last);
                Data::List(items)
            }
            None => Data::List(items),
        }
    }
}

/// A LATENT: what the sampler starts from or ends with.
#[derive(Debug, Clone, PartialEq)]
pub struct Latent {
    /// `[B,4,H/8,W/8]`, divided by the scale factor of the latent format as ComfyUI keeps it on links.
    pub samples: HostTensor,
    /// `[B,h,w]` or `[B,1,h,w]`: 1 where new content may appear.
    pub noise_mask: Option<HostTensor>,
    /// The place of each latent in the batch it was taken from, which decides its noise.
    pub batch_index: Option<Vec<u64>>,
}

impl Latent {
    pub fn new(samples: HostTensor) -> Self {
        Self { samples, noise_mask: None, batch_index: None }
    }
}

/// A GUIDER: a model and the prompts that steer it.
#[derive(Debug, Clone, PartialEq)]
pub struct Guider {
    /// Which model and how it is guided.
    pub recipe: serde_json::Value,
    /// The prompts by the name of their side, such as `positive`.
    pub sides: BTreeMap<String, Conditioning>,
}

/// A CLIP_VISION_OUTPUT: what an image encoder saw in a batch of pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipVisionOutput {
    /// After all layers: `[B,T,D]`.
    pub last_hidden_state: HostTensor,
    /// Before the last layer: `[B,T,D]`.
    pub penultimate_hidden_states: HostTensor,
    /// The pictures where texts are: `[B,P]`.
    pub image_embeds: HostTensor,
}

/// A CONDITIONING: the entries are combined by the sampler.
pub type Conditioning = Vec<ConditioningEntry>;

/// One text embedding and how it applies.
#[derive(Debug, Clone, PartialEq)]
pub struct ConditioningEntry {
    /// `[B,T,D]`.
    pub embedding: HostTensor,
    /// `[B,D]`.
    pub pooled: Option<HostTensor>,
    /// Other tensors by name, such as `mask`.
    pub tensors: BTreeMap<String, HostTensor>,
    /// Plain extras by name, such as `area`, `strength`, `start_percent`.
    pub extras: serde_json::Map<String, serde_json::Value>,
}

impl ConditioningEntry {
    pub fn new(embedding: HostTensor, pooled: Option<HostTensor>) -> Self {
        Self { embedding, pooled, tensors: BTreeMap::new(), extras: serde_json::Map::new() }
    }
}
