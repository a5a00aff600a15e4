//! Nodes that change what happens inside of the network.

use super::model_sampling::{patch, spec};
use crate::model_folders::HYPERNETWORKS;
use crate::recipe::LoraUse;
use crate::state::SamplerState;
use comfy_diffusion::HyperTile;
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
