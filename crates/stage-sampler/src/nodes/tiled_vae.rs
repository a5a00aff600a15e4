//! Between latents and pictures tile by tile, for pictures that do not fit memory as a whole.

use crate::state::SamplerState;
use crate::{error, memory, tensors};
use candle_core::{Device, Tensor};
use comfy_diffusion::tiles::TilePlan;
use comfy_diffusion::vae::Vae;
use comfy_graph::{InputSpec, NodeSpec, OutputSpec};
use comfy_stage::{Ctx, Data, Inputs, Latent, Node, NodeError, Outputs};

/// Feature maps of the autoencoder's widest full-size layer that are alive at once, measured in channels.
const FULL_SIZE_CHANNELS: usize = 256;
const COPIES_ALIVE: usize = 4;
/// The result in each of three cuts, their tiles and the sum.
const RESULT_COPIES: usize = 6;

/// Working memory of the autoencoder on a picture of so many pixels.
pub(super) fn activations(pixels: usize) -> u64 {
    memory::activations(pixels, FULL_SIZE_CHANNELS, COPIES_ALIVE)
}

/// Sides of the tiles and how much neighbours share, in pixels of the picture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tiling {
    pub tile: usize,
    pub overlap: usize,
}

impl Tiling {
    /// What ComfyUI takes when a picture does not fit memory.
    pub(super) const TO_DECODE: Self = Self { tile: 512, overlap: 128 };
    pub(super) const TO_ENCODE: Self = Self { tile: 512, overlap: 64 };

    fn of(inputs: &Inputs) -> Result<Self, NodeError> {
        Ok(Self { tile: inputs.int_as("tile_size")?, overlap: inputs.int_as("overlap")? })
    }

    /// Lets tiles share a quarter at most, as the decoding node does.
    fn at_most_a_quarter(self) -> Self {
        Self { overlap: if self.tile < self.overlap * 4 { self.tile / 4 } else { self.overlap }, ..self }
    }

    /// The three cuts of a latent of `width` by `height` cells that are `step` pixels wide.
    fn plans(self, size: [usize; 2], step: usize) -> Result<[TilePlan; 3], NodeError> {
        TilePlan::three_ways(size, self.tile / step, self.overlap / step).map_err(|_| {
            let Self { tile, overlap } = self;
            NodeError::invalid(format!(
                "`overlap` is {overlap} pixels, expected less than half of `tile_size`, which is {tile}"
            ))
        })
    }
}

/// Decodes one latent `[1,C,h,w]` to `[1,3,H,W]` on the host; `before_tile` is asked before every tile.
pub(super) fn decode(
    vae: &Vae,
    latent: &Tensor,
    tiling: Tiling,
    before_tile: &mut dyn FnMut() -> Result<(), NodeError>,
) -> Result<Tensor, NodeError> {
    let (_, _, height, width) = latent.dims4().map_err(error::tensor)?;
    let step = vae.downscale();
    let mut make = |part: &Tensor| {
        before_tile()?;
        vae.decode(part).map_err(error::engine)
    };
    let job = Job { size: [width, height], cut: 1, channels: 3, grow: step, step };
    job.run(latent, tiling, &mut make)
}

/// Encodes one picture `[1,3,H,W]` to `[1,C,h,w]` on the host; `before_tile` is asked before every tile.
pub(super) fn encode(
    vae: &Vae,
    image: &Tensor,
    tiling: Tiling,
    before_tile: &mut dyn FnMut() -> Result<(), NodeError>,
) -> Result<Tensor, NodeError> {
    let (_, _, height, width) = image.dims4().map_err(error::tensor)?;
    let step = vae.downscale();
    let mut make = |part: &Tensor| {
        before_tile()?;
        vae.encode(part).map_err(error::engine)
    };
    let size = [width / step, height / step];
    Job { size, cut: step, channels: vae.latent_channels(), grow: 1, step }.run(image, tiling, &mut make)
}

/// A picture or a latent to run in tiles. Everything is counted in latent cells.
struct Job {
    /// Width and height.
    size: [usize; 2],
    /// Input values per cell along one side.
    cut: usize,
    /// Channels of the result.
    channels: usize,
    /// Values of the result per cell along one side.
    grow: usize,
    /// Pixels of the picture per cell along one side.
    step: usize,
}

impl Job {
    fn run(
        &self,
        input: &Tensor,
        tiling: Tiling,
        make: &mut dyn FnMut(&Tensor) -> Result<Tensor, NodeError>,
    ) -> Result<Tensor, NodeError> {
        let [width, height] = self.size;
        let plans = tiling.plans(self.size, self.step)?;
        let count = width.saturating_mul(height).saturating_mul(self.grow.pow(2));
        let results = memory::activations(count, self.channels, RESULT_COPIES);
        let largest =
            plans.iter().map(|plan| plan.tile_width.min(width) * plan.tile_height.min(height)).max();
        let pixels = largest.unwrap_or_default().saturating_mul(self.step.pow(2));
        memory::require("a tile of this size", activations(pixels).saturating_add(results))?;
        let mut sum = vec![0f32; count * self.channels];
        for plan in &plans {
            let values = plan.run(self.channels, self.grow, |tile| {
                let part = input
                    .narrow(2, tile.y * self.cut, tile.height * self.cut)
                    .and_then(|t| t.narrow(3, tile.x * self.cut, tile.width * self.cut))
                    .and_then(|t| t.contiguous())
                    .map_err(error::tensor)?;
                Ok::<_, NodeError>(tensors::to_host(&make(&part)?)?.data().to_vec())
            })?;
            sum.iter_mut().zip(&values).for_each(|(sum, value)| *sum += value);
        }
        sum.iter_mut().for_each(|value| *value /= plans.len() as f32);
        let shape = (1, self.channels, height * self.grow, width * self.grow);
        Tensor::from_vec(sum, shape, &Device::Cpu).map_err(error::tensor)
    }
}

/// Runs a batch one by one and counts tiles: `tiles` is how many each of them has.
fn batch(
    batch: &Tensor,
    tiles: usize,
    ctx: &Ctx<'_, SamplerState>,
    mut each: impl FnMut(&Tensor, &mut dyn FnMut() -> Result<(), NodeError>) -> Result<Tensor, NodeError>,
) -> Result<Tensor, NodeError> {
    let count = batch.dim(0).map_err(error::tensor)?;
    let (mut started, total) = (0u64, (count * tiles) as u64);
    let mut done = Vec::with_capacity(count);
    for i in 0..count {
        let one = batch.narrow(0, i, 1).and_then(|t| t.contiguous()).map_err(error::tensor)?;
        done.push(each(&one, &mut || {
            if started > 0 {
                ctx.progress(started, total);
            }
            started += 1;
            ctx.check_cancelled()
        })?);
    }
    ctx.progress(total, total);
    Tensor::cat(&done, 0).map_err(error::tensor)
}

fn count_tiles(plans: &[TilePlan; 3]) -> usize {
    plans.iter().map(|plan| plan.tiles().len()).sum()
}

fn tile_inputs(tile_step: i128, side: &str) -> Vec<InputSpec> {
    let frames = |name: &str, default, least| {
        InputSpec::int(name, default, (least, 4096), 4).tooltip("For films only; pictures ignore it.")
    };
    vec![
        InputSpec::int("tile_size", 512, (64, 4096), tile_step)
            .tooltip(&format!("Side of a tile in pixels: smaller ones {side} in less memory.")),
        InputSpec::int("overlap", 64, (0, 4096), 32).tooltip("Pixels that neighbouring tiles share."),
        frames("temporal_size", 64, 8),
        frames("temporal_overlap", 8, 4),
    ]
}

fn spec(class: &str, name: &str, description: &str, inputs: Vec<InputSpec>, output: &str) -> NodeSpec {
    NodeSpec {
        class: class.into(),
        display_name: name.into(),
        description: description.into(),
        category: "_for_testing".into(),
        version: 1,
        inputs,
        outputs: vec![OutputSpec::of(output)],
        ..NodeSpec::default()
    }
}

pub(super) struct VaeDecodeTiled;

impl Node<SamplerState> for VaeDecodeTiled {
    fn spec(&self) -> NodeSpec {
        let mut inputs = vec![InputSpec::socket("samples", "LATENT"), InputSpec::socket("vae", "VAE")];
        inputs.extend(tile_inputs(32, "are decoded"));
        let description = "Turns latents into pictures tile by tile, in less memory than at once.";
        spec("VAEDecodeTiled", "VAE Decode (Tiled)", description, inputs, "IMAGE")
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let vae = ctx.state.vae(inputs.recipe("vae")?)?;
        let samples = tensors::to_device(&inputs.latent("samples")?.samples, &ctx.state.device)?;
        let &[_, _, height, width] = samples.dims() else {
            let shape = samples.dims();
            return Err(NodeError::invalid(format!("a latent has 4 dimensions, got {shape:?}")));
        };
        let tiling = Tiling::of(inputs)?.at_most_a_quarter();
        let tiles = count_tiles(&tiling.plans([width, height], vae.downscale())?);
        let decoded = batch(&samples, tiles, ctx, |one, before_tile| decode(&vae, one, tiling, before_tile))?;
        Ok(Outputs::one(Data::Image(tensors::decoded_to_image(&decoded)?)))
    }
}

pub(super) struct VaeEncodeTiled;

impl Node<SamplerState> for VaeEncodeTiled {
    fn spec(&self) -> NodeSpec {
        let mut inputs = vec![InputSpec::socket("pixels", "IMAGE"), InputSpec::socket("vae", "VAE")];
        inputs.extend(tile_inputs(64, "are encoded"));
        let description = "Turns pictures into latents tile by tile, in less memory than at once.";
        spec("VAEEncodeTiled", "VAE Encode (Tiled)", description, inputs, "LATENT")
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let vae = ctx.state.vae(inputs.recipe("vae")?)?;
        let step = vae.downscale();
        let image = tensors::image_to_encoder(inputs.image("pixels")?, step, &ctx.state.device)?;
        let (_, _, height, width) = image.dims4().map_err(error::tensor)?;
        let tiling = Tiling::of(inputs)?;
        let tiles = count_tiles(&tiling.plans([width / step, height / step], step)?);
        let encoded = batch(&image, tiles, ctx, |one, before_tile| encode(&vae, one, tiling, before_tile))?;
        Ok(Outputs::one(Data::Latent(Latent::new(tensors::to_host(&encoded)?))))
    }
}
