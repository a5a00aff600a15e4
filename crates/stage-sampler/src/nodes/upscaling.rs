//! Enlarging pictures with a network.

use super::loaders::PartLoader;
use crate::memory;
use crate::model_folders::UPSCALERS;
use crate::recipe::Part;
use crate::state::SamplerState;
use crate::{error, tensors};
use candle_core::Tensor;
use comfy_artifacts::HostTensor;
use comfy_diffusion::tiles::{Tile, TilePlan};
use comfy_diffusion::upscale::Upscaler;
use comfy_graph::{InputSpec, NodeSpec, OutputSpec};
use comfy_stage::{Ctx, Data, Inputs, Node, NodeError, Outputs};

const TILE_PX: usize = 512;
const OVERLAP_PX: usize = 32;
/// Feature maps at the size of the result that are alive at once.
const COPIES_ALIVE: usize = 4;

pub(super) static UPSCALE_MODEL_LOADER: PartLoader = PartLoader {
    class: "UpscaleModelLoader",
    display_name: "Load Upscale Model",
    description: "Opens a network that enlarges pictures: ESRGAN, Real-ESRGAN, BSRGAN, Compact or SwinIR.",
    input: "model_name",
    tooltip: "A file in models/upscale_models.",
    folder: UPSCALERS,
    output: "UPSCALE_MODEL",
    part: Part::Upscaler,
};

pub(super) struct ImageUpscaleWithModel;

impl Node<SamplerState> for ImageUpscaleWithModel {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "ImageUpscaleWithModel".into(),
            display_name: "Upscale Image (using Model)".into(),
            description:
                "Enlarges pictures with a network, tile by tile, by the factor the network is made for."
                    .into(),
            category: "image/upscaling".into(),
            version: 1,
            inputs: vec![
                InputSpec::socket("upscale_model", "UPSCALE_MODEL"),
                InputSpec::socket("image", "IMAGE"),
            ],
            outputs: vec![OutputSpec::of("IMAGE")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let upscaler = ctx.state.upscaler(inputs.recipe("upscale_model")?)?;
        let image = inputs.image("image")?;
        let &[batch, height, width, channels] = image.shape() else {
            return Err(NodeError::invalid(format!("an image has 4 dimensions, got {:?}", image.shape())));
        };
        if channels < 3 {
            return Err(NodeError::invalid(format!(
                "the image has {channels} channels, an upscaler takes 3"
            )));
        }
        let plan = TilePlan { width, height, tile_width: TILE_PX, tile_height: TILE_PX, overlap: OVERLAP_PX };
        let factor = upscaler.factor();
        require_memory(&upscaler, &plan, batch)?;
        let planes = tensors::to_device(image, upscaler.device())?
            .narrow(3, 0, 3)
            .and_then(|t| t.permute((0, 3, 1, 2)))
            .map_err(error::tensor)?;
        let tiles = plan.tiles();
        let total = (batch * tiles.len()) as u64;
        let mut enlarged = Vec::with_capacity(batch);
        for i in 0..batch {
            let one = planes.narrow(0, i, 1).map_err(error::tensor)?;
            let mut parts = Vec::with_capacity(tiles.len());
            for (j, &tile) in tiles.iter().enumerate() {
                ctx.check_cancelled()?;
                parts.push((tile, run_tile(&upscaler, &one, tile)?));
                ctx.progress((i * tiles.len() + j) as u64 + 1, total);
            }
            let values = plan.blend(parts.into_iter(), 3, factor);
            let picture =
                Tensor::from_vec(values, (1, 3, height * factor, width * factor), &candle_core::Device::Cpu);
            enlarged.push(picture.map_err(error::tensor)?);
        }
        let result = Tensor::cat(&enlarged, 0)
            .and_then(|t| t.permute((0, 2, 3, 1)))
            .and_then(|t| t.contiguous())
            .and_then(|t| t.clamp(0f32, 1f32))
            .map_err(error::tensor)?;
        Ok(Outputs::one(Data::Image(tensors::to_host(&result)?)))
    }
}

fn run_tile(upscaler: &Upscaler, picture: &Tensor, tile: Tile) -> Result<Vec<f32>, NodeError> {
    let cut = picture
        .narrow(2, tile.y, tile.height)
        .and_then(|t| t.narrow(3, tile.x, tile.width))
        .and_then(|t| t.contiguous())
        .map_err(error::tensor)?;
    let enlarged: HostTensor = tensors::to_host(&upscaler.forward(&cut).map_err(error::engine)?)?;
    Ok(enlarged.data().to_vec())
}

fn require_memory(upscaler: &Upscaler, plan: &TilePlan, batch: usize) -> Result<(), NodeError> {
    let area = |width: usize, height: usize| width * height * upscaler.factor().pow(2);
    let tile = area(plan.width.min(TILE_PX), plan.height.min(TILE_PX));
    let network = memory::activations(tile, upscaler.channels(), COPIES_ALIVE);
    let results = memory::activations(area(plan.width, plan.height).saturating_mul(batch), 3, 3);
    memory::require("enlarging this picture", network.saturating_add(results))
}
