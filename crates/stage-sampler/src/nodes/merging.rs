//! Merging models and text encoders, and factors on their attention: recipes of recipes, worked out as weights are
//! read.

use crate::recipe::{AttentionName, AttentionUse, MergeUse, Part, Recipe, WeightChange};
use crate::state::SamplerState;
use comfy_graph::{InputSpec, NodeSpec, OutputSpec};
use comfy_stage::{Ctx, Data, Inputs, Node, NodeError, Outputs};

/// How two parts are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// A share of the first, the rest of the second.
    Ratio,
    Add,
    Subtract,
}

/// `ModelMergeSimple`, `CLIPMergeSimple` and their kin.
pub(super) struct MergeNode {
    class: &'static str,
    part: Part,
    how: How,
    description: &'static str,
}

const fn node(class: &'static str, part: Part, how: How, description: &'static str) -> MergeNode {
    MergeNode { class, part, how, description }
}

pub(super) static MODEL_SIMPLE: MergeNode =
    node("ModelMergeSimple", Part::Model, How::Ratio, "Mixes two diffusion models of one kind.");
pub(super) static MODEL_ADD: MergeNode =
    node("ModelMergeAdd", Part::Model, How::Add, "Adds the weights of two diffusion models.");
pub(super) static MODEL_SUBTRACT: MergeNode = node(
    "ModelMergeSubtract",
    Part::Model,
    How::Subtract,
    "Takes the weights of a diffusion model from another's; what is left can be added to a third.",
);
pub(super) static CLIP_SIMPLE: MergeNode =
    node("CLIPMergeSimple", Part::Clip, How::Ratio, "Mixes two text encoders of one kind.");
pub(super) static CLIP_ADD: MergeNode =
    node("CLIPMergeAdd", Part::Clip, How::Add, "Adds the weights of two text encoders.");
pub(super) static CLIP_SUBTRACT: MergeNode = node(
    "CLIPMergeSubtract",
    Part::Clip,
    How::Subtract,
    "Takes the weights of a text encoder from another's; what is left can be added to a third.",
);

/// The names of the two inputs of a part, and their socket.
fn pair(part: Part) -> ([&'static str; 2], &'static str) {
    match part {
        Part::Clip => (["clip1", "clip2"], "CLIP"),
        _ => (["model1", "model2"], "MODEL"),
    }
}

fn share(name: &str) -> InputSpec {
    InputSpec::float(name, 1.0, (0.0, 1.0), 0.01, None)
}

fn spec(class: &str, category: &str, description: &str, part: Part, more: Vec<InputSpec>) -> NodeSpec {
    let (names, socket) = pair(part);
    let sockets = names.map(|name| InputSpec::socket(name, socket));
    NodeSpec {
        class: class.into(),
        display_name: class.into(),
        description: description.into(),
        category: category.into(),
        version: 1,
        inputs: sockets.into_iter().chain(more).collect(),
        outputs: vec![OutputSpec::of(socket)],
        ..NodeSpec::default()
    }
}

/// The first recipe with the second merged into it.
fn merged(
    inputs: &Inputs,
    part: Part,
    (own, other): (f64, f64),
    by_prefix: Vec<(String, f64, f64)>,
) -> Result<Outputs, NodeError> {
    let ([first, second], _) = pair(part);
    let mut recipe = Recipe::read(inputs.recipe(first)?, part)?;
    let merge = Box::new(Recipe::read(inputs.recipe(second)?, part)?.of_weights());
    recipe.changes.push(WeightChange::Merge(MergeUse { merge, own, other, by_prefix }));
    Ok(Outputs::one(Data::Recipe(recipe.to_json())))
}

impl Node<SamplerState> for MergeNode {
    fn spec(&self) -> NodeSpec {
        let more = match self.how {
            How::Ratio => vec![share("ratio").tooltip("The share of the first; the rest is the second's.")],
            How::Add => vec![],
            How::Subtract => vec![
                InputSpec::float("multiplier", 1.0, (-10.0, 10.0), 0.01, None)
                    .tooltip("Factor of the difference."),
            ],
        };
        spec(self.class, "advanced/model_merging", self.description, self.part, more)
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let shares = match self.how {
            How::Ratio => ratio(inputs.float("ratio")?),
            How::Add => (1.0, 1.0),
            How::Subtract => {
                let factor = inputs.float("multiplier")?;
                (factor, -factor)
            }
        };
        merged(inputs, self.part, shares, Vec::new())
    }
}

fn ratio(first: f64) -> (f64, f64) {
    (first, 1.0 - first)
}

/// A merge with a share for each of several parts of the network, by the beginning of their names.
pub(super) struct BlockMerge {
    class: &'static str,
    category: &'static str,
    description: &'static str,
    blocks: Blocks,
}

/// The parts of a network that have a share of their own.
enum Blocks {
    Thirds,
    /// Input and output blocks, and what follows their numbers.
    Each(usize, &'static str),
}

impl Blocks {
    fn prefixes(&self) -> Vec<String> {
        match self {
            Self::Thirds => ["input", "middle", "out"].map(String::from).into(),
            Self::Each(count, end) => {
                let numbered = |name: &'static str, count: usize| {
                    (0..count).map(move |i| {
                        format!("{name}_blocks.{i}{end}").replace("middle_blocks", "middle_block")
                    })
                };
                let first = ["time_embed.", "label_emb."].map(String::from).into_iter();
                let blocks = first.chain(numbered("input", *count)).chain(numbered("middle", 3));
                blocks.chain(numbered("output", *count)).chain(["out.".to_owned()]).collect()
            }
        }
    }
}

const SPECIFIC: &str = "advanced/model_merging/model_specific";

pub(super) static MODEL_BLOCKS: BlockMerge = BlockMerge {
    class: "ModelMergeBlocks",
    category: "advanced/model_merging",
    description: "Mixes two diffusion models with a share for each of the network's three parts.",
    blocks: Blocks::Thirds,
};
pub(super) static MODEL_SD1: BlockMerge = BlockMerge {
    class: "ModelMergeSD1",
    category: SPECIFIC,
    description: "Mixes two models of Stable Diffusion 1 with a share for each block.",
    blocks: Blocks::Each(12, "."),
};
pub(super) static MODEL_SD2: BlockMerge = BlockMerge {
    class: "ModelMergeSD2",
    category: SPECIFIC,
    description: "Mixes two models of Stable Diffusion 2 with a share for each block.",
    blocks: Blocks::Each(12, "."),
};
pub(super) static MODEL_SDXL: BlockMerge = BlockMerge {
    class: "ModelMergeSDXL",
    category: SPECIFIC,
    description: "Mixes two models of Stable Diffusion XL with a share for each block.",
    blocks: Blocks::Each(9, ""),
};

impl Node<SamplerState> for BlockMerge {
    fn spec(&self) -> NodeSpec {
        let shares = self.blocks.prefixes();
        let shares = shares.iter().map(|name| share(name).tooltip("The share of the first model."));
        spec(self.class, self.category, self.description, Part::Model, shares.collect())
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let mut by_prefix = Vec::new();
        for prefix in self.blocks.prefixes() {
            let (own, other) = ratio(inputs.float(&prefix)?);
            by_prefix.push((prefix, own, other));
        }
        // What none of the names fits gets the first share, as in ComfyUI.
        let (_, own, other) = by_prefix[0];
        merged(inputs, Part::Model, (own, other), by_prefix)
    }
}

/// `UNetSelfAttentionMultiply` and its kin.
pub(super) struct AttentionMultiply {
    class: &'static str,
    attention: AttentionName,
    description: &'static str,
}

pub(super) static UNET_SELF: AttentionMultiply = AttentionMultiply {
    class: "UNetSelfAttentionMultiply",
    attention: AttentionName::UnetSelf,
    description: "Multiplies the weights by which a diffusion model attends to itself.",
};
pub(super) static UNET_CROSS: AttentionMultiply = AttentionMultiply {
    class: "UNetCrossAttentionMultiply",
    attention: AttentionName::UnetCross,
    description: "Multiplies the weights by which a diffusion model attends to the prompt.",
};
pub(super) static CLIP_ATTENTION: AttentionMultiply = AttentionMultiply {
    class: "CLIPAttentionMultiply",
    attention: AttentionName::Text,
    description: "Multiplies the weights of a text encoder's attention.",
};

impl AttentionMultiply {
    fn part(&self) -> (Part, &'static str, &'static str) {
        match self.attention {
            AttentionName::Text => (Part::Clip, "clip", "CLIP"),
            _ => (Part::Model, "model", "MODEL"),
        }
    }
}

impl Node<SamplerState> for AttentionMultiply {
    fn spec(&self) -> NodeSpec {
        let (_, link, socket) = self.part();
        let factor = |name, what| InputSpec::float(name, 1.0, (0.0, 10.0), 0.01, None).tooltip(what);
        NodeSpec {
            class: self.class.into(),
            display_name: self.class.into(),
            description: self.description.into(),
            category: "_for_testing/attention_experiments".into(),
            version: 1,
            inputs: vec![
                InputSpec::socket(link, socket),
                factor("q", "Factor of what asks."),
                factor("k", "Factor of what is asked."),
                factor("v", "Factor of what is answered."),
                factor("out", "Factor of the whole."),
            ],
            outputs: vec![OutputSpec::of(socket)],
            experimental: true,
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let (part, link, _) = self.part();
        let mut recipe = Recipe::read(inputs.recipe(link)?, part)?;
        let [q, k, v, out] = ["q", "k", "v", "out"].map(|name| inputs.float(name));
        let factors = AttentionUse { attention: self.attention, q: q?, k: k?, v: v?, out: out? };
        recipe.changes.push(WeightChange::Attention(factors));
        Ok(Outputs::one(Data::Recipe(recipe.to_json())))
    }
}
