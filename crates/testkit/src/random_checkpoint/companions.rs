//! Files that go with the small checkpoints: an adapter, an embedding, an upscaler, an image encoder and others.

use std::io;
use std::path::Path;

use super::layouts::TINY;
use super::shapes::{Shapes, UNET, VAE, put, text_shapes, unet_shapes, vae_shapes};
use super::values::{Norms, Values};

/// A file that is used beside a checkpoint.
#[derive(Debug, Clone, Copy)]
pub struct Companion {
    pub name: &'static str,
    shapes: fn() -> Shapes,
}

/// An adapter for [`TINY`], named as kohya's trainer does.
pub const LORA_SD1: Companion = Companion { name: "tiny-lora", shapes: lora };
/// An autoencoder in a file of its own.
pub const VAE_SD1: Companion = Companion { name: "tiny-vae", shapes: vae };
/// Boxes for [`TINY`].
pub const GLIGEN_SD1: Companion = Companion { name: "tiny-gligen", shapes: gligen };
/// Two vectors for the small SD2 layouts.
pub const EMBEDDING_SD2: Companion = Companion { name: "tiny-embedding-sd2", shapes: embedding };
/// ESRGAN with a single block, four times larger.
pub const UPSCALER: Companion = Companion { name: "tiny-upscaler", shapes: upscaler };
/// Sees pictures as the small SDXL layouts read texts.
pub const VISION_SDXL: Companion = Companion { name: "tiny-vision-sdxl", shapes: vision };

/// Every file.
pub const COMPANIONS: [&Companion; 6] =
    [&LORA_SD1, &VAE_SD1, &GLIGEN_SD1, &EMBEDDING_SD2, &UPSCALER, &VISION_SDXL];

const RANK: usize = 2;
const TEXT_MODEL: &str = "cond_stage_model.transformer.";

impl Companion {
    /// Writes the file.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        super::write_file(path, &(self.shapes)(), &Values::new(1, Norms::Random, false))
    }
}

fn lora() -> Shapes {
    let mut base = Shapes::new();
    unet_shapes(&mut base, &TINY.unet);
    TINY.text.iter().for_each(|tower| text_shapes(&mut base, tower));
    let mut shapes = Shapes::new();
    for (name, shape) in base {
        let (&[rows, columns], Some(layer)) = (&shape[..], name.strip_suffix(".weight")) else { continue };
        let layer = if let Some(layer) = layer.strip_prefix(UNET) {
            let Some(layer) = in_diffusers(layer) else { continue };
            format!("lora_unet_{layer}")
        } else {
            match layer.strip_prefix(TEXT_MODEL) {
                Some(layer) if layer.contains("layers") => format!("lora_te_{layer}"),
                _ => continue,
            }
        };
        let layer = layer.replace('.', "_");
        shapes.insert(format!("{layer}.lora_up.weight"), vec![rows, RANK]);
        shapes.insert(format!("{layer}.lora_down.weight"), vec![RANK, columns]);
    }
    shapes
}

/// The name of a layer of a transformer in diffusers; other layers have none here.
fn in_diffusers(layer: &str) -> Option<String> {
    let (place, inner) = layer.split_once(".transformer_blocks.")?;
    let block: usize = place.split('.').nth(1)?.parse().ok()?;
    let place = match place.split('.').next()? {
        "input_blocks" => format!("down_blocks.{}.attentions.{}", (block - 1) / 3, (block - 1) % 3),
        "output_blocks" => format!("up_blocks.{}.attentions.{}", block / 3, block % 3),
        _ => "mid_block.attentions.0".to_owned(),
    };
    Some(format!("{place}.transformer_blocks.{inner}"))
}

fn vae() -> Shapes {
    let mut shapes = Shapes::new();
    vae_shapes(&mut shapes, TINY.vae);
    shapes
        .into_iter()
        .map(|(name, shape)| (name.strip_prefix(VAE).map(str::to_owned).unwrap_or(name), shape))
        .collect()
}

fn gligen() -> Shapes {
    /// Width of what the network sees of a box.
    const OBJECT: usize = 64;
    /// Sines and cosines of the corners.
    const POSITION: usize = 64;
    let text = TINY.unet.context;
    let mut base = Shapes::new();
    unet_shapes(&mut base, &TINY.unet);
    let mut shapes = Shapes::new();
    for (name, shape) in base {
        let Some(block) = name.strip_prefix(UNET).and_then(|name| name.strip_suffix(".attn1.to_q.weight"))
        else {
            continue;
        };
        let (fuser, width) = (format!("{block}.fuser"), shape[0]);
        for gate in ["alpha_attn", "alpha_dense"] {
            shapes.insert(format!("{fuser}.{gate}"), vec![]);
        }
        for projection in ["to_q", "to_k", "to_v"] {
            shapes.insert(format!("{fuser}.attn.{projection}.weight"), vec![width, width]);
        }
        put(&mut shapes, format!("{fuser}.attn.to_out.0"), &[width, width]);
        put(&mut shapes, format!("{fuser}.linear"), &[width, OBJECT]);
        put(&mut shapes, format!("{fuser}.ff.net.0.proj"), &[8 * width, width]);
        put(&mut shapes, format!("{fuser}.ff.net.2"), &[width, 4 * width]);
        for norm in ["norm1", "norm2"] {
            put(&mut shapes, format!("{fuser}.{norm}"), &[width]);
        }
    }
    put(&mut shapes, "position_net.linears.0".into(), &[OBJECT, text + POSITION]);
    put(&mut shapes, "position_net.linears.2".into(), &[OBJECT, OBJECT]);
    put(&mut shapes, "position_net.linears.4".into(), &[OBJECT, OBJECT]);
    shapes.insert("position_net.null_positive_feature".into(), vec![text]);
    shapes.insert("position_net.null_position_feature".into(), vec![POSITION]);
    shapes
}

fn embedding() -> Shapes {
    [("emb_params".to_owned(), vec![2, super::TINY_SD2.unet.context])].into()
}

fn upscaler() -> Shapes {
    const WIDTH: usize = 8;
    const GROWTH: usize = 4;
    let mut shapes = Shapes::new();
    let mut conv = |name: String, from: usize, to: usize| put(&mut shapes, name, &[to, from, 3, 3]);
    conv("conv_first".into(), 3, WIDTH);
    for unit in 1..=3 {
        for layer in 1..=5 {
            let to = if layer == 5 { WIDTH } else { GROWTH };
            conv(format!("body.0.rdb{unit}.conv{layer}"), WIDTH + (layer - 1) * GROWTH, to);
        }
    }
    for name in ["conv_body", "conv_up1", "conv_up2", "conv_hr"] {
        conv(name.into(), WIDTH, WIDTH);
    }
    conv("conv_last".into(), WIDTH, 3);
    shapes
}

fn vision() -> Shapes {
    const WIDTH: usize = 64;
    const PATCH_PX: usize = 8;
    /// Patches along a side, of which there are as many as in the square of it, and a class token.
    const SIDE: usize = 4;
    const PREFIX: &str = "vision_model.";
    let projected = super::TINY_SDXL.text[1].width;
    let mut shapes = Shapes::new();
    shapes.insert(format!("{PREFIX}embeddings.class_embedding"), vec![WIDTH]);
    shapes.insert(format!("{PREFIX}embeddings.patch_embedding.weight"), vec![WIDTH, 3, PATCH_PX, PATCH_PX]);
    shapes.insert(format!("{PREFIX}embeddings.position_embedding.weight"), vec![SIDE * SIDE + 1, WIDTH]);
    for norm in ["pre_layrnorm", "post_layernorm"] {
        put(&mut shapes, format!("{PREFIX}{norm}"), &[WIDTH]);
    }
    for layer in 0..2 {
        let name = format!("{PREFIX}encoder.layers.{layer}");
        for projection in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            put(&mut shapes, format!("{name}.self_attn.{projection}"), &[WIDTH, WIDTH]);
        }
        for norm in ["layer_norm1", "layer_norm2"] {
            put(&mut shapes, format!("{name}.{norm}"), &[WIDTH]);
        }
        put(&mut shapes, format!("{name}.mlp.fc1"), &[2 * WIDTH, WIDTH]);
        put(&mut shapes, format!("{name}.mlp.fc2"), &[WIDTH, 2 * WIDTH]);
    }
    shapes.insert("visual_projection.weight".into(), vec![projected, WIDTH]);
    shapes
}
