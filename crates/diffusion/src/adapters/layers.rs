//! Under which names the layers of a model appear in adapter files.

use crate::checkpoint::names::{UNET_RESIDUAL, UNET_TOP};
use crate::checkpoint::{ClipConfig, InputBlock, UnetConfig};

/// One layer: its full key in the checkpoint, without `.weight`, and its names in adapter files.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub key: String,
    pub names: Vec<String>,
}

const BY_UNDERSCORES: [&str; 2] = ["lora_unet_", "lycoris_"];
const BY_DOTS: [&str; 3] = ["unet.", "diffusion_model.", "base_model.model.unet."];
const CLIP_L: [&str; 5] = [
    "lora_te_",
    "lora_te1_",
    "text_encoder.",
    "text_encoders.clip_l.transformer.",
    "base_model.model.text_encoder.",
];

/// Whether a name is meant for a diffusion model.
pub(super) fn is_unet_name(name: &str) -> bool {
    BY_UNDERSCORES.iter().chain(&BY_DOTS).any(|prefix| name.starts_with(prefix))
}

/// Whether a name is meant for the first text encoder.
pub(super) fn is_clip_l_name(name: &str) -> bool {
    CLIP_L.iter().any(|prefix| name.starts_with(prefix))
}

/// The layers of a UNet that adapters may change, under LDM and under diffusers names.
pub(crate) fn unet(config: &UnetConfig) -> Vec<Layer> {
    let layer = |(ldm, diffusers): (String, String)| {
        let key = format!("{}{ldm}", UnetConfig::PREFIX);
        let names = [&ldm, &diffusers].into_iter().flat_map(|path| {
            let flat = path.replace('.', "_");
            let flat = BY_UNDERSCORES.iter().map(move |prefix| format!("{prefix}{flat}"));
            let dotted = BY_DOTS.iter().map(move |prefix| format!("{prefix}{path}"));
            // PEFT and early diffusers files say `to_out` where the layer is its first entry.
            let short = path.strip_suffix(".to_out.0").map(|path| format!("unet.{path}.to_out"));
            flat.chain(dotted).chain(short).collect::<Vec<_>>()
        });
        let mut names: Vec<String> = names.collect();
        names.push(key.clone());
        Layer { names, key }
    };
    unet_paths(config).into_iter().map(layer).collect()
}

/// The layers of a CLIP-L text encoder.
pub(crate) fn clip_l(config: &ClipConfig) -> Vec<Layer> {
    let parts = [
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.out_proj",
        "mlp.fc1",
        "mlp.fc2",
        "layer_norm1",
        "layer_norm2",
    ];
    let paths = (0..config.layers).flat_map(|i| parts.map(|part| format!("encoder.layers.{i}.{part}")));
    let layer = |path: String| {
        let name = |prefix: &&str| {
            let dotted = format!("text_model.{path}");
            if prefix.ends_with('_') {
                format!("{prefix}{}", dotted.replace('.', "_"))
            } else {
                format!("{prefix}{dotted}")
            }
        };
        Layer { key: format!("{}{path}", config.prefix), names: CLIP_L.iter().map(name).collect() }
    };
    paths.map(layer).collect()
}

/// Paths of all layers of a UNet: the LDM one and the one of diffusers' `UNet2DConditionModel`.
///
/// # Source
/// Both layouts are public.
pub(crate) fn unet_paths(config: &UnetConfig) -> Vec<(String, String)> {
    let mut paths: Vec<_> = UNET_TOP.iter().map(|(theirs, ours)| ((*ours).into(), (*theirs).into())).collect();
    let (mut level, mut index) = (0, 0);
    for (i, block) in config.input_blocks.iter().enumerate() {
        match block {
            InputBlock::Stem { .. } => {}
            InputBlock::Downsample { .. } => {
                paths.push((
                    format!("input_blocks.{i}.0.op"),
                    format!("down_blocks.{level}.downsamplers.0.conv"),
                ));
                (level, index) = (level + 1, 0);
            }
            InputBlock::Residual(block) => {
                let there = |part: &str| format!("down_blocks.{level}.{part}.{index}");
                residual(&mut paths, &format!("input_blocks.{i}.0"), &there("resnets"));
                transformer(&mut paths, &format!("input_blocks.{i}.1"), &there("attentions"), block.depth);
                index += 1;
            }
        }
    }
    residual(&mut paths, "middle_block.0", "mid_block.resnets.0");
    transformer(&mut paths, "middle_block.1", "mid_block.attentions.0", config.middle.depth);
    residual(&mut paths, "middle_block.2", "mid_block.resnets.1");
    (level, index) = (0, 0);
    for (i, block) in config.output_blocks.iter().enumerate() {
        let there = |part: &str| format!("up_blocks.{level}.{part}.{index}");
        residual(&mut paths, &format!("output_blocks.{i}.0"), &there("resnets"));
        transformer(&mut paths, &format!("output_blocks.{i}.1"), &there("attentions"), block.residual.depth);
        index += 1;
        if block.upsample {
            let place = if block.residual.depth > 0 { 2 } else { 1 };
            paths.push((
                format!("output_blocks.{i}.{place}.conv"),
                format!("up_blocks.{level}.upsamplers.0.conv"),
            ));
            (level, index) = (level + 1, 0);
        }
    }
    paths
}

fn residual(paths: &mut Vec<(String, String)>, ldm: &str, diffusers: &str) {
    let part = |(theirs, ours): &(&str, &str)| (format!("{ldm}.{ours}"), format!("{diffusers}.{theirs}"));
    paths.extend(UNET_RESIDUAL.iter().map(part));
}

/// Inside a spatial transformer both layouts have the same names.
fn transformer(paths: &mut Vec<(String, String)>, ldm: &str, diffusers: &str, depth: usize) {
    if depth == 0 {
        return;
    }
    const BLOCK: [&str; 13] = [
        "attn1.to_q",
        "attn1.to_k",
        "attn1.to_v",
        "attn1.to_out.0",
        "attn2.to_q",
        "attn2.to_k",
        "attn2.to_v",
        "attn2.to_out.0",
        "ff.net.0.proj",
        "ff.net.2",
        "norm1",
        "norm2",
        "norm3",
    ];
    let inner = (0..depth).flat_map(|i| BLOCK.map(|part| format!("transformer_blocks.{i}.{part}")));
    let outer = ["norm", "proj_in", "proj_out"].map(String::from);
    paths.extend(
        outer.into_iter().chain(inner).map(|part| (format!("{ldm}.{part}"), format!("{diffusers}.{part}"))),
    );
}
