//! Under which names the layers of a model appear in adapter files.

use crate::checkpoint::names::{UNET_RESIDUAL, UNET_TOP};
use crate::checkpoint::{ClipConfig, ClipLayout, InputBlock, UnetConfig};

/// One layer: its full key in the checkpoint, without `.weight`, and its names in adapter files.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub key: String,
    pub names: Vec<String>,
    /// Set when the checkpoint stores three layers below each other: which of them this is.
    pub third: Option<usize>,
}

const BY_UNDERSCORES: [&str; 2] = ["lora_unet_", "lycoris_"];
const BY_DOTS: [&str; 3] = ["unet.", "diffusion_model.", "base_model.model.unet."];
/// The first or only text encoder of a model.
const FIRST_TEXT: [&str; 5] = [
    "lora_te_",
    "lora_te1_",
    "text_encoder.",
    "text_encoders.clip_l.transformer.",
    "base_model.model.text_encoder.",
];
/// The second one of SDXL, which is the only one of its refiner.
const SECOND_TEXT: [&str; 4] =
    ["lora_te2_", "text_encoder_2.", "text_encoders.clip_g.transformer.", "base_model.model.text_encoder_2."];

/// Whether a name is meant for a diffusion model.
pub(crate) fn is_unet_name(name: &str) -> bool {
    BY_UNDERSCORES.iter().chain(&BY_DOTS).any(|prefix| name.starts_with(prefix))
}

/// Whether a name is meant for a text encoder.
pub(crate) fn is_text_name(name: &str) -> bool {
    FIRST_TEXT.iter().chain(&SECOND_TEXT).any(|prefix| name.starts_with(prefix))
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
        Layer { names, key, third: None }
    };
    unet_paths(config).into_iter().map(layer).collect()
}

/// The layers of each of a model's text encoders, in the order of `configs`.
pub(crate) fn text(configs: &[ClipConfig]) -> Vec<Vec<Layer>> {
    match configs {
        [only] => vec![clip(only, &[&FIRST_TEXT[..], &SECOND_TEXT].concat())],
        all => {
            let prefixes = [&FIRST_TEXT[..], &SECOND_TEXT];
            all.iter().zip(prefixes).map(|(config, prefixes)| clip(config, prefixes)).collect()
        }
    }
}

/// The layers of one text transformer, which adapters name as Hugging Face does whatever the checkpoint's layout.
fn clip(config: &ClipConfig, prefixes: &[&str]) -> Vec<Layer> {
    const PARTS: [(&str, &str, Option<usize>); 8] = [
        ("self_attn.q_proj", "attn.in_proj", Some(0)),
        ("self_attn.k_proj", "attn.in_proj", Some(1)),
        ("self_attn.v_proj", "attn.in_proj", Some(2)),
        ("self_attn.out_proj", "attn.out_proj", None),
        ("mlp.fc1", "mlp.c_fc", None),
        ("mlp.fc2", "mlp.c_proj", None),
        ("layer_norm1", "ln_1", None),
        ("layer_norm2", "ln_2", None),
    ];
    let layer = |i: usize, (theirs, open_clip, third): (&str, &str, Option<usize>)| {
        let path = format!("text_model.encoder.layers.{i}.{theirs}");
        let name = |prefix: &&str| {
            let path = if prefix.ends_with('_') { path.replace('.', "_") } else { path.clone() };
            format!("{prefix}{path}")
        };
        let names = prefixes.iter().map(name).collect();
        let prefix = &config.prefix;
        match config.layout {
            ClipLayout::HuggingFace | ClipLayout::HuggingFaceGelu => {
                Layer { key: format!("{prefix}encoder.layers.{i}.{theirs}"), names, third: None }
            }
            ClipLayout::OpenClip => {
                Layer { key: format!("{prefix}transformer.resblocks.{i}.{open_clip}"), names, third }
            }
        }
    };
    (0..config.layers).flat_map(|i| PARTS.map(|part| layer(i, part))).collect()
}

/// Paths of all layers of a UNet: the LDM one and the one of diffusers' `UNet2DConditionModel`.
///
/// # Source
/// Both layouts are public.
pub(crate) fn unet_paths(config: &UnetConfig) -> Vec<(String, String)> {
    let mut paths: Vec<_> =
        UNET_TOP.iter().map(|(theirs, ours)| ((*ours).into(), (*theirs).into())).collect();
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
    if let Some(first) = config.middle.first() {
        residual(&mut paths, "middle_block.0", "mid_block.resnets.0");
        transformer(&mut paths, "middle_block.1", "mid_block.attentions.0", first.depth);
        // Without a transformer the second residual block moves up.
        let place = if first.depth > 0 { 2 } else { 1 };
        residual(&mut paths, &format!("middle_block.{place}"), "mid_block.resnets.1");
    }
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
