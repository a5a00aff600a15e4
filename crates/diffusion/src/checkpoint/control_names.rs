//! Gives the tensors of control networks the names of the single-file layout.

use super::names::{Rule, SAME, Tensors, count, unet_rules};

/// Key prefix of a network for control signals.
pub(crate) const CONTROL_PREFIX: &str = "control_model.";
/// Key prefix of a T2I-adapter, where it has one.
pub(crate) const ADAPTER_PREFIX: &str = "adapter.";

/// How the tensors of a file that holds a control network in another layout are to be renamed, if it is one.
pub(super) fn control_rules(tensors: &Tensors) -> Option<Vec<Rule>> {
    if tensors.contains_key("controlnet_cond_embedding.conv_in.weight") {
        return Some(diffusers_rules(tensors));
    }
    if tensors.contains_key("zero_convs.0.0.weight") {
        return Some(vec![Rule::new("", CONTROL_PREFIX, SAME)]);
    }
    let adapter = tensors.contains_key(&format!("{ADAPTER_PREFIX}body.0.resnets.0.block1.weight"));
    adapter.then(|| adapter_rules(tensors))
}

fn diffusers_rules(tensors: &Tensors) -> Vec<Rule> {
    let ours = CONTROL_PREFIX;
    let mut rules = vec![Rule::new("controlnet_mid_block.", format!("{ours}middle_block_out.0."), SAME)];
    for i in 0..count(tensors, |i| format!("controlnet_down_blocks.{i}.weight")) {
        rules.push(Rule::new(
            format!("controlnet_down_blocks.{i}."),
            format!("{ours}zero_convs.{i}.0."),
            SAME,
        ));
    }
    // The single-file layout counts the activations between the convolutions too.
    let hint = "controlnet_cond_embedding";
    let mut place = 0;
    let mut next = |name: String| {
        rules.push(Rule::new(format!("{name}."), format!("{ours}input_hint_block.{place}."), SAME));
        place += 2;
    };
    next(format!("{hint}.conv_in"));
    for i in 0..count(tensors, |i| format!("{hint}.blocks.{i}.weight")) {
        next(format!("{hint}.blocks.{i}"));
    }
    next(format!("{hint}.conv_out"));
    rules.extend(unet_rules(tensors, ours));
    rules
}

/// Diffusers counts the blocks of an adapter per level; the light kind has the same levels in both layouts.
fn adapter_rules(tensors: &Tensors) -> Vec<Rule> {
    let light = tensors.contains_key(&format!("{ADAPTER_PREFIX}body.0.out_conv.weight"));
    let mut rules = Vec::new();
    let block = |level: usize, i: usize| format!("{ADAPTER_PREFIX}body.{level}.resnets.{i}.");
    let blocks = |level: usize| count(tensors, |i| format!("{}block1.weight", block(level, i)));
    let mut place = 0;
    for level in (0..).take_while(|&level| blocks(level) > 0) {
        let first = place;
        for i in 0..blocks(level) {
            let to = match light {
                true => format!("{ADAPTER_PREFIX}body.{level}.body.{i}."),
                false => format!("{ADAPTER_PREFIX}body.{place}."),
            };
            rules.push(Rule::new(block(level, i), to, SAME));
            place += 1;
        }
        if !light {
            let (from, to) =
                (format!("{ADAPTER_PREFIX}body.{level}."), format!("{ADAPTER_PREFIX}body.{first}."));
            rules.push(Rule::new(from, to, SAME));
        }
    }
    rules
}
