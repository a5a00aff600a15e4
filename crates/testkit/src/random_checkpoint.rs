//! Writes SD1-layout checkpoints whose every weight is a pure function of its name and index.
//!
//! A value is `f16((2u - 1) * sqrt(3) * std)`, where `u` is 24 bits of a splitmix64 hash seeded with the FNV-1a
//! hash of the tensor name. Integer arithmetic and a single rounding make the file the same on every machine, so
//! its SHA-256 can be pinned and figures taken from another implementation can be compared.
//!
//! An identity path runs through the network (stem, last skip connection, output convolution), so a noise
//! estimate stays close to its input instead of drowning in random features.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// SHA-256 of the file that [`write_tiny`] writes.
pub const TINY_SHA256: &str = "8f7dbbd52e067241b81c9b5c896822eaa89f1a2cafb3c1ba1f6178ca4ebe4327";
/// SHA-256 of the file that [`write_sd15`] writes.
pub const SD15_SHA256: &str = "3490b0d31f695636b42edaea3e4a433476027f4f136052bd8f38dc2e13c33aa3";

const UNET: &str = "model.diffusion_model.";
const VAE: &str = "first_stage_model.";
const CLIP: &str = "cond_stage_model.transformer.text_model.";
const STEM: &str = "model.diffusion_model.input_blocks.0.0.weight";
const LAST_SKIP: &str = "model.diffusion_model.output_blocks.11.0.skip_connection.weight";
const OUTPUT: &str = "model.diffusion_model.out.2.weight";

/// Writes the small checkpoint (34 MB): UNet and VAE width 32, text width 64 with two layers.
pub fn write_tiny(path: &Path) -> io::Result<()> {
    write(path, &Widths { unet: 32, vae: 32, text: 64, text_layers: 2 })
}

/// Writes the full-size Stable Diffusion 1.5 layout (2.1 GB).
pub fn write_sd15(path: &Path) -> io::Result<()> {
    write(path, &Widths { unet: 320, vae: 128, text: 768, text_layers: 12 })
}

/// The sizes that tell the two layouts apart.
struct Widths {
    unet: usize,
    vae: usize,
    text: usize,
    text_layers: usize,
}

const MULTIPLIERS: [usize; 4] = [1, 2, 4, 4];

type Shapes = BTreeMap<String, Vec<usize>>;

fn write(path: &Path, widths: &Widths) -> io::Result<()> {
    let mut shapes = Shapes::new();
    unet_shapes(&mut shapes, widths);
    vae_shapes(&mut shapes, widths.vae);
    text_shapes(&mut shapes, widths);
    shapes.insert(format!("{CLIP}embeddings.position_ids"), vec![1, 77]);
    shapes.insert("betas".into(), vec![1000]);
    shapes.insert("alphas_cumprod".into(), vec![1000]);

    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    out.write_all(&header(&shapes))?;
    for (name, shape) in &shapes {
        write_tensor(&mut out, name, shape)?;
    }
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

fn stored_type(name: &str) -> (&'static str, usize) {
    match name {
        "betas" | "alphas_cumprod" => ("F32", 4),
        name if name.ends_with("position_ids") => ("I64", 8),
        _ => ("F16", 2),
    }
}

fn header(shapes: &Shapes) -> Vec<u8> {
    let mut json = String::from(r#"{"__metadata__":{"format":"pt"}"#);
    let mut offset = 0;
    for (name, shape) in shapes {
        let (dtype, width) = stored_type(name);
        let end = offset + width * shape.iter().product::<usize>();
        let dims = shape.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        json.push_str(&format!(
            r#","{name}":{{"dtype":"{dtype}","shape":[{dims}],"data_offsets":[{offset},{end}]}}"#
        ));
        offset = end;
    }
    json.push('}');
    while !json.len().is_multiple_of(8) {
        json.push(' ');
    }
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(json.as_bytes());
    bytes
}

// ---- shapes ----

fn put(shapes: &mut Shapes, name: String, weight: &[usize]) {
    shapes.insert(format!("{name}.bias"), vec![weight[0]]);
    shapes.insert(format!("{name}.weight"), weight.to_vec());
}

fn put_matrix(shapes: &mut Shapes, name: String, rows: usize, columns: usize) {
    shapes.insert(format!("{name}.weight"), vec![rows, columns]);
}

fn unet_shapes(shapes: &mut Shapes, widths: &Widths) {
    let width = widths.unet;
    let embed = 4 * width;
    put(shapes, format!("{UNET}time_embed.0"), &[embed, width]);
    put(shapes, format!("{UNET}time_embed.2"), &[embed, embed]);
    put(shapes, format!("{UNET}input_blocks.0.0"), &[width, 4, 3, 3]);
    let mut skips = vec![width];
    let mut channels = width;
    let mut block = 1;
    for (level, multiplier) in MULTIPLIERS.iter().enumerate() {
        for _ in 0..2 {
            let out = width * multiplier;
            res_block(shapes, &format!("{UNET}input_blocks.{block}.0"), channels, out, embed);
            if level < 3 {
                transformer(shapes, &format!("{UNET}input_blocks.{block}.1"), out, widths.text);
            }
            channels = out;
            skips.push(channels);
            block += 1;
        }
        if level < 3 {
            put(shapes, format!("{UNET}input_blocks.{block}.0.op"), &[channels, channels, 3, 3]);
            skips.push(channels);
            block += 1;
        }
    }
    res_block(shapes, &format!("{UNET}middle_block.0"), channels, channels, embed);
    transformer(shapes, &format!("{UNET}middle_block.1"), channels, widths.text);
    res_block(shapes, &format!("{UNET}middle_block.2"), channels, channels, embed);
    block = 0;
    for level in (0..4).rev() {
        for i in 0..3 {
            let out = width * MULTIPLIERS[level];
            let skip = skips.pop().expect("there is one skip per output block");
            res_block(shapes, &format!("{UNET}output_blocks.{block}.0"), channels + skip, out, embed);
            channels = out;
            if level < 3 {
                transformer(shapes, &format!("{UNET}output_blocks.{block}.1"), out, widths.text);
            }
            if i == 2 && level > 0 {
                let place = if level < 3 { 2 } else { 1 };
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

fn transformer(shapes: &mut Shapes, name: &str, width: usize, context: usize) {
    put(shapes, format!("{name}.norm"), &[width]);
    put(shapes, format!("{name}.proj_in"), &[width, width, 1, 1]);
    put(shapes, format!("{name}.proj_out"), &[width, width, 1, 1]);
    let block = format!("{name}.transformer_blocks.0");
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

fn vae_shapes(shapes: &mut Shapes, width: usize) {
    let top = width * MULTIPLIERS[3];
    put(shapes, format!("{VAE}encoder.conv_in"), &[width, 3, 3, 3]);
    let mut channels = width;
    for (level, multiplier) in MULTIPLIERS.iter().enumerate() {
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
        let out = width * MULTIPLIERS[level];
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

fn text_shapes(shapes: &mut Shapes, widths: &Widths) {
    let width = widths.text;
    put_matrix(shapes, format!("{CLIP}embeddings.token_embedding"), 49408, width);
    put_matrix(shapes, format!("{CLIP}embeddings.position_embedding"), 77, width);
    for layer in 0..widths.text_layers {
        let name = format!("{CLIP}encoder.layers.{layer}");
        for projection in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            put(shapes, format!("{name}.self_attn.{projection}"), &[width, width]);
        }
        put(shapes, format!("{name}.layer_norm1"), &[width]);
        put(shapes, format!("{name}.layer_norm2"), &[width]);
        put(shapes, format!("{name}.mlp.fc1"), &[4 * width, width]);
        put(shapes, format!("{name}.mlp.fc2"), &[width, 4 * width]);
    }
    put(shapes, format!("{CLIP}final_layer_norm"), &[width]);
}

// ---- values ----

/// How one tensor is filled.
enum Fill {
    Constant(f64),
    Random { std: f64 },
}

fn is_norm(name: &str) -> bool {
    let parent = name.rsplit('.').nth(1).unwrap_or_default();
    if parent.contains("norm") {
        return true;
    }
    let Some(rest) = name.strip_prefix(UNET) else { return false };
    let layer = rest.rsplit_once('.').map_or(rest, |(layer, _)| layer);
    layer == "out.0" || layer.ends_with("in_layers.0") || layer.ends_with("out_layers.0")
}

fn fill(name: &str, shape: &[usize]) -> Fill {
    if is_norm(name) {
        return Fill::Constant(if name.ends_with("weight") { 1.0 } else { 0.0 });
    }
    if name.ends_with(".bias") {
        return Fill::Random { std: 0.02 };
    }
    if name.ends_with("token_embedding.weight") {
        return Fill::Random { std: 0.5 };
    }
    if name.ends_with("position_embedding.weight") {
        return Fill::Random { std: 0.1 };
    }
    let fan_in = shape[1..].iter().product::<usize>() as f64;
    Fill::Random { std: gain(name) / fan_in.sqrt() }
}

fn gain(name: &str) -> f64 {
    if let Some(rest) = name.strip_prefix(UNET) {
        return unet_gain(rest);
    }
    if name.starts_with(VAE) {
        let damped = name == "first_stage_model.decoder.conv_out.weight"
            || name.contains(".conv2.")
            || name.contains(".proj_out.");
        return if damped { 0.7 } else { 1.0 };
    }
    if name.contains(".out_proj.") || name.contains(".fc2.") { 0.5 } else { 1.0 }
}

fn unet_gain(rest: &str) -> f64 {
    match rest {
        "input_blocks.0.0.weight" => return 0.25,
        "output_blocks.11.0.skip_connection.weight" => return 0.3,
        "out.2.weight" => return 0.5,
        _ => {}
    }
    if rest.contains(".attn2.to_k.") || rest.contains(".attn2.to_q.") {
        return 2.0;
    }
    let damped = rest.ends_with("out_layers.3.weight")
        || rest.ends_with("proj_out.weight")
        || rest.contains(".to_out.0.")
        || rest.ends_with("ff.net.2.weight");
    if damped { 0.5 } else { 1.0 }
}

/// Adds the identity path to one value of one of its three tensors.
fn identity(name: &str, shape: &[usize], index: usize) -> f64 {
    let inner = shape[1] * shape[2] * shape[3];
    let (row, column) = (index / inner, index % inner / (shape[2] * shape[3]));
    let centre = index % (shape[2] * shape[3]) == (shape[2] * shape[3]) / 2;
    let sign = |channel: usize| if channel.is_multiple_of(2) { 1.0 } else { -1.0 };
    match name {
        STEM if centre && column == row / 2 % 4 => sign(row),
        LAST_SKIP if column == shape[1] / 2 + row => 1.0,
        OUTPUT if centre && column / 2 % 4 == row => {
            let pairs = (0..shape[1] / 2).filter(|pair| pair % 4 == row).count();
            sign(column) * (1.0 / pairs as f64)
        }
        _ => 0.0,
    }
}

fn write_tensor(out: &mut impl Write, name: &str, shape: &[usize]) -> io::Result<()> {
    let count = shape.iter().product::<usize>();
    match stored_type(name) {
        ("I64", _) => (0..count as i64).try_for_each(|i| out.write_all(&i.to_le_bytes())),
        ("F32", _) => {
            schedule(name, count).into_iter().try_for_each(|v| out.write_all(&(v as f32).to_le_bytes()))
        }
        _ => write_half(out, name, shape, count),
    }
}

fn write_half(out: &mut impl Write, name: &str, shape: &[usize], count: usize) -> io::Result<()> {
    let std = match fill(name, shape) {
        Fill::Constant(value) => {
            let bytes = half_bits(value).to_le_bytes();
            return (0..count).try_for_each(|_| out.write_all(&bytes));
        }
        Fill::Random { std } => std,
    };
    let scale = 3f64.sqrt() * std;
    let seed = fnv1a(name);
    let on_identity_path = matches!(name, STEM | LAST_SKIP | OUTPUT);
    let mut chunk = Vec::with_capacity(1 << 16);
    for index in 0..count {
        let mut value = (uniform(seed, index as u64) * 2.0 - 1.0) * scale;
        if on_identity_path {
            value += identity(name, shape, index);
        }
        chunk.extend_from_slice(&half_bits(value).to_le_bytes());
        if chunk.len() == 1 << 16 {
            out.write_all(&chunk)?;
            chunk.clear();
        }
    }
    out.write_all(&chunk)
}

/// The noise schedule tensors that such files carry and loaders ignore.
fn schedule(name: &str, count: usize) -> Vec<f64> {
    let (start, stop) = (0.00085f64.sqrt(), 0.012f64.sqrt());
    let step = (stop - start) / (count - 1) as f64;
    let betas =
        (0..count).map(|i| if i + 1 == count { stop } else { i as f64 * step + start }).map(|b| b * b);
    if name == "betas" {
        return betas.collect();
    }
    betas
        .scan(1.0, |product, beta| {
            *product *= 1.0 - beta;
            Some(*product)
        })
        .collect()
}

fn fnv1a(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn uniform(seed: u64, index: u64) -> f64 {
    let mut z = seed.wrapping_add((index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 40) as f64 / 16_777_216.0
}

/// Rounds to half precision once, to nearest even. Going through f32 would round twice.
fn half_bits(value: f64) -> u16 {
    let sign = if value.is_sign_negative() { 0x8000 } else { 0 };
    let magnitude = value.abs();
    if magnitude < 2f64.powi(-14) {
        // Subnormal halves are multiples of 2^-24; the carry into the first normal is the right bit pattern.
        return sign | (magnitude * 2f64.powi(24)).round_ties_even() as u16;
    }
    let exponent = ((magnitude.to_bits() >> 52) as i32) - 1023;
    let steps = (magnitude * 2f64.powi(10 - exponent)).round_ties_even() as i32;
    let bits = ((exponent + 15) << 10) + (steps - 1024);
    sign | bits.clamp(0, 0x7c00) as u16
}
