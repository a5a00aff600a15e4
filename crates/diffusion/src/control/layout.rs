//! Reads from tensor names and shapes what a control file holds.

use super::CONTROL_PREFIX;
use super::adapter::AdapterLayout;
use super::hint::{self, HintLayout};
use super::union::UnionLayout;
use crate::checkpoint::{CheckpointHeader, InputBlock, Shapes, UnetConfig};

/// How a control network is stored, as far as its loading differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlKind {
    /// A whole ControlNet.
    Network,
    /// A ControlNet less the weights of the model it was trained with, to be loaded with a chosen model.
    Difference,
    /// Low-rank changes to the weights of the model that it steers.
    LowRank,
    /// A T2I-adapter.
    Adapter,
}

impl ControlKind {
    /// Whether the weights of a model are needed to load it.
    pub fn needs_base(self) -> bool {
        matches!(self, Self::Difference | Self::LowRank)
    }
}

/// What a control file holds.
pub(super) enum ControlLayout {
    Network(NetworkLayout),
    LowRank(LowRankLayout),
    Adapter(AdapterLayout),
}

/// The layout of a ControlNet.
pub(super) struct NetworkLayout {
    pub unet: UnetConfig,
    pub hint: HintLayout,
    pub union: Option<UnionLayout>,
    difference: bool,
}

/// The layout of what a control-LoRA has of its own.
pub(super) struct LowRankLayout {
    hint: HintLayout,
}

impl ControlLayout {
    pub(super) fn read(header: &CheckpointHeader) -> Result<Self, String> {
        let shapes = Shapes { header, prefix: CONTROL_PREFIX };
        if !shapes.has("zero_convs.0.0.weight") {
            return match AdapterLayout::read(header)? {
                Some(layout) => Ok(Self::Adapter(layout)),
                None => Err("there is no ControlNet, control-LoRA or T2I-adapter in it".into()),
            };
        }
        let hint = hint::layout(&shapes)?;
        if shapes.has("lora_controlnet") || header.contains("lora_controlnet") {
            return Ok(Self::LowRank(LowRankLayout { hint }));
        }
        let unet = UnetConfig::descent(header, CONTROL_PREFIX)?;
        if unet.middle.is_empty() {
            return Err(format!("no `{CONTROL_PREFIX}middle_block`"));
        }
        let union = UnionLayout::read(&shapes)?;
        Ok(Self::Network(NetworkLayout { unet, hint, union, difference: header.contains("difference") }))
    }

    pub(super) fn kind(&self) -> ControlKind {
        match self {
            Self::Network(layout) if layout.difference => ControlKind::Difference,
            Self::Network(_) => ControlKind::Network,
            Self::LowRank(_) => ControlKind::LowRank,
            Self::Adapter(_) => ControlKind::Adapter,
        }
    }

    /// Where the network's tensors stand in the file.
    pub(super) fn prefix(&self) -> &'static str {
        match self {
            Self::Network(_) | Self::LowRank(_) => CONTROL_PREFIX,
            Self::Adapter(layout) => layout.prefix,
        }
    }
}

impl LowRankLayout {
    /// The layout that the changes make together with a model.
    pub(super) fn on(self, base: UnetConfig, header: &CheckpointHeader) -> Result<NetworkLayout, String> {
        let shapes = Shapes { header, prefix: CONTROL_PREFIX };
        let widths = base.input_blocks.iter().map(InputBlock::channels);
        let fits = shapes.count(|i| format!("zero_convs.{i}.0.weight")) == base.input_blocks.len()
            && widths.enumerate().all(|(i, width)| {
                shapes
                    .get(&format!("zero_convs.{i}.0.weight"))
                    .is_some_and(|shape| shape.first() == Some(&width))
            });
        if !fits {
            return Err("it is a control-LoRA for another kind of model".into());
        }
        let unet = UnetConfig { out_channels: 0, output_blocks: Vec::new(), ..base };
        Ok(NetworkLayout { unet, hint: self.hint, union: None, difference: false })
    }
}

/// Says how a ControlNet's layout differs from what a UNet needs, if it does.
pub(super) fn difference(control: &UnetConfig, unet: &UnetConfig) -> Option<String> {
    let differ =
        |what: &str, found: &str, expected: &str| Some(format!("{what} {found}, the model's {expected}"));
    let wide = |width: Option<usize>| width.map_or("missing".to_owned(), |width| format!("{width} wide"));
    if control.context_dim != 0 && control.context_dim != unet.context_dim {
        return differ("its text is", &wide(Some(control.context_dim)), &wide(Some(unet.context_dim)));
    }
    if control.adm_channels.is_some() && control.adm_channels != unet.adm_channels {
        return differ("its vector is", &wide(control.adm_channels), &wide(unet.adm_channels));
    }
    // What inpainting models take besides the latent is not shown to control networks.
    if control.in_channels != unet.out_channels {
        return differ(
            "its latent has",
            &format!("{} channels", control.in_channels),
            &format!("{}", unet.out_channels),
        );
    }
    let levels = |config: &UnetConfig| config.input_blocks.iter().map(level).collect::<Vec<_>>();
    let (found, expected) = (levels(control), levels(unet));
    if found != expected {
        let widths =
            |levels: &[(usize, bool)]| format!("{:?}", levels.iter().map(|l| l.0).collect::<Vec<_>>());
        return differ("its blocks have the widths", &widths(&found), &widths(&expected));
    }
    None
}

/// What a block's features look like: their width, and whether they are half as large as those before.
fn level(block: &InputBlock) -> (usize, bool) {
    (block.channels(), matches!(block, InputBlock::Downsample { .. }))
}
