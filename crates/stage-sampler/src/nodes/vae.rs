//! Between latents and pictures.

use super::tiled_vae::{self, Tiling};
use crate::state::SamplerState;
use crate::{error, memory, tensors};
use candle_core::Tensor;
use comfy_artifacts::HostTensor;
use comfy_diffusion::vae::Vae;
use comfy_graph::{InputSpec, NodeSpec, OutputSpec};
use comfy_stage::{Ctx, Data, Inputs, Latent, Node, NodeError, Outputs};

pub(super) struct VaeDecode;

impl Node<SamplerState> for VaeDecode {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "VAEDecode".into(),
            display_name: "VAE Decode".into(),
            description: "Turns latents into pictures.".into(),
            category: "latent".into(),
            version: 1,
            inputs: vec![
                InputSpec::socket("samples", "LATENT").tooltip("The latents to decode."),
                InputSpec::socket("vae", "VAE").tooltip("The autoencoder that goes with the model."),
            ],
            outputs: vec![OutputSpec::of("IMAGE")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let vae = ctx.state.vae(inputs.recipe("vae")?)?;
        let samples = tensors::to_device(&inputs.latent("samples")?.samples, &ctx.state.device)?;
        let decode = |one: &Tensor| {
            let cells = one.dims().iter().skip(2).product::<usize>();
            let needed = tiled_vae::activations(cells.saturating_mul(vae.downscale().pow(2)));
            if memory::fits(needed) {
                return vae.decode(one).map_err(error::engine);
            }
            tracing::warn!(node = ctx.node_id, "decoding in tiles, because the whole does not fit memory");
            tiled_vae::decode(&vae, one, Tiling::TO_DECODE, &mut || ctx.check_cancelled())
        };
        let decoded = one_by_one(&samples, ctx, decode)?;
        Ok(Outputs::one(Data::Image(tensors::decoded_to_image(&decoded)?)))
    }
}

pub(super) struct VaeEncode;

impl Node<SamplerState> for VaeEncode {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "VAEEncode".into(),
            display_name: "VAE Encode".into(),
            description: "Turns pictures into latents, to draw on from them.".into(),
            category: "latent".into(),
            version: 1,
            inputs: vec![InputSpec::socket("pixels", "IMAGE"), InputSpec::socket("vae", "VAE")],
            outputs: vec![OutputSpec::of("LATENT")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
        let vae = ctx.state.vae(inputs.recipe("vae")?)?;
        Ok(Outputs::one(Data::Latent(Latent::new(encode(&vae, inputs.image("pixels")?, ctx)?))))
    }
}

/// Encodes an IMAGE, losing the pixels at its rim that do not fill a latent cell.
pub(super) fn encode(
    vae: &Vae,
    image: &HostTensor,
    ctx: &Ctx<'_, SamplerState>,
) -> Result<HostTensor, NodeError> {
    let image = tensors::image_to_encoder(image, vae.downscale(), &ctx.state.device)?;
    let encode = |one: &Tensor| {
        if memory::fits(tiled_vae::activations(one.dims().iter().skip(2).product())) {
            return vae.encode(one).map_err(error::engine);
        }
        tracing::warn!(node = ctx.node_id, "encoding in tiles, because the whole does not fit memory");
        tiled_vae::encode(vae, one, Tiling::TO_ENCODE, &mut || ctx.check_cancelled())
    };
    tensors::to_host(&one_by_one(&image, ctx, encode)?)
}

/// Works through a batch picture by picture: the working memory stays that of one, and a cancelled job ends soon.
fn one_by_one(
    batch: &Tensor,
    ctx: &Ctx<'_, SamplerState>,
    each: impl Fn(&Tensor) -> Result<Tensor, NodeError>,
) -> Result<Tensor, NodeError> {
    let count = batch.dim(0).map_err(error::tensor)?;
    let mut done = Vec::with_capacity(count);
    for i in 0..count {
        ctx.check_cancelled()?;
        let one = batch.narrow(0, i, 1).and_then(|t| t.contiguous()).map_err(error::tensor)?;
        done.push(each(&one)?);
        if count > 1 {
            ctx.progress(i as u64 + 1, count as u64);
        }
    }
    Tensor::cat(&done, 0).map_err(error::tensor)
}
