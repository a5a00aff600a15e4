//! `RebatchImages`: a list of batches as a list of batches of another size.

use comfy_graph::{InputSpec, NodeSpec, OutputSpec};
use comfy_stage::{Ctx, Data, FnNode, Inputs, NodeError, Outputs};

use crate::pictures::Pictures;
use crate::state::ImageState;

pub(super) const NODES: &[super::ImageNode] = &[&FnNode { spec: rebatch_spec, run: rebatch }];

fn rebatch_spec() -> NodeSpec {
    let inputs = vec![InputSpec::socket("images", "IMAGE"), InputSpec::int("batch_size", 1, (1, 4096), 1)];
    let spec = NodeSpec::new("RebatchImages", "image/batch", inputs, &[]);
    NodeSpec { input_is_list: true, outputs: vec![OutputSpec::of("IMAGE").list()], ..spec }
        .titled("Rebatch Images")
        .about("Deals pictures out into batches of one size. What follows runs once per batch.")
}

fn rebatch(inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let size: usize = inputs.int_as("batch_size")?;
    let batches =
        inputs.images("images")?.into_iter().map(Pictures::of_image).collect::<Result<Vec<_>, _>>()?;
    let single =
        |batch: &Pictures<'_>, index: usize| (batch.size(), batch.channels, batch.picture(index).to_vec());
    let all: Vec<_> = batches.iter().flat_map(|b| (0..b.batch).map(move |index| single(b, index))).collect();
    let mut dealt = Vec::new();
    for group in all.chunks(size.max(1)) {
        let (first_size, channels, _) = &group[0];
        if group.iter().any(|(size, others, _)| size != first_size || others != channels) {
            return Err(NodeError::invalid("pictures of different sizes cannot be in one batch"));
        }
        let data = group.iter().flat_map(|(_, _, samples)| samples).copied().collect();
        dealt.push(Pictures::new(group.len(), *first_size, *channels, data).into_image()?);
    }
    Ok(Outputs::one(Data::List(dealt)))
}
