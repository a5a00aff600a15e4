//! Gives the tensors of other layouts the names of the single-file layout.
//!
//! The networks know one set of names, those that checkpoints in one file have. Files that hold one part, and files
//! saved by the diffusers library, name the same tensors otherwise; here they are renamed as the header is read.

use std::collections::BTreeMap;

use super::config::UnetConfig;
use super::control_names::control_rules;
use super::header::TensorInfo;

pub(super) type Tensors = BTreeMap<String, TensorInfo>;
/// Names within a part, theirs and ours.
pub(crate) type Inner = &'static [(&'static str, &'static str)];

/// Prefixes that a UNet with our names may have instead of ours.
const UNET_PREFIXES: [&str; 4] = ["model.model.", "net.", "model.", ""];
const VAE_PREFIXES: [&str; 2] = ["first_stage_model.", ""];

/// Layers of a residual block.
pub(crate) const UNET_RESIDUAL: Inner = &[
    ("norm1", "in_layers.0"),
    ("conv1", "in_layers.2"),
    ("time_emb_proj", "emb_layers.1"),
    ("norm2", "out_layers.0"),
    ("conv2", "out_layers.3"),
    ("conv_shortcut", "skip_connection"),
];
/// Transformers have the same names inside.
pub(super) const SAME: Inner = &[];
/// Layers outside of all blocks.
pub(crate) const UNET_TOP: Inner = &[
    ("conv_in", "input_blocks.0.0"),
    ("time_embedding.linear_1", "time_embed.0"),
    ("time_embedding.linear_2", "time_embed.2"),
    ("add_embedding.linear_1", "label_emb.0.0"),
    ("add_embedding.linear_2", "label_emb.0.2"),
    ("class_embedding.linear_1", "label_emb.0.0"),
    ("class_embedding.linear_2", "label_emb.0.2"),
    ("conv_norm_out", "out.0"),
    ("conv_out", "out.2"),
];
const VAE_RESIDUAL: Inner = &[("conv_shortcut", "nin_shortcut")];
/// The second group is what diffusers wrote before version 0.16.
const VAE_ATTENTION: Inner = &[
    ("group_norm", "norm"),
    ("to_q", "q"),
    ("to_k", "k"),
    ("to_v", "v"),
    ("to_out.0", "proj_out"),
    ("query", "q"),
    ("key", "k"),
    ("value", "v"),
    ("proj_attn", "proj_out"),
];

/// Renames what is recognised; everything else stays as it is.
pub(super) fn to_single_file(tensors: Tensors) -> Tensors {
    let mut rules = Vec::new();
    for prefix in VAE_PREFIXES {
        if tensors.contains_key(&format!("{prefix}decoder.up_blocks.0.resnets.0.norm1.weight")) {
            rules.extend(vae_rules(&tensors, prefix));
        }
    }
    // Last, because they move whatever no other rule has moved.
    if tensors.contains_key("down_blocks.0.resnets.0.conv1.weight")
        && tensors.contains_key("up_blocks.0.resnets.0.conv1.weight")
        && tensors.contains_key("conv_in.weight")
    {
        rules.extend(unet_rules(&tensors, UnetConfig::PREFIX));
    } else if let Some(found) = control_rules(&tensors) {
        rules.extend(found);
    } else if let Some(prefix) = foreign_unet_prefix(&tensors) {
        rules.push(Rule::new(prefix, UnetConfig::PREFIX, SAME));
    }
    let mut renamed = Tensors::new();
    for (name, info) in tensors {
        let ours = rules.iter().find_map(|rule| rule.apply(&name)).unwrap_or(name);
        let info = as_point_convolution(&ours, info);
        // Where a file has a tensor under two names, the first in order stays.
        renamed.entry(ours).or_insert(info);
    }
    renamed
}

/// Whether a diffusion model stands at another prefix than ours, or at none.
fn foreign_unet_prefix(tensors: &Tensors) -> Option<&'static str> {
    let stands_at = |prefix: &str| {
        ["input_blocks.0.0.weight", "time_embed.0.weight", "out.2.weight"]
            .iter()
            .all(|name| tensors.contains_key(&format!("{prefix}{name}")))
    };
    if stands_at(UnetConfig::PREFIX) {
        return None;
    }
    UNET_PREFIXES.into_iter().find(|prefix| stands_at(prefix))
}

/// The attention of autoencoders is stored as matrices by diffusers and as convolutions of one pixel by everybody
/// else; the numbers are the same.
fn as_point_convolution(name: &str, mut info: TensorInfo) -> TensorInfo {
    const LAYERS: [&str; 4] = ["q.weight", "k.weight", "v.weight", "proj_out.weight"];
    let in_attention = name.rsplit_once("mid.attn_1.").is_some_and(|(_, layer)| LAYERS.contains(&layer));
    if in_attention && info.shape.len() == 2 {
        info.shape.extend([1, 1]);
    }
    info
}

/// Everything below one name moves to another.
pub(super) struct Rule {
    from: String,
    to: String,
    inner: Inner,
}

impl Rule {
    pub(super) fn new(from: impl Into<String>, to: impl Into<String>, inner: Inner) -> Self {
        Self { from: from.into(), to: to.into(), inner }
    }

    fn apply(&self, name: &str) -> Option<String> {
        let rest = name.strip_prefix(&self.from)?;
        let inner = self.inner.iter().find_map(|(theirs, ours)| {
            let rest = rest.strip_prefix(theirs)?;
            rest.starts_with('.').then(|| format!("{}{ours}{rest}", self.to))
        });
        Some(inner.unwrap_or_else(|| format!("{}{rest}", self.to)))
    }
}

pub(super) fn count(tensors: &Tensors, name: impl Fn(usize) -> String) -> usize {
    (0..).take_while(|&i| tensors.contains_key(&name(i))).count()
}

/// Diffusers counts blocks per level, the single-file layout counts all in a row.
pub(super) fn unet_rules(tensors: &Tensors, ours: &str) -> Vec<Rule> {
    let has_attention =
        |name: &str| tensors.contains_key(&format!("{name}.transformer_blocks.0.attn1.to_q.weight"));
    let mut rules = Vec::new();
    let mut place = 1;
    for level in 0..count(tensors, |level| format!("down_blocks.{level}.resnets.0.conv1.weight")) {
        let block = format!("down_blocks.{level}");
        for i in 0..count(tensors, |i| format!("{block}.resnets.{i}.conv1.weight")) {
            let to = format!("{ours}input_blocks.{place}");
            rules.push(Rule::new(format!("{block}.resnets.{i}."), format!("{to}.0."), UNET_RESIDUAL));
            rules.push(Rule::new(format!("{block}.attentions.{i}."), format!("{to}.1."), SAME));
            place += 1;
        }
        if tensors.contains_key(&format!("{block}.downsamplers.0.conv.weight")) {
            let to = format!("{ours}input_blocks.{place}.0.op.");
            rules.push(Rule::new(format!("{block}.downsamplers.0.conv."), to, SAME));
            place += 1;
        }
    }
    let last = if has_attention("mid_block.attentions.0") { 2 } else { 1 };
    let middle = format!("{ours}middle_block");
    rules.push(Rule::new("mid_block.resnets.0.", format!("{middle}.0."), UNET_RESIDUAL));
    rules.push(Rule::new("mid_block.attentions.0.", format!("{middle}.1."), SAME));
    rules.push(Rule::new("mid_block.resnets.1.", format!("{middle}.{last}."), UNET_RESIDUAL));
    place = 0;
    for level in 0..count(tensors, |level| format!("up_blocks.{level}.resnets.0.conv1.weight")) {
        let block = format!("up_blocks.{level}");
        let mut upsample = String::new();
        for i in 0..count(tensors, |i| format!("{block}.resnets.{i}.conv1.weight")) {
            let to = format!("{ours}output_blocks.{place}");
            rules.push(Rule::new(format!("{block}.resnets.{i}."), format!("{to}.0."), UNET_RESIDUAL));
            rules.push(Rule::new(format!("{block}.attentions.{i}."), format!("{to}.1."), SAME));
            // The enlarging convolution stands behind the last block of its level.
            let behind = if has_attention(&format!("{block}.attentions.{i}")) { 2 } else { 1 };
            upsample = format!("{to}.{behind}.conv.");
            place += 1;
        }
        rules.push(Rule::new(format!("{block}.upsamplers.0.conv."), upsample, SAME));
    }
    rules.push(Rule::new("", ours, UNET_TOP));
    rules
}

fn vae_rules(tensors: &Tensors, prefix: &str) -> Vec<Rule> {
    let mut rules = Vec::new();
    for half in ["encoder", "decoder"] {
        let half = format!("{prefix}{half}.");
        rules.push(Rule::new(format!("{half}conv_norm_out."), format!("{half}norm_out."), SAME));
        let (theirs, ours) = (format!("{half}mid_block."), format!("{half}mid."));
        rules.push(Rule::new(format!("{theirs}resnets.0."), format!("{ours}block_1."), VAE_RESIDUAL));
        rules.push(Rule::new(format!("{theirs}resnets.1."), format!("{ours}block_2."), VAE_RESIDUAL));
        rules.push(Rule::new(format!("{theirs}attentions.0."), format!("{ours}attn_1."), VAE_ATTENTION));
    }
    // Diffusers counts the levels of each half in running order, the single-file layout from full size down.
    for (side, theirs, sampler) in
        [("encoder.down", "down_blocks", "downsample"), ("decoder.up", "up_blocks", "upsample")]
    {
        let half = side.split('.').next().unwrap_or_default();
        let blocks = format!("{prefix}{half}.{theirs}");
        let levels = count(tensors, |level| format!("{blocks}.{level}.resnets.0.conv1.weight"));
        for level in 0..levels {
            let ours = if half == "encoder" { level } else { levels - 1 - level };
            let (block, to) = (format!("{blocks}.{level}"), format!("{prefix}{side}.{ours}"));
            for i in 0..count(tensors, |i| format!("{block}.resnets.{i}.conv1.weight")) {
                rules.push(Rule::new(
                    format!("{block}.resnets.{i}."),
                    format!("{to}.block.{i}."),
                    VAE_RESIDUAL,
                ));
            }
            rules.push(Rule::new(
                format!("{block}.{sampler}rs.0.conv."),
                format!("{to}.{sampler}.conv."),
                SAME,
            ));
        }
    }
    rules
}
