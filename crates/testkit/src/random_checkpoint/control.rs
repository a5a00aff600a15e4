//! Control networks that fit the small checkpoints.

use std::io;
use std::path::Path;

use super::layouts::{TINY, TINY_SD2, TINY_SDXL, Unet};
use super::shapes::{Shapes, descent_shapes, put};
use super::values::{Norms, Values};

pub(super) const CONTROL: &str = "control_model.";

/// A file with a control network.
#[derive(Debug, Clone, Copy)]
pub struct ControlFile {
    pub name: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// A ControlNet that knows a number of kinds of picture, if it is told of them at all.
    Network {
        unet: Unet,
        kinds: Option<usize>,
    },
    /// The same, less the weights of a model.
    Difference {
        unet: Unet,
    },
    /// Low-rank changes to the weights of a model.
    LowRank {
        unet: Unet,
    },
    Adapter {
        unshuffle: usize,
    },
    LightAdapter,
}

pub const CONTROL_SD1: ControlFile =
    ControlFile { name: "tiny-control", kind: Kind::Network { unet: TINY.unet, kinds: None } };
pub const CONTROL_SD2: ControlFile =
    ControlFile { name: "tiny-control-sd2", kind: Kind::Network { unet: TINY_SD2.unet, kinds: None } };
pub const CONTROL_SDXL: ControlFile =
    ControlFile { name: "tiny-control-sdxl", kind: Kind::Network { unet: TINY_SDXL.unet, kinds: None } };
pub const CONTROL_UNION: ControlFile =
    ControlFile { name: "tiny-control-union", kind: Kind::Network { unet: TINY_SDXL.unet, kinds: Some(6) } };
pub const CONTROL_DIFFERENCE: ControlFile =
    ControlFile { name: "tiny-control-difference", kind: Kind::Difference { unet: TINY.unet } };
pub const CONTROL_LORA: ControlFile =
    ControlFile { name: "tiny-control-lora", kind: Kind::LowRank { unet: TINY.unet } };
pub const T2I_SD1: ControlFile = ControlFile { name: "tiny-t2i", kind: Kind::Adapter { unshuffle: 8 } };
pub const T2I_SDXL: ControlFile =
    ControlFile { name: "tiny-t2i-sdxl", kind: Kind::Adapter { unshuffle: 16 } };
pub const T2I_LIGHT: ControlFile = ControlFile { name: "tiny-t2i-light", kind: Kind::LightAdapter };

/// Every file.
pub const CONTROL_FILES: [&ControlFile; 9] = [
    &CONTROL_SD1,
    &CONTROL_SD2,
    &CONTROL_SDXL,
    &CONTROL_UNION,
    &CONTROL_DIFFERENCE,
    &CONTROL_LORA,
    &T2I_SD1,
    &T2I_SDXL,
    &T2I_LIGHT,
];

/// Widths that pictures pass through on their way to the latent's size.
const HINT: [usize; 4] = [8, 16, 24, 32];
/// Widths of the levels of adapters.
const LEVELS: [usize; 4] = [32, 64, 128, 128];
const RANK: usize = 2;

impl ControlFile {
    /// Writes the file.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        super::write_file(path, &self.shapes(), &Values::new(1, Norms::Random, false))
    }

    fn shapes(&self) -> Shapes {
        let mut shapes = Shapes::new();
        match &self.kind {
            Kind::Network { unet, kinds } => {
                network(&mut shapes, CONTROL, unet);
                if let Some(kinds) = kinds {
                    union(&mut shapes, unet, *kinds);
                }
            }
            Kind::Difference { unet } => {
                network(&mut shapes, CONTROL, unet);
                shapes.insert("difference".into(), vec![0]);
            }
            Kind::LowRank { unet } => shapes = low_rank(unet),
            Kind::Adapter { unshuffle } => adapter(&mut shapes, *unshuffle),
            Kind::LightAdapter => light_adapter(&mut shapes),
        }
        shapes
    }
}

fn network(shapes: &mut Shapes, prefix: &str, unet: &Unet) {
    let widths = descent_shapes(shapes, prefix, unet);
    own(shapes, prefix, unet, &widths);
}

/// What a ControlNet has that a UNet has not.
fn own(shapes: &mut Shapes, prefix: &str, unet: &Unet, widths: &[usize]) {
    for (i, &width) in widths.iter().enumerate() {
        put(shapes, format!("{prefix}zero_convs.{i}.0"), &[width, width, 1, 1]);
    }
    let last = widths[widths.len() - 1];
    put(shapes, format!("{prefix}middle_block_out.0"), &[last, last, 1, 1]);
    let mut hint = vec![[3, HINT[0]]];
    for pair in HINT.windows(2) {
        hint.extend([[pair[0], pair[0]], [pair[0], pair[1]]]);
    }
    hint.push([HINT[3], unet.channels]);
    for (i, [input, output]) in hint.into_iter().enumerate() {
        put(shapes, format!("{prefix}input_hint_block.{}", 2 * i), &[output, input, 3, 3]);
    }
}

fn union(shapes: &mut Shapes, unet: &Unet, kinds: usize) {
    let (width, embed) = (unet.channels, 4 * unet.channels);
    shapes.insert(format!("{CONTROL}task_embedding"), vec![kinds, width]);
    put(shapes, format!("{CONTROL}control_add_embedding.linear_1"), &[embed, 256 * kinds]);
    put(shapes, format!("{CONTROL}control_add_embedding.linear_2"), &[embed, embed]);
    put(shapes, format!("{CONTROL}spatial_ch_projs"), &[width, width]);
    let block = format!("{CONTROL}transformer_layes.0");
    shapes.insert(format!("{block}.attn.in_proj_weight"), vec![3 * width, width]);
    shapes.insert(format!("{block}.attn.in_proj_bias"), vec![3 * width]);
    put(shapes, format!("{block}.attn.out_proj"), &[width, width]);
    put(shapes, format!("{block}.ln_1"), &[width]);
    put(shapes, format!("{block}.ln_2"), &[width]);
    put(shapes, format!("{block}.mlp.c_fc"), &[4 * width, width]);
    put(shapes, format!("{block}.mlp.c_proj"), &[width, 4 * width]);
}

/// As published, without a prefix.
fn low_rank(unet: &Unet) -> Shapes {
    let mut base = Shapes::new();
    let widths = descent_shapes(&mut base, "", unet);
    let mut shapes = Shapes::new();
    for (name, shape) in base {
        let Some(layer) = name.strip_suffix(".weight").filter(|_| shape.len() > 1) else { continue };
        let mut up = vec![shape[0], RANK];
        up.extend(shape[2..].iter().map(|_| 1));
        shapes.insert(format!("{layer}.up"), up);
        shapes.insert(format!("{layer}.down"), [&[RANK], &shape[1..]].concat());
    }
    own(&mut shapes, "", unet, &widths);
    shapes.insert("lora_controlnet".into(), vec![0]);
    shapes
}

fn adapter(shapes: &mut Shapes, unshuffle: usize) {
    put(shapes, "conv_in".into(), &[LEVELS[0], 3 * unshuffle * unshuffle, 3, 3]);
    let mut width = LEVELS[0];
    for (level, wide) in LEVELS.into_iter().enumerate() {
        if width != wide {
            put(shapes, format!("body.{}.in_conv", 2 * level), &[wide, width, 1, 1]);
        }
        for block in [2 * level, 2 * level + 1] {
            put(shapes, format!("body.{block}.block1"), &[wide, wide, 3, 3]);
            put(shapes, format!("body.{block}.block2"), &[wide, wide, 1, 1]);
        }
        width = wide;
    }
}

fn light_adapter(shapes: &mut Shapes) {
    let mut width = 3 * 64;
    for (level, wide) in LEVELS.into_iter().enumerate() {
        let inner = wide / 4;
        put(shapes, format!("body.{level}.in_conv"), &[inner, width, 1, 1]);
        for block in 0..4 {
            put(shapes, format!("body.{level}.body.{block}.block1"), &[inner, inner, 3, 3]);
            put(shapes, format!("body.{level}.body.{block}.block2"), &[inner, inner, 3, 3]);
        }
        put(shapes, format!("body.{level}.out_conv"), &[wide, inner, 1, 1]);
        width = wide;
    }
}
