//! Tells what a weight file is, from its tensor names and shapes.

use super::config::{UnetConfig, VaeConfig};
use super::header::CheckpointHeader;
use super::text_config::ClipConfig;
use crate::families::{Family, sdxl};

/// What a weight file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detection {
    pub family: Family,
    /// The diffusion model, if its layout could be read.
    pub unet: Option<UnetConfig>,
    /// The family's text encoders, if all of them are there.
    pub clip: Option<Vec<ClipConfig>>,
    pub vae: Option<VaeConfig>,
}

/// Detects the family of a file and the layout of each of its parts.
pub fn detect(header: &CheckpointHeader) -> Detection {
    let unet = UnetConfig::from_header(header);
    let family = match &unet {
        Ok(config) => family_of(config, header),
        Err(reason) => {
            Family::Unknown { reason: other_kind(header).map_or_else(|| reason.clone(), str::to_owned) }
        }
    };
    Detection {
        clip: ClipConfig::all(header, family.text()).ok(),
        unet: unet.ok(),
        vae: VaeConfig::from_header(header).ok(),
        family,
    }
}

/// What vector conditioning a UNet takes, told by widths alone so that miniatures are recognised too.
enum Vector {
    None,
    /// The pooled text of one of two encoders, so narrower than the text, and six numbers.
    Base,
    /// The pooled text of the only encoder, so as wide as the text, and five numbers.
    Refiner,
    /// The embedding of a picture and the level of the noise in it.
    Pictures,
    Other,
}

fn vector_of(config: &UnetConfig, header: &CheckpointHeader) -> Vector {
    // SD2 unCLIP takes the embedding of a picture and a noise level that is embedded as wide.
    const UNCLIP: [(usize, usize); 2] = [(1024, 1536), (1024, 2048)];
    let numbers = |count: usize| count * sdxl::NUMBER_WIDTH;
    let Some(width) = config.adm_channels else { return Vector::None };
    let seen = header.shape("embedder.model.visual.proj").and_then(|shape| shape.get(1));
    if UNCLIP.contains(&(config.context_dim, width)) || seen.is_some_and(|&seen| 2 * seen == width) {
        return Vector::Pictures;
    }
    if width == config.context_dim + numbers(sdxl::REFINER_NUMBERS) {
        return Vector::Refiner;
    }
    let pooled = width.saturating_sub(numbers(sdxl::BASE_NUMBERS));
    if (1..config.context_dim).contains(&pooled) { Vector::Base } else { Vector::Other }
}

fn family_of(config: &UnetConfig, header: &CheckpointHeader) -> Family {
    let vector = vector_of(config, header);
    let family = match (config.linear_projections, &vector, config.in_channels, config.out_channels) {
        (false, Vector::None, 4, 4) => Family::Sd1,
        (false, Vector::None, 9, 4) => Family::Sd1Inpaint,
        (false, Vector::None, 8, 4) => Family::Sd1InstructPix2Pix,
        (true, Vector::None, 4, 4) => Family::Sd2,
        (true, Vector::None, 9, 4) => Family::Sd2Inpaint,
        (true, Vector::Pictures, 4, 4) => Family::Sd2Unclip,
        (true, Vector::Base, 4, 4) => Family::Sdxl,
        (true, Vector::Base, 9, 4) => Family::SdxlInpaint,
        (true, Vector::Base, 8, 4) => Family::SdxlInstructPix2Pix,
        (true, Vector::Refiner, 4, 4) => Family::SdxlRefiner,
        (_, _, inputs, outputs) => {
            let vector = match config.adm_channels {
                None => "no".to_owned(),
                Some(width) => format!("{width}-wide"),
            };
            let text = config.context_dim;
            let reason = format!(
                "an unfamiliar UNet with {inputs} input and {outputs} output channels, text width {text}, {vector} vector conditioning"
            );
            return Family::Unknown { reason };
        }
    };
    match sdxl::refusal(header) {
        Some(reason) if family.is_sdxl() => Family::Unknown { reason: reason.into() },
        _ => family,
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
        .or_else(|| ClipConfig::all(header, Family::Sd1.text()).is_ok().then_some("this is a text encoder"))
}
