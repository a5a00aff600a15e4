//! Reads the layout of a UNet and an autoencoder from tensor shapes alone.
//!
//! Widths are read per level and depths per block, so distilled, pruned and miniature models load without a table
//! of known sizes. Every function returns a reason when the shapes do not form a network.

use super::header::CheckpointHeader;

/// Channels per group-norm group are counted in 32 groups everywhere in this model line.
pub(crate) const NORM_GROUPS: usize = 32;

/// How attention splits its channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heads {
    /// The same number of heads at every width (SD1: 8).
    Count(usize),
    /// The same width per head, hence more heads in wider blocks (SD2, SDXL: 64).
    Width(usize),
}

impl Heads {
    /// Number of heads in a block of `channels`.
    pub fn count(self, channels: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Width(width) => channels / width,
        }
    }

    /// Says why blocks of `channels` cannot be split.
    fn check(self, channels: usize) -> Result<(), String> {
        let (n, what) = match self {
            Self::Count(n) => (n, format!("{n} attention heads")),
            Self::Width(n) => (n, format!("attention heads that are {n} wide")),
        };
        if channels >= n && channels.is_multiple_of(n) {
            return Ok(());
        }
        Err(format!("{channels} channels do not split into {what}"))
    }
}

/// One residual block and the transformer blocks behind it (`depth` 0: none).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResidualBlock {
    pub in_channels: usize,
    pub out_channels: usize,
    pub depth: usize,
}

/// One entry of the UNet's descending half.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputBlock {
    Stem { channels: usize },
    Downsample { channels: usize },
    Residual(ResidualBlock),
}

impl InputBlock {
    pub(crate) fn channels(&self) -> usize {
        match self {
            Self::Stem { channels } | Self::Downsample { channels } => *channels,
            Self::Residual(block) => block.out_channels,
        }
    }
}

/// One entry of the UNet's ascending half; `in_channels` includes the skip connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputBlock {
    pub residual: ResidualBlock,
    pub upsample: bool,
}

/// Layout of a diffusion UNet with LDM key names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnetConfig {
    pub in_channels: usize,
    pub out_channels: usize,
    /// Width of the stem, which is also the width of the sinusoidal timestep embedding.
    pub model_channels: usize,
    pub time_embed_dim: usize,
    /// Width of the text conditioning.
    pub context_dim: usize,
    /// Width of the vector conditioning, in families that have one.
    pub adm_channels: Option<usize>,
    pub linear_projections: bool,
    pub heads: Heads,
    pub input_blocks: Vec<InputBlock>,
    /// Between the halves: a block with its transformer and one without; distilled models have one or none.
    pub middle: Vec<ResidualBlock>,
    pub output_blocks: Vec<OutputBlock>,
}

/// Layout of an `AutoencoderKL` with LDM key names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaeConfig {
    /// Key prefix: `first_stage_model.` in a checkpoint, empty in a file that holds only the autoencoder.
    pub prefix: String,
    pub latent_channels: usize,
    /// Encoder widths from full resolution down.
    pub encoder_widths: Vec<usize>,
    /// Decoder widths from full resolution down, the reverse of the order they run in.
    pub decoder_widths: Vec<usize>,
    pub encoder_blocks: usize,
    pub decoder_blocks: usize,
    /// Whether 1x1 convolutions stand between the latent and the two halves.
    pub quant_conv: bool,
    pub post_quant_conv: bool,
}

impl VaeConfig {
    /// Image pixels per latent cell along one side.
    pub fn downscale(&self) -> usize {
        1 << (self.decoder_widths.len() - 1)
    }
}

/// Lookup of shapes below a prefix.
pub(crate) struct Shapes<'a> {
    pub(crate) header: &'a CheckpointHeader,
    pub(crate) prefix: &'a str,
}

impl<'a> Shapes<'a> {
    pub(crate) fn get(&self, name: &str) -> Option<&'a [usize]> {
        self.header.shape(&format!("{}{name}", self.prefix))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Shape of a tensor that must be there with the given rank.
    pub(crate) fn need<const RANK: usize>(&self, name: &str) -> Result<[usize; RANK], String> {
        let shape = self.get(name).ok_or_else(|| format!("no `{}{name}`", self.prefix))?;
        shape
            .try_into()
            .map_err(|_| format!("`{}{name}` has shape {shape:?}, expected rank {RANK}", self.prefix))
    }

    pub(crate) fn count(&self, name: impl Fn(usize) -> String) -> usize {
        (0..).take_while(|&i| self.has(&name(i))).count()
    }
}

impl UnetConfig {
    /// Key prefix of the diffusion model in a single-file checkpoint.
    pub const PREFIX: &'static str = "model.diffusion_model.";

    /// Reads the layout of the diffusion model in `header`.
    pub fn from_header(header: &CheckpointHeader) -> Result<Self, String> {
        let shapes = Shapes { header, prefix: Self::PREFIX };
        let (mut config, mut transformers) = Self::read_descent(&shapes)?;
        [config.out_channels, ..] = shapes.need::<4>("out.2.weight")?;
        while shapes.has(&format!("output_blocks.{}.0.in_layers.2.weight", config.output_blocks.len())) {
            let name = format!("output_blocks.{}", config.output_blocks.len());
            let residual = transformers.residual(&shapes, &name)?;
            let place = if residual.depth > 0 { 2 } else { 1 };
            let upsample = shapes.has(&format!("{name}.{place}.conv.weight"));
            config.output_blocks.push(OutputBlock { residual, upsample });
        }
        config.set_transformers(&transformers);
        if config.context_dim == 0 {
            return Err("no cross-attention, so it takes no text conditioning".into());
        }
        config.check()?;
        Ok(config)
    }

    /// Reads the layout of a network below `prefix` that has only the descending half and the middle.
    ///
    /// Without transformers its `context_dim` is 0.
    pub(crate) fn descent(header: &CheckpointHeader, prefix: &str) -> Result<Self, String> {
        let (config, _) = Self::read_descent(&Shapes { header, prefix })?;
        config.check_descent()?;
        Ok(config)
    }

    fn read_descent(shapes: &Shapes<'_>) -> Result<(Self, Transformers), String> {
        let [model_channels, in_channels, ..] = shapes.need::<4>("input_blocks.0.0.weight")?;
        let [time_embed_dim, _] = shapes.need::<2>("time_embed.0.weight")?;
        let mut transformers = Transformers::default();
        let mut input_blocks = vec![InputBlock::Stem { channels: model_channels }];
        for i in 1.. {
            let name = format!("input_blocks.{i}");
            if shapes.has(&format!("{name}.0.op.weight")) {
                let [channels, ..] = shapes.need::<4>(&format!("{name}.0.op.weight"))?;
                input_blocks.push(InputBlock::Downsample { channels });
            } else if shapes.has(&format!("{name}.0.in_layers.2.weight")) {
                input_blocks.push(InputBlock::Residual(transformers.residual(shapes, &name)?));
            } else {
                break;
            }
        }
        let middle = transformers.middle(shapes)?;
        let label = "label_emb.0.0.weight";
        let adm_channels = if shapes.has(label) { Some(shapes.need::<2>(label)?[1]) } else { None };
        let mut config = Self {
            in_channels,
            out_channels: 0,
            model_channels,
            time_embed_dim,
            context_dim: 0,
            adm_channels,
            linear_projections: false,
            heads: Heads::Count(8),
            input_blocks,
            middle,
            output_blocks: Vec::new(),
        };
        config.set_transformers(&transformers);
        Ok((config, transformers))
    }

    fn set_transformers(&mut self, found: &Transformers) {
        self.context_dim = found.context_dim.unwrap_or_default();
        self.linear_projections = found.linear == Some(true);
        self.heads = if self.linear_projections { Heads::Width(64) } else { Heads::Count(8) };
    }

    /// Checks what tensor shapes alone do not: that blocks fit on each other and widths can be divided.
    fn check(&self) -> Result<(), String> {
        if self.input_blocks.len() != self.output_blocks.len() {
            let (down, up) = (self.input_blocks.len(), self.output_blocks.len());
            return Err(format!("{down} input blocks do not pair with {up} output blocks"));
        }
        let mut channels = self.check_descent()?;
        for (block, skip) in self.output_blocks.iter().zip(self.input_blocks.iter().rev()) {
            self.check_residual(&block.residual, channels + skip.channels())?;
            channels = block.residual.out_channels;
        }
        let downs =
            self.input_blocks.iter().filter(|block| matches!(block, InputBlock::Downsample { .. })).count();
        let ups = self.output_blocks.iter().filter(|block| block.upsample).count();
        if downs != ups {
            return Err(format!("{downs} downsampling steps do not pair with {ups} upsampling steps"));
        }
        Ok(())
    }

    /// Checks the half that every network has and returns its last width.
    fn check_descent(&self) -> Result<usize, String> {
        check_width(self.model_channels)?;
        let mut channels = self.model_channels;
        for block in &self.input_blocks {
            if let InputBlock::Residual(residual) = block {
                self.check_residual(residual, channels)?;
            } else if block.channels() != channels {
                return Err(format!(
                    "a downsampling block has {} channels, not {channels}",
                    block.channels()
                ));
            }
            channels = block.channels();
        }
        for block in &self.middle {
            self.check_residual(block, channels)?;
            channels = block.out_channels;
        }
        Ok(channels)
    }

    fn check_residual(&self, block: &ResidualBlock, in_channels: usize) -> Result<(), String> {
        if block.in_channels != in_channels {
            return Err(format!("a block takes {} channels but is given {in_channels}", block.in_channels));
        }
        check_width(block.in_channels)?;
        check_width(block.out_channels)?;
        if block.depth > 0 { self.heads.check(block.out_channels) } else { Ok(()) }
    }
}

fn check_width(channels: usize) -> Result<(), String> {
    if channels == 0 || !channels.is_multiple_of(NORM_GROUPS) {
        return Err(format!("{channels} channels do not split into {NORM_GROUPS} groups"));
    }
    Ok(())
}

/// What all transformer blocks of one UNet share.
#[derive(Default)]
struct Transformers {
    context_dim: Option<usize>,
    linear: Option<bool>,
}

impl Transformers {
    fn middle(&mut self, shapes: &Shapes<'_>) -> Result<Vec<ResidualBlock>, String> {
        let name = "middle_block";
        if !shapes.has(&format!("{name}.0.in_layers.2.weight")) {
            return Ok(Vec::new());
        }
        let first = self.residual(shapes, name)?;
        let second = if first.depth > 0 { 2 } else { 1 };
        if first.depth == 0 && !shapes.has(&format!("{name}.{second}.in_layers.2.weight")) {
            return Ok(vec![first]);
        }
        let second = residual_at(shapes, &format!("{name}.{second}"))?;
        Ok(vec![first, second])
    }

    fn residual(&mut self, shapes: &Shapes<'_>, name: &str) -> Result<ResidualBlock, String> {
        let block = residual_at(shapes, &format!("{name}.0"))?;
        let blocks = format!("{name}.1.transformer_blocks");
        let depth = shapes.count(|i| format!("{blocks}.{i}.attn2.to_k.weight"));
        if depth > 0 {
            let [_, context] = shapes.need::<2>(&format!("{blocks}.0.attn2.to_k.weight"))?;
            let linear = shapes.get(&format!("{name}.1.proj_in.weight")).map(|shape| shape.len() == 2);
            let same = self.context_dim.is_none_or(|known| known == context)
                && self.linear.is_none_or(|known| Some(known) == linear);
            if !same {
                return Err(format!("`{blocks}` differs in kind from the blocks before it"));
            }
            self.context_dim = Some(context);
            self.linear = linear;
        }
        Ok(ResidualBlock { depth, ..block })
    }
}

/// Reads the shape of a residual block, without what may stand behind it.
fn residual_at(shapes: &Shapes<'_>, name: &str) -> Result<ResidualBlock, String> {
    let [_, in_channels, ..] = shapes.need::<4>(&format!("{name}.in_layers.2.weight"))?;
    let [out_channels, ..] = shapes.need::<4>(&format!("{name}.out_layers.3.weight"))?;
    Ok(ResidualBlock { in_channels, out_channels, depth: 0 })
}

impl VaeConfig {
    /// Reads the layout of the autoencoder in `header`, with or without the checkpoint prefix.
    pub fn from_header(header: &CheckpointHeader) -> Result<Self, String> {
        let prefix = if header.contains("decoder.conv_in.weight") { "" } else { "first_stage_model." };
        let shapes = Shapes { header, prefix };
        let [_, latent_channels, ..] = shapes.need::<4>("decoder.conv_in.weight")?;
        let config = Self {
            prefix: prefix.into(),
            latent_channels,
            encoder_widths: widths(&shapes, "encoder.down")?,
            decoder_widths: widths(&shapes, "decoder.up")?,
            encoder_blocks: shapes.count(|i| format!("encoder.down.0.block.{i}.conv2.weight")),
            decoder_blocks: shapes.count(|i| format!("decoder.up.0.block.{i}.conv2.weight")),
            quant_conv: shapes.has("quant_conv.weight"),
            post_quant_conv: shapes.has("post_quant_conv.weight"),
        };
        if config.encoder_widths.len() != config.decoder_widths.len() {
            return Err("encoder and decoder have different numbers of levels".into());
        }
        Ok(config)
    }
}

fn widths(shapes: &Shapes<'_>, side: &str) -> Result<Vec<usize>, String> {
    let level = |i: usize| format!("{side}.{i}.block.0.conv2.weight");
    let count = shapes.count(level);
    if count == 0 {
        return Err(format!("no `{}{}`", shapes.prefix, level(0)));
    }
    if count > 8 {
        return Err(format!("`{side}` has {count} levels, at most 8 are supported"));
    }
    let width = |i| {
        let [channels, ..] = shapes.need::<4>(&level(i))?;
        check_width(channels)?;
        Ok(channels)
    };
    (0..count).map(width).collect()
}
