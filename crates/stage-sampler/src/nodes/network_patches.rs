//! Nodes that change what happens inside of the network.

use super::model_sampling::{patch, spec};
use crate::error;
use crate::model_folders::HYPERNETWORKS;
use crate::model_patches::DeepShrinkPatch;
use crate::recipe::LoraUse;
use crate::state::SamplerState;
use comfy_diffusion::sampling::ResizeMethod;
use comfy_diffusion::{DeepShrink, HyperTile};
use comfy_graph::{InputSpec, NodeSpec};
use comfy_stage::{Ctx, Inputs, Node, NodeError, Outputs};

pub(super) struct HyperTileNode;

impl Node<SamplerState> for HyperTileNode {
    fn spec(&self) -> NodeSpec {
        let inputs = vec![
            InputSpec::int("tile_size", 256, (1, 2048), 1).tooltip("Smallest side of a tile, in pixels."),
            InputSpec::int("swap_size", 2, (1, 128), 1)
                .tooltip("Of how many sizes one is chosen for each layer, so that seams do not add up."),
            InputSpec::int("max_depth", 0, (0, 10), 1)
                .tooltip("How many levels of the network to tile below the first."),
            InputSpec::boolean("scale_depth", false).tooltip("Makes the tiles of deeper levels larger."),
        ];
        let description = "Lets each part of a large picture look at part of it only, which is faster.";
        spec("HyperTile", "HyperTile", "model_patches/unet", description, inputs)
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let hyper_tile = HyperTile {
            tile_size: inputs.int_as("tile_size")?,
            swap_size: inputs.int_as("swap_size")?,
            max_depth: inputs.int_as("max_depth")?,
            scale_depth: inputs.boolean("scale_depth")?,
        };
        patch(inputs, |patches| patches.hyper_tile = Some(hyper_tile))
    }
}

pub(super) struct PatchModelAddDownscale;

impl Node<SamplerState> for PatchModelAddDownscale {
    fn spec(&self) -> NodeSpec {
        // The order in which ComfyUI offers them; the first one is the default.
        const METHODS: [&str; 5] = ["bicubic", "nearest-exact", "bilinear", "area", "bislerp"];
        let share = |name, default| InputSpec::float(name, default, (0.0, 1.0), 0.001, None);
        let inputs = vec![
            InputSpec::int("block_number", 3, (1, 32), 1)
                .tooltip("Below which block of the descending half of the network to shrink."),
            InputSpec::float("downscale_factor", 2.0, (0.1, 9.0), 0.001, None)
                .tooltip("What the sides are divided by."),
            share("start_percent", 0.0).tooltip("Share of the run at which this begins to count."),
            share("end_percent", 0.35).tooltip("Share of the run at which this ends to count."),
            InputSpec::boolean("downscale_after_skip", true)
                .tooltip("Keeps the size of what the block hands over to the ascending half."),
            InputSpec::combo("downscale_method", &METHODS).tooltip("How to shrink."),
            InputSpec::combo("upscale_method", &METHODS).tooltip("How to come back to the size before."),
        ];
        let (class, name) = ("PatchModelAddDownscale", "PatchModelAddDownscale (Kohya Deep Shrink)");
        let description = "Shrinks what the inner levels of the network see at the beginning of a run, so that large pictures are laid out like the ones it was trained on. Control networks do not reach what is shrunk.";
        spec(class, name, "model_patches/unet", description, inputs)
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let method =
            |name| -> Result<ResizeMethod, NodeError> { inputs.text(name)?.parse().map_err(error::sampling) };
        let shrink = DeepShrink {
            block: inputs.int_as("block_number")?,
            factor: inputs.float("downscale_factor")?,
            after_skip: inputs.boolean("downscale_after_skip")?,
            down: method("downscale_method")?,
            up: method("upscale_method")?,
        };
        let (start_percent, end_percent) = (inputs.float("start_percent")?, inputs.float("end_percent")?);
        let part = DeepShrinkPatch { shrink, start_percent, end_percent };
        patch(inputs, |patches| patches.deep_shrink.push(part))
    }
}

pub(super) struct HypernetworkLoader;

impl Node<SamplerState> for HypernetworkLoader {
    fn spec(&self) -> NodeSpec {
        let inputs = vec![
            InputSpec::file("hypernetwork_name", HYPERNETWORKS).tooltip("A file in models/hypernetworks."),
            InputSpec::float("strength", 1.0, (-10.0, 10.0), 0.01, None)
                .tooltip("How much of the change to apply."),
        ];
        let description = "Changes what the attention of a model looks at by a small network.";
        spec("HypernetworkLoader", "HypernetworkLoader", "loaders", description, inputs)
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let (file, strength) = (inputs.text("hypernetwork_name")?, inputs.float("strength")?);
        let fingerprint = ctx.state.files.find(HYPERNETWORKS, file, &|| ctx.check_cancelled())?.fingerprint;
        let used = LoraUse { file: file.into(), fingerprint, strength };
        patch(inputs, |patches| patches.hypernetworks.push(used))
    }
}
