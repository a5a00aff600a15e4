//! Reads the sizes of a SwinIR from tensor shapes.

use super::IMAGE_CHANNELS;

/// More groups, blocks or doublings than any network has.
const MAX_COUNT: usize = 64;
/// The networks against JPEG artefacts have windows of this size and see colours in 0..=255.
const JPEG_WINDOW: usize = 7;
const MAX_WINDOW: usize = 64;

/// What stands at the end of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Connection {
    One,
    Three,
}

/// How features become a larger picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Upsampling {
    /// Convolutions whose channels become pixels, step by step.
    Shuffle {
        width: usize,
        steps: Vec<usize>,
    },
    /// The same in one step, right to the picture.
    Direct {
        factor: usize,
    },
    /// Nearest-neighbour doublings with convolutions.
    Nearest {
        width: usize,
        doublings: usize,
    },
    None,
}

impl Upsampling {
    fn factor(&self) -> usize {
        match self {
            Self::Shuffle { steps, .. } => steps.iter().product(),
            Self::Direct { factor } => *factor,
            Self::Nearest { doublings, .. } => 1 << doublings,
            Self::None => 1,
        }
    }

    /// Channels at the size of the result.
    pub(super) fn width(&self) -> usize {
        match self {
            Self::Shuffle { width, .. } | Self::Nearest { width, .. } => *width,
            Self::Direct { .. } | Self::None => IMAGE_CHANNELS,
        }
    }
}

/// Sizes of a network.
#[derive(Debug, Clone)]
pub(in super::super) struct Layout {
    pub(super) dim: usize,
    pub(super) mlp: usize,
    pub(super) window: usize,
    /// Heads of each block of each group.
    pub(super) groups: Vec<Vec<usize>>,
    pub(super) connection: Connection,
    pub(super) upsampling: Upsampling,
    pub(super) norm_before: bool,
    /// Pixels along a side that are folded into channels before the first layer.
    pub(super) fold: usize,
    /// The largest value of a colour inside.
    pub(super) range: f64,
}

impl Layout {
    /// Reads the layout; `None` if this is another architecture.
    pub(in super::super) fn detect<'a>(
        shape: &impl Fn(&str) -> Option<&'a [usize]>,
    ) -> Result<Option<Self>, String> {
        let block = |group: usize, i: usize| format!("layers.{group}.residual_group.blocks.{i}");
        let table = |group, i| shape(&format!("{}.attn.relative_position_bias_table", block(group, i)));
        let Some(&[places, _]) = table(0, 0) else { return Ok(None) };
        let fc1 = shape(&format!("{}.mlp.fc1.weight", block(0, 0)));
        if shape("layers.0.residual_group.overlap_attn.relative_position_bias_table").is_some() {
            return Err("it is a HAT, which is not supported".into());
        }
        if shape("absolute_pos_embed").is_some() {
            return Err("it is a SwinIR with absolute positions, which is not supported".into());
        }
        let folded = shape("conv_first.1.weight");
        let (Some(&[dim, inputs, ..]), Some(&[mlp, _])) = (folded.or(shape("conv_first.weight")), fc1) else {
            return Err("a SwinIR whose `conv_first` or `mlp.fc1` is missing or misshapen".into());
        };
        let fold = if folded.is_some() { (inputs / IMAGE_CHANNELS).isqrt() } else { 1 };
        if fold == 0 || inputs != IMAGE_CHANNELS * fold * fold {
            return Err(format!("a SwinIR with {inputs} input channels, expected those of colour pictures"));
        }
        let span = places.isqrt();
        let window = span.div_ceil(2);
        if span * span != places || span.is_multiple_of(2) || !(2..=MAX_WINDOW).contains(&window) {
            return Err(format!("{places} relative positions are those of no window"));
        }
        let count = |there: &dyn Fn(usize) -> bool| (0..MAX_COUNT).take_while(|&i| there(i)).count();
        let groups = (0..count(&|group| table(group, 0).is_some())).map(|group| {
            let blocks = 0..count(&|i| table(group, i).is_some());
            blocks
                .map(|i| table(group, i).and_then(|shape| shape.get(1)).copied().unwrap_or_default())
                .collect()
        });
        let groups: Vec<Vec<usize>> = groups.collect();
        if groups.iter().flatten().any(|&heads| heads == 0 || !dim.is_multiple_of(heads)) {
            return Err(format!("{dim} channels do not split into the heads of {groups:?}"));
        }
        let one = shape("conv_after_body.weight").is_some();
        let layout = Self {
            dim,
            mlp,
            window,
            groups,
            connection: if one { Connection::One } else { Connection::Three },
            upsampling: upsampling(shape, count)?,
            norm_before: shape("patch_embed.norm.weight").is_some(),
            fold,
            range: if window == JPEG_WINDOW { 255.0 } else { 1.0 },
        };
        if !layout.upsampling.factor().is_multiple_of(fold) {
            let factor = layout.upsampling.factor();
            return Err(format!("a SwinIR that folds by {fold} and enlarges by {factor}"));
        }
        Ok(Some(layout))
    }

    pub(super) fn factor(&self) -> usize {
        self.upsampling.factor() / self.fold
    }
}

fn upsampling<'a>(
    shape: &impl Fn(&str) -> Option<&'a [usize]>,
    count: impl Fn(&dyn Fn(usize) -> bool) -> usize,
) -> Result<Upsampling, String> {
    let outputs = |name: &str| shape(&format!("{name}.weight")).and_then(|shape| shape.first()).copied();
    let root = |outputs: usize, channels: usize| {
        let factor = (outputs / channels.max(1)).isqrt();
        let fits = factor > 1 && factor * factor * channels == outputs;
        fits.then_some(factor).ok_or_else(|| format!("a SwinIR that makes {outputs} channels of {channels}"))
    };
    match (outputs("conv_before_upsample.0"), outputs("upsample.0")) {
        (Some(width), _) if outputs("conv_up1").is_some() => {
            let doublings = count(&|i| outputs(&format!("conv_up{}", i + 1)).is_some());
            Ok(Upsampling::Nearest { width, doublings: doublings.min(8) })
        }
        (Some(width), Some(_)) => {
            let name = |i: usize| format!("upsample.{}", 2 * i);
            let steps = 0..count(&|i| outputs(&name(i)).is_some());
            let steps = steps.map(|i| root(outputs(&name(i)).unwrap_or_default(), width));
            Ok(Upsampling::Shuffle { width, steps: steps.collect::<Result<_, _>>()? })
        }
        (Some(_), None) => Err("a SwinIR without `upsample.0.weight` or `conv_up1.weight`".into()),
        (None, Some(channels)) => Ok(Upsampling::Direct { factor: root(channels, IMAGE_CHANNELS)? }),
        (None, None) => Ok(Upsampling::None),
    }
}
