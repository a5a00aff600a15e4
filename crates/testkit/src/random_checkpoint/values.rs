//! Values of the tensors, from their names and indices.

use std::io::{self, Write};

use super::control::CONTROL;
use super::shapes::{UNET, VAE};

/// The type that a tensor is stored in and its bytes per value.
pub(super) fn stored_type(name: &str) -> (&'static str, usize) {
    match name {
        "betas" | "alphas_cumprod" => ("F32", 4),
        name if name.ends_with("position_ids") => ("I64", 8),
        _ => ("F16", 2),
    }
}

/// How one tensor is filled.
enum Fill {
    Constant(f64),
    Random { mean: f64, std: f64 },
}

/// What the values of one file depend on besides names and indices.
pub(super) struct Values {
    /// The weight of the last block's skip connection, which is on the identity path.
    last_skip: String,
    norms: Norms,
    velocity: bool,
}

/// How normalisations are filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Norms {
    /// With ones and zeros, so that they do nothing.
    Plain,
    /// With values about one and zero, so that a mixed-up one is noticed.
    Random,
}

const STEM: &str = "model.diffusion_model.input_blocks.0.0.weight";
const OUTPUT: &str = "model.diffusion_model.out.2.weight";
/// The spread of this tensor tells SD2 models that predict velocities from those that predict noise.
const TELLING_BIAS: &str = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias";

fn is_norm(name: &str) -> bool {
    let parent = name.rsplit('.').nth(1).unwrap_or_default();
    if parent.contains("norm") || parent.starts_with("ln_") {
        return true;
    }
    let Some(rest) = name.strip_prefix(UNET).or_else(|| name.strip_prefix(CONTROL)) else { return false };
    let layer = rest.rsplit_once('.').map_or(rest, |(layer, _)| layer);
    layer == "out.0" || layer.ends_with("in_layers.0") || layer.ends_with("out_layers.0")
}

impl Values {
    pub(super) fn new(output_blocks: usize, norms: Norms, velocity: bool) -> Self {
        let last_skip = format!("{UNET}output_blocks.{}.0.skip_connection.weight", output_blocks - 1);
        Self { last_skip, norms, velocity }
    }

    fn fill(&self, name: &str, shape: &[usize]) -> Fill {
        if self.velocity && name == TELLING_BIAS {
            return Fill::Random { mean: 0.0, std: 0.3 };
        }
        if is_norm(name) {
            let mean = if name.ends_with("weight") { 1.0 } else { 0.0 };
            return match self.norms {
                Norms::Plain => Fill::Constant(mean),
                Norms::Random => Fill::Random { mean, std: 0.05 },
            };
        }
        let std = if name.ends_with(".bias") || name.ends_with("_bias") {
            0.02
        } else if name.ends_with("token_embedding.weight") {
            0.5
        } else if name.ends_with("position_embedding.weight") || name.ends_with("positional_embedding") {
            0.1
        } else {
            let inputs = shape.iter().skip(1).product::<usize>();
            self.gain(name) / (inputs as f64).sqrt()
        };
        Fill::Random { mean: 0.0, std }
    }

    fn gain(&self, name: &str) -> f64 {
        if name == self.last_skip { 0.3 } else { gain(name) }
    }

    /// Adds the identity path to one value of one of its three tensors.
    fn identity(&self, name: &str, shape: &[usize], index: usize) -> f64 {
        let inner = shape[1] * shape[2] * shape[3];
        let (row, column) = (index / inner, index % inner / (shape[2] * shape[3]));
        let centre = index % (shape[2] * shape[3]) == (shape[2] * shape[3]) / 2;
        let sign = |channel: usize| if channel.is_multiple_of(2) { 1.0 } else { -1.0 };
        match name {
            STEM if centre && column == row / 2 % 4 => sign(row),
            _ if name == self.last_skip && column == shape[1] / 2 + row => 1.0,
            OUTPUT if centre && column / 2 % 4 == row => {
                let pairs = (0..shape[1] / 2).filter(|pair| pair % 4 == row).count();
                sign(column) * (1.0 / pairs as f64)
            }
            _ => 0.0,
        }
    }

    pub(super) fn write(&self, out: &mut impl Write, name: &str, shape: &[usize]) -> io::Result<()> {
        let count = shape.iter().product::<usize>();
        match stored_type(name) {
            ("I64", _) => (0..count as i64).try_for_each(|i| out.write_all(&i.to_le_bytes())),
            ("F32", _) => {
                schedule(name, count).into_iter().try_for_each(|v| out.write_all(&(v as f32).to_le_bytes()))
            }
            _ => self.write_half(out, name, shape, count),
        }
    }

    fn write_half(&self, out: &mut impl Write, name: &str, shape: &[usize], count: usize) -> io::Result<()> {
        let (mean, std) = match self.fill(name, shape) {
            Fill::Constant(value) => {
                let bytes = half_bits(value).to_le_bytes();
                return (0..count).try_for_each(|_| out.write_all(&bytes));
            }
            Fill::Random { mean, std } => (mean, std),
        };
        let scale = 3f64.sqrt() * std;
        let seed = fnv1a(name);
        let on_identity_path = matches!(name, STEM | OUTPUT) || name == self.last_skip;
        let mut chunk = Vec::with_capacity(1 << 16);
        for index in 0..count {
            let mut value = mean + (uniform(seed, index as u64) * 2.0 - 1.0) * scale;
            if on_identity_path {
                value += self.identity(name, shape, index);
            }
            chunk.extend_from_slice(&half_bits(value).to_le_bytes());
            if chunk.len() == 1 << 16 {
                out.write_all(&chunk)?;
                chunk.clear();
            }
        }
        out.write_all(&chunk)
    }
}

fn gain(name: &str) -> f64 {
    if let Some(rest) = name.strip_prefix(UNET).or_else(|| name.strip_prefix(CONTROL)) {
        return unet_gain(rest);
    }
    if name.starts_with(VAE) {
        let damped = name == "first_stage_model.decoder.conv_out.weight"
            || name.contains(".conv2.")
            || name.contains(".proj_out.");
        return if damped { 0.7 } else { 1.0 };
    }
    let damped =
        [".out_proj.", ".fc2.", ".c_proj.", ".block2.", ".up"].iter().any(|part| name.contains(part));
    if damped { 0.5 } else { 1.0 }
}

fn unet_gain(rest: &str) -> f64 {
    match rest {
        "input_blocks.0.0.weight" => return 0.25,
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
