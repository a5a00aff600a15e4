//! The layouts that can be written.

use super::values::Norms;

/// One kind of file.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    pub name: &'static str,
    /// SHA-256 of the file.
    pub sha256: &'static str,
    pub(super) unet: Unet,
    pub(super) vae: usize,
    pub(super) text: &'static [Tower],
    /// Empty tensors that tell loaders how the network was trained.
    pub(super) markers: &'static [&'static str],
    pub(super) norms: Norms,
    /// Whether an SD2 network looks like one that predicts velocities.
    pub(super) velocity: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Unet {
    /// Channels of the latent and of what is put behind it.
    pub inputs: usize,
    /// Width of the first level.
    pub channels: usize,
    /// For each level, its width in multiples of the first and the depth of its transformers.
    pub levels: &'static [(usize, usize)],
    /// Depth of the transformer in the middle; without one there is a single block.
    pub middle_depth: Option<usize>,
    /// Width of the text.
    pub context: usize,
    /// Width of the vector conditioning.
    pub vector: Option<usize>,
    pub linear: bool,
}

/// A text encoder.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tower {
    pub prefix: &'static str,
    pub names: TowerNames,
    pub width: usize,
    pub layers: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum TowerNames {
    HuggingFace,
    OpenClip,
}

const fn clip_l(prefix: &'static str, width: usize, layers: usize) -> Tower {
    Tower { prefix, names: TowerNames::HuggingFace, width, layers }
}

const fn open_clip(prefix: &'static str, width: usize, layers: usize) -> Tower {
    Tower { prefix, names: TowerNames::OpenClip, width, layers }
}

const SD1_TEXT: &str = "cond_stage_model.transformer.text_model.";

/// UNet and autoencoder 32 wide, text 64 wide with two layers (34 MB).
pub const TINY: Layout = Layout {
    name: "tiny",
    sha256: "8f7dbbd52e067241b81c9b5c896822eaa89f1a2cafb3c1ba1f6178ca4ebe4327",
    unet: Unet {
        inputs: 4,
        channels: 32,
        levels: &[(1, 1), (2, 1), (4, 1), (4, 0)],
        middle_depth: Some(1),
        context: 64,
        vector: None,
        linear: false,
    },
    vae: 32,
    text: &[clip_l(SD1_TEXT, 64, 2)],
    markers: &[],
    norms: Norms::Plain,
    velocity: false,
};

/// The full-size Stable Diffusion 1.5 layout (2.1 GB).
pub const SD15: Layout = Layout {
    name: "sd15",
    sha256: "3490b0d31f695636b42edaea3e4a433476027f4f136052bd8f38dc2e13c33aa3",
    unet: Unet { channels: 320, context: 768, ..TINY.unet },
    vae: 128,
    text: &[clip_l(SD1_TEXT, 768, 12)],
    ..TINY
};

pub const TINY_SD1_INPAINT: Layout = Layout {
    name: "tiny-sd1-inpaint",
    sha256: "a655067f5591cd32a9ae3fbf28ac7aeaffba4515b585b141512cdbb543cb3200",
    unet: Unet { inputs: 9, ..TINY.unet },
    norms: Norms::Random,
    ..TINY
};

pub const TINY_SD1_PIX2PIX: Layout = Layout {
    name: "tiny-sd1-pix2pix",
    sha256: "6dee02a20e2b6e1d7d6ea5c9ab6d6ffb0dca4ba703d3ecc044c7d65669496606",
    unet: Unet { inputs: 8, ..TINY.unet },
    ..TINY_SD1_INPAINT
};

/// Stable Diffusion 2 that predicts noise; the widths of its levels differ from the usual ones too.
pub const TINY_SD2: Layout = Layout {
    name: "tiny-sd2",
    sha256: "39938731c271193daf6926664423a36d3c228b337d4a7058db0c65be3c56d316",
    unet: Unet {
        inputs: 4,
        channels: 64,
        levels: &[(1, 1), (1, 1), (2, 1), (2, 0)],
        middle_depth: Some(1),
        context: 128,
        vector: None,
        linear: true,
    },
    text: &[open_clip("cond_stage_model.model.", 128, 3)],
    norms: Norms::Random,
    ..TINY
};

pub const TINY_SD2_V: Layout = Layout {
    name: "tiny-sd2-v",
    sha256: "48f686d720c5c4c9c57af092d57af2e79c75703112c9794e7b72545b23c984d3",
    velocity: true,
    ..TINY_SD2
};

pub const TINY_SD2_INPAINT: Layout = Layout {
    name: "tiny-sd2-inpaint",
    sha256: "80060982193dca9af3b99784af246ee6d8d6b044631d6e9b51585f769a21849f",
    unet: Unet { inputs: 9, ..TINY_SD2.unet },
    ..TINY_SD2
};

pub const TINY_SDXL: Layout = Layout {
    name: "tiny-sdxl",
    sha256: "cb48d4a057b6cc6006b9f526f1d24aec726dab03dff4f7e9c510030b0b72d6b4",
    unet: Unet {
        inputs: 4,
        channels: 32,
        levels: &[(1, 0), (2, 1), (4, 2)],
        middle_depth: Some(2),
        context: 64 + 128,
        vector: Some(128 + 6 * 256),
        linear: true,
    },
    text: &[
        clip_l("conditioner.embedders.0.transformer.text_model.", 64, 3),
        open_clip("conditioner.embedders.1.model.", 128, 3),
    ],
    norms: Norms::Random,
    ..TINY
};

/// With as many layers as the published CLIP-G has, by which a file of its own is recognised.
pub const TINY_SDXL_DEEP: Layout = Layout {
    name: "tiny-sdxl-deep",
    sha256: "d82ee793a4165a6d6ad6df5440fbd129e306972230786cd6522283c40ba61796",
    text: &[
        clip_l("conditioner.embedders.0.transformer.text_model.", 64, 3),
        open_clip("conditioner.embedders.1.model.", 128, 32),
    ],
    ..TINY_SDXL
};

/// Marked as predicting velocities at noise levels that end in nothing but noise.
pub const TINY_SDXL_V: Layout = Layout {
    name: "tiny-sdxl-v",
    sha256: "460be71edf00a7447aad677b7e905c4cc556e82ecf3069b472873b8610e32c49",
    markers: &["v_pred", "ztsnr"],
    ..TINY_SDXL
};

pub const TINY_SDXL_INPAINT: Layout = Layout {
    name: "tiny-sdxl-inpaint",
    sha256: "23107f95915b049ed6b863b803fea8b1950d060e728a28193101e5b7a1d68743",
    unet: Unet { inputs: 9, ..TINY_SDXL.unet },
    ..TINY_SDXL
};

pub const TINY_SDXL_PIX2PIX: Layout = Layout {
    name: "tiny-sdxl-pix2pix",
    sha256: "b061ecba0f0d7beb1de0c3f070eff90a07ac60bb22a0f43f2c65880de0711a7a",
    unet: Unet { inputs: 8, ..TINY_SDXL.unet },
    ..TINY_SDXL
};

/// With a single block in the middle and shallower levels, as distilled models have.
pub const TINY_SDXL_DISTILLED: Layout = Layout {
    name: "tiny-sdxl-distilled",
    sha256: "b046c9826b1a52decedabbdf79656f69967fafa67d48f507e33776f6c4ae187a",
    unet: Unet { levels: &[(1, 0), (2, 1), (4, 1)], middle_depth: None, ..TINY_SDXL.unet },
    ..TINY_SDXL
};

pub const TINY_SDXL_REFINER: Layout = Layout {
    name: "tiny-sdxl-refiner",
    sha256: "30deb2ccbb124d52e9684f851f11b630a6af26839776b5d33b51d667b3e87aa0",
    unet: Unet {
        levels: &[(1, 0), (2, 1), (4, 1), (4, 0)],
        middle_depth: Some(1),
        context: 128,
        vector: Some(128 + 5 * 256),
        ..TINY_SDXL.unet
    },
    text: &[open_clip("conditioner.embedders.0.model.", 128, 3)],
    ..TINY_SDXL
};

/// Stable Diffusion 2 with levels too narrow for its attention heads, which no loader accepts.
pub const TOO_NARROW: Layout =
    Layout { name: "too-narrow", sha256: "", unet: Unet { channels: 32, ..TINY_SD2.unet }, ..TINY_SD2 };

/// Trained in a way that no loader here knows.
pub const COSXL: Layout = Layout {
    name: "cosxl",
    sha256: "",
    markers: &["edm_vpred.sigma_max", "edm_vpred.sigma_min"],
    ..TINY_SDXL
};

// The published sizes, of which only headers are written.

pub const SD2: Layout = Layout {
    name: "sd2",
    sha256: "",
    unet: Unet { channels: 320, levels: TINY.unet.levels, context: 1024, ..TINY_SD2.unet },
    vae: 128,
    text: &[open_clip("cond_stage_model.model.", 1024, 24)],
    ..TINY_SD2
};

/// Takes the embedding of a picture.
pub const SD2_UNCLIP: Layout =
    Layout { name: "sd2-unclip", unet: Unet { vector: Some(2048), ..SD2.unet }, ..SD2 };

pub const SDXL: Layout = Layout {
    name: "sdxl",
    sha256: "",
    unet: Unet {
        channels: 320,
        levels: &[(1, 0), (2, 2), (4, 10)],
        middle_depth: Some(10),
        context: 2048,
        vector: Some(2816),
        ..TINY_SDXL.unet
    },
    vae: 128,
    text: &[
        clip_l("conditioner.embedders.0.transformer.text_model.", 768, 12),
        open_clip("conditioner.embedders.1.model.", 1280, 32),
    ],
    ..TINY_SDXL
};

/// A distilled XL.
pub const SSD_1B: Layout = Layout {
    name: "ssd-1b",
    unet: Unet { levels: &[(1, 0), (2, 2), (4, 4)], middle_depth: None, ..SDXL.unet },
    ..SDXL
};

pub const SDXL_REFINER: Layout = Layout {
    name: "sdxl-refiner",
    unet: Unet {
        channels: 384,
        levels: &[(1, 0), (2, 4), (4, 4), (4, 0)],
        middle_depth: Some(4),
        context: 1280,
        vector: Some(2560),
        ..SDXL.unet
    },
    text: &[open_clip("conditioner.embedders.0.model.", 1280, 32)],
    ..SDXL
};

/// Every layout that can be used.
pub const LAYOUTS: [&Layout; 14] = [
    &TINY,
    &SD15,
    &TINY_SD1_INPAINT,
    &TINY_SD1_PIX2PIX,
    &TINY_SD2,
    &TINY_SD2_V,
    &TINY_SD2_INPAINT,
    &TINY_SDXL,
    &TINY_SDXL_DEEP,
    &TINY_SDXL_V,
    &TINY_SDXL_INPAINT,
    &TINY_SDXL_PIX2PIX,
    &TINY_SDXL_DISTILLED,
    &TINY_SDXL_REFINER,
];
