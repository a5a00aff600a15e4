//! Names and shapes of the tensors.

use std::collections::BTreeMap;

use super::layouts::{Tower, TowerNames, Unet};

pub(super) type Shapes = BTreeMap<String, Vec<usize>>;

pub(super) const UNET: &str = "model.diffusion_model.";
pub(super) const VAE: &str = "first_stage_model.";

pub(super) fn put(shapes: &mut Shapes, name: String, weight: &[usize]) {
    shapes.insert(format!("{name}.bias"), vec![weight[0]]);
    shapes.insert(format!("{name}.weight"), weight.to_vec());
}

fn put_matrix(shapes: &mut Shapes, name: String, rows: usize, columns: usize) {
    shapes.insert(format!("{name}.weight"), vec![rows, columns]);
}

/// The descending half and the middle below a prefix; returns the width of every block.
pub(super) fn descent_shapes(shapes: &mut Shapes, prefix: &str, unet: &Unet) -> Vec<usize> {
    let width = unet.channels;
    let embed = 4 * width;
    put(shapes, format!("{prefix}time_embed.0"), &[embed, width]);
    put(shapes, format!("{prefix}time_embed.2"), &[embed, embed]);
    if let Some(vector) = unet.vector {
        put(shapes, format!("{prefix}label_emb.0.0"), &[embed, vector]);
        put(shapes, format!("{prefix}label_emb.0.2"), &[embed, embed]);
    }
    put(shapes, format!("{prefix}input_blocks.0.0"), &[width, unet.inputs, 3, 3]);
    let mut skips = vec![width];
    let mut channels = width;
    let mut block = 1;
    let last = unet.levels.len() - 1;
    for (level, (multiplier, depth)) in unet.levels.iter().enumerate() {
        for _ in 0..2 {
            let out = width * multiplier;
            res_block(shapes, &format!("{prefix}input_blocks.{block}.0"), channels, out, embed);
            transformer(shapes, &format!("{prefix}input_blocks.{block}.1"), out, *depth, unet);
            channels = out;
            skips.push(channels);
            block += 1;
        }
        if level < last {
            put(shapes, format!("{prefix}input_blocks.{block}.0.op"), &[channels, channels, 3, 3]);
            skips.push(channels);
            block += 1;
        }
    }
    res_block(shapes, &format!("{prefix}middle_block.0"), channels, channels, embed);
    if let Some(depth) = unet.middle_depth {
        transformer(shapes, &format!("{prefix}middle_block.1"), channels, depth, unet);
        res_block(shapes, &format!("{prefix}middle_block.2"), channels, channels, embed);
    }
    skips
}

pub(super) fn unet_shapes(shapes: &mut Shapes, unet: &Unet) {
    let mut skips = descent_shapes(shapes, UNET, unet);
    let (width, embed) = (unet.channels, 4 * unet.channels);
    let mut channels = skips[skips.len() - 1];
    let mut block = 0;
    for (level, (multiplier, depth)) in unet.levels.iter().enumerate().rev() {
        for i in 0..3 {
            let out = width * multiplier;
            let skip = skips.pop().expect("there is one skip per output block");
            res_block(shapes, &format!("{UNET}output_blocks.{block}.0"), channels + skip, out, embed);
            channels = out;
            transformer(shapes, &format!("{UNET}output_blocks.{block}.1"), out, *depth, unet);
            if i == 2 && level > 0 {
                let place = if *depth > 0 { 2 } else { 1 };
                put(shapes, format!("{UNET}output_blocks.{block}.{place}.conv"), &[out, out, 3, 3]);
            }
            block += 1;
        }
    }
    put(shapes, format!("{UNET}out.0"), &[width]);
    put(shapes, format!("{UNET}out.2"), &[4, width, 3, 3]);
}

fn res_block(shapes: &mut Shapes, name: &str, input: usize, output: usize, embed: usize) {
    put(shapes, format!("{name}.in_layers.0"), &[input]);
    put(shapes, format!("{name}.in_layers.2"), &[output, input, 3, 3]);
    put(shapes, format!("{name}.emb_layers.1"), &[output, embed]);
    put(shapes, format!("{name}.out_layers.0"), &[output]);
    put(shapes, format!("{name}.out_layers.3"), &[output, output, 3, 3]);
    if input != output {
        put(shapes, format!("{name}.skip_connection"), &[output, input, 1, 1]);
    }
}

fn transformer(shapes: &mut Shapes, name: &str, width: usize, depth: usize, unet: &Unet) {
    if depth == 0 {
        return;
    }
    put(shapes, format!("{name}.norm"), &[width]);
    for projection in ["proj_in", "proj_out"] {
        let shape: &[usize] = if unet.linear { &[width, width] } else { &[width, width, 1, 1] };
        put(shapes, format!("{name}.{projection}"), shape);
    }
    for i in 0..depth {
        transformer_block(shapes, &format!("{name}.transformer_blocks.{i}"), width, unet.context);
    }
}

fn transformer_block(shapes: &mut Shapes, block: &str, width: usize, context: usize) {
    for (attention, source) in [("attn1", width), ("attn2", context)] {
        put_matrix(shapes, format!("{block}.{attention}.to_q"), width, width);
        put_matrix(shapes, format!("{block}.{attention}.to_k"), width, source);
        put_matrix(shapes, format!("{block}.{attention}.to_v"), width, source);
        put(shapes, format!("{block}.{attention}.to_out.0"), &[width, width]);
    }
    put(shapes, format!("{block}.ff.net.0.proj"), &[8 * width, width]);
    put(shapes, format!("{block}.ff.net.2"), &[width, 4 * width]);
    for norm in ["norm1", "norm2", "norm3"] {
        put(shapes, format!("{block}.{norm}"), &[width]);
    }
}

/// Widths of the autoencoder's levels, in multiples of the first.
const VAE_LEVELS: [usize; 4] = [1, 2, 4, 4];

pub(super) fn vae_shapes(shapes: &mut Shapes, width: usize) {
    let top = width * VAE_LEVELS[3];
    put(shapes, format!("{VAE}encoder.conv_in"), &[width, 3, 3, 3]);
    let mut channels = width;
    for (level, multiplier) in VAE_LEVELS.iter().enumerate() {
        let out = width * multiplier;
        for block in 0..2 {
            vae_block(shapes, &format!("{VAE}encoder.down.{level}.block.{block}"), channels, out);
            channels = out;
        }
        if level < 3 {
            put(shapes, format!("{VAE}encoder.down.{level}.downsample.conv"), &[out, out, 3, 3]);
        }
    }
    for level in (0..4).rev() {
        let out = width * VAE_LEVELS[level];
        for block in 0..3 {
            vae_block(shapes, &format!("{VAE}decoder.up.{level}.block.{block}"), channels, out);
            channels = out;
        }
        if level > 0 {
            put(shapes, format!("{VAE}decoder.up.{level}.upsample.conv"), &[out, out, 3, 3]);
        }
    }
    for half in ["encoder", "decoder"] {
        for layer in ["q", "k", "v", "proj_out"] {
            put(shapes, format!("{VAE}{half}.mid.attn_1.{layer}"), &[top, top, 1, 1]);
        }
        put(shapes, format!("{VAE}{half}.mid.attn_1.norm"), &[top]);
        vae_block(shapes, &format!("{VAE}{half}.mid.block_1"), top, top);
        vae_block(shapes, &format!("{VAE}{half}.mid.block_2"), top, top);
    }
    put(shapes, format!("{VAE}encoder.norm_out"), &[top]);
    put(shapes, format!("{VAE}encoder.conv_out"), &[8, top, 3, 3]);
    put(shapes, format!("{VAE}decoder.conv_in"), &[top, 4, 3, 3]);
    put(shapes, format!("{VAE}decoder.norm_out"), &[width]);
    put(shapes, format!("{VAE}decoder.conv_out"), &[3, width, 3, 3]);
    put(shapes, format!("{VAE}quant_conv"), &[8, 8, 1, 1]);
    put(shapes, format!("{VAE}post_quant_conv"), &[4, 4, 1, 1]);
}

fn vae_block(shapes: &mut Shapes, name: &str, input: usize, output: usize) {
    put(shapes, format!("{name}.norm1"), &[input]);
    put(shapes, format!("{name}.conv1"), &[output, input, 3, 3]);
    put(shapes, format!("{name}.norm2"), &[output]);
    put(shapes, format!("{name}.conv2"), &[output, output, 3, 3]);
    if input != output {
        put(shapes, format!("{name}.nin_shortcut"), &[output, input, 1, 1]);
    }
}

pub(super) fn text_shapes(shapes: &mut Shapes, tower: &Tower) {
    match tower.names {
        TowerNames::HuggingFace => hugging_face_shapes(shapes, tower),
        TowerNames::OpenClip => open_clip_shapes(shapes, tower),
    }
}

fn hugging_face_shapes(shapes: &mut Shapes, tower: &Tower) {
    let Tower { prefix, width, .. } = *tower;
    put_matrix(shapes, format!("{prefix}embeddings.token_embedding"), 49408, width);
    put_matrix(shapes, format!("{prefix}embeddings.position_embedding"), 77, width);
    for layer in 0..tower.layers {
        let name = format!("{prefix}encoder.layers.{layer}");
        for projection in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            put(shapes, format!("{name}.self_attn.{projection}"), &[width, width]);
        }
        put(shapes, format!("{name}.layer_norm1"), &[width]);
        put(shapes, format!("{name}.layer_norm2"), &[width]);
        put(shapes, format!("{name}.mlp.fc1"), &[4 * width, width]);
        put(shapes, format!("{name}.mlp.fc2"), &[width, 4 * width]);
    }
    put(shapes, format!("{prefix}final_layer_norm"), &[width]);
    shapes.insert(format!("{prefix}embeddings.position_ids"), vec![1, 77]);
}

fn open_clip_shapes(shapes: &mut Shapes, tower: &Tower) {
    let Tower { prefix, width, .. } = *tower;
    put_matrix(shapes, format!("{prefix}token_embedding"), 49408, width);
    shapes.insert(format!("{prefix}positional_embedding"), vec![77, width]);
    for layer in 0..tower.layers {
        let name = format!("{prefix}transformer.resblocks.{layer}");
        shapes.insert(format!("{name}.attn.in_proj_weight"), vec![3 * width, width]);
        shapes.insert(format!("{name}.attn.in_proj_bias"), vec![3 * width]);
        put(shapes, format!("{name}.attn.out_proj"), &[width, width]);
        put(shapes, format!("{name}.ln_1"), &[width]);
        put(shapes, format!("{name}.ln_2"), &[width]);
        put(shapes, format!("{name}.mlp.c_fc"), &[4 * width, width]);
        put(shapes, format!("{name}.mlp.c_proj"), &[width, 4 * width]);
    }
    put(shapes, format!("{prefix}ln_final"), &[width]);
    shapes.insert(format!("{prefix}text_projection"), vec![width, width]);
}
