//! Tells what a weight file is, from its tensor names and shapes.

use super::config::{ClipConfig, UnetConfig, VaeConfig};
use super::header::CheckpointHeader;
use crate::families::Family;

/// What a weight file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detection {
    pub family: Family,
    /// The diffusion model, if its layout could be read.
    pub unet: Option<UnetConfig>,
    /// The CLIP-L text encoder, if there is one in a known place.
    pub clip: Option<ClipConfig>,
    pub vae: Option<VaeConfig>,
}

/// Detects the family of a file and the layout of each of its parts.
pub fn detect(header: &CheckpointHeader) -> Detection {
    let unet = UnetConfig::from_header(header);
    let family = match &unet {
        Ok(config) => family_of(config),
        Err(reason) => {
            Family::Unknown { reason: other_kind(header).map_or_else(|| reason.clone(), str::to_owned) }
        }
    };
    Detection {
        family,
        unet: unet.ok(),
        clip: ClipConfig::from_header(header).ok(),
        vae: VaeConfig::from_header(header).ok(),
    }
}

fn family_of(config: &UnetConfig) -> Family {
    match (config.linear_projections, config.adm_channels, config.context_dim, config.in_channels) {
        (false, None, _, 4) => Family::Sd1,
        (false, None, _, 9) => Family::Sd1Inpaint,
        (false, None, _, 8) => Family::Sd1InstructPix2Pix,
        (true, None, 1024, 4) => Family::Sd2,
        (true, None, 1024, 9) => Family::Sd2Inpaint,
        (true, Some(2816), 2048, 4) => Family::Sdxl,
        (true, Some(2816), 2048, 9) => Family::SdxlInpaint,
        (true, Some(2816), 2048, 8) => Family::SdxlInstructPix2Pix,
        (true, Some(2560), 1280, 4) => Family::SdxlRefiner,
        (_, adm, context, channels) => Family::Unknown {
            reason: format!(
                "an unfamiliar UNet with {channels} input channels, text width {context}, {} vector conditioning",
                adm.map_or("no".into(), |width| format!("{width}-wide"))
            ),
        },
    }
}

/// Names for common files that are not checkpoints, by a part of a key that gives them away.
const OTHER_KINDS: [(&str, &str); 17] = [
    (".lora_up.", "this is a LoRA"),
    (".lora_down.", "this is a LoRA"),
    (".lora_A.", "this is a LoRA"),
    (".lora.up.", "this is a LoRA"),
    (".hada_w1_a", "this is a LoHa"),
    (".lokr_w", "this is a LoKr"),
    ("control_model.", "this is a ControlNet"),
    ("zero_convs.", "this is a ControlNet"),
    ("controlnet_cond_embedding.", "this is a ControlNet"),
    ("double_blocks.", "this is a Flux model"),
    ("joint_blocks.", "this is a Stable Diffusion 3 model"),
    ("emb_params", "this is a textual inversion embedding"),
    ("string_to_param", "this is a textual inversion embedding"),
    ("taesd_decoder.", "this is a TAESD autoencoder"),
    ("down_blocks.", "this is in diffusers layout, but not a whole UNet or VAE"),
    ("conv_first.", "this is an upscaler"),
    ("vision_model.", "this is a CLIP vision model"),
];

fn other_kind(header: &CheckpointHeader) -> Option<&'static str> {
    // A checkpoint with a broken UNet is reported for what is wrong with it, not as one of its parts.
    if header.keys().any(|key| key.starts_with(UnetConfig::PREFIX)) {
        return None;
    }
    if header.contains("decoder.conv_in.weight")
        || header.contains("first_stage_model.decoder.conv_in.weight")
    {
        return Some("this is a VAE");
    }
    let found = OTHER_KINDS.iter().find(|(part, _)| header.keys().any(|key| key.contains(part)));
    found
        .map(|(_, name)| *name)
        .or_else(|| ClipConfig::from_header(header).is_ok().then_some("this is a text encoder"))
}
