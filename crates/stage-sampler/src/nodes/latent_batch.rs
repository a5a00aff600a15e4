//! Nodes that change which latents are in a batch.

use super::latent_planes::{Planes, items};
use crate::memory;
use crate::state::SamplerState;
use comfy_artifacts::HostTensor;
use comfy_diffusion::sampling::ResizeMethod;
use comfy_graph::{InputSpec, NodeSpec};
use comfy_stage::{Ctx, Data, FnNode, Inputs, Latent, Node, NodeError, Outputs};

pub(super) const NODES: &[&dyn Node<SamplerState>] = &[
    &FnNode { spec: from_batch_spec, run: from_batch },
    &FnNode { spec: repeat_spec, run: repeat },
    &FnNode { spec: batch_spec, run: batch },
    &FnNode { spec: seed_behavior_spec, run: seed_behavior },
];

fn from_batch_spec() -> NodeSpec {
    let inputs = vec![
        InputSpec::socket("samples", "LATENT"),
        InputSpec::int("batch_index", 0, (0, 63), 1)
            .tooltip("The first latent that is taken; 0 is the first."),
        InputSpec::int("length", 1, (1, 64), 1).tooltip("How many are taken, as far as there are any."),
    ];
    NodeSpec::new("LatentFromBatch", "latent/batch", inputs, &["LATENT"])
        .titled("Latent From Batch")
        .about("Takes latents out of a batch. They keep the noise that they would have had in it.")
}

fn from_batch(inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
    let latent = inputs.latent("samples")?;
    let batch = Planes::of(&latent.samples)?.batch;
    let first = inputs.int_as::<usize>("batch_index")?.min(batch - 1);
    let count = inputs.int_as::<usize>("length")?.min(batch - first);
    let noise_mask = match &latent.noise_mask {
        Some(mask) if mask.shape()[0] > 1 => Some(items(mask, first, count)?),
        mask => mask.clone(),
    };
    let places = (first..first + count).map(|place| match &latent.batch_index {
        Some(index) => index.get(place).copied().unwrap_or(place as u64),
        None => place as u64,
    });
    let batch_index = Some(places.collect());
    let samples = items(&latent.samples, first, count)?;
    Ok(Outputs::one(Data::Latent(Latent { samples, noise_mask, batch_index })))
}

fn repeat_spec() -> NodeSpec {
    let inputs = vec![InputSpec::socket("samples", "LATENT"), InputSpec::int("amount", 1, (1, 64), 1)];
    NodeSpec::new("RepeatLatentBatch", "latent/batch", inputs, &["LATENT"])
        .titled("Repeat Latent Batch")
        .about("Repeats a batch of latents as a whole.")
}

fn repeat(inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
    let latent = inputs.latent("samples")?;
    let amount: usize = inputs.int_as("amount")?;
    let batch = Planes::of(&latent.samples)?.batch;
    let samples = repeated(&latent.samples, batch * amount)?;
    let noise_mask = match &latent.noise_mask {
        Some(mask) if mask.shape()[0] > 1 => Some(repeated(&items(mask, 0, batch)?, batch * amount)?),
        mask => mask.clone(),
    };
    let batch_index = latent.batch_index.as_ref().map(|index| repeated_index(index, amount as u64));
    Ok(Outputs::one(Data::Latent(Latent { samples, noise_mask, batch_index })))
}

fn repeated(tensor: &HostTensor, count: usize) -> Result<HostTensor, NodeError> {
    let item = tensor.data().len() / tensor.shape()[0];
    memory::require("a latent batch of this size", memory::activations(item, count, 2))?;
    items(tensor, 0, count)
}

/// Moves every repetition past the places of the one before.
fn repeated_index(index: &[u64], amount: u64) -> Vec<u64> {
    let highest = index.iter().max().copied().unwrap_or(0);
    let span = highest - index.iter().min().copied().unwrap_or(0) + 1;
    (0..amount).flat_map(|i| index.iter().map(move |place| place + i * span)).collect()
}

fn batch_spec() -> NodeSpec {
    let inputs = vec![InputSpec::socket("samples1", "LATENT"), InputSpec::socket("samples2", "LATENT")];
    NodeSpec::new("LatentBatch", "latent/batch", inputs, &["LATENT"])
        .about("Puts latents behind others. The second ones are scaled and cut to the size of the first.")
}

fn batch(inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
    let (first, second) = (inputs.latent("samples1")?, inputs.latent("samples2")?);
    let mut all = Planes::of(&first.samples)?;
    let others = all.fit(&Planes::of(&second.samples)?, ResizeMethod::Bilinear)?;
    let (a, b) = (all.data.len(), others.data.len());
    memory::require("a latent batch of this size", memory::activations(a + b, 1, 1))?;
    let places = |latent: &Latent, count: usize| match &latent.batch_index {
        Some(index) => index.clone(),
        None => (0..count as u64).collect(),
    };
    let batch_index = [places(first, all.batch), places(second, others.batch)].concat();
    all.batch += others.batch;
    all.data.extend(others.data);
    all.output(&Latent { batch_index: Some(batch_index), ..first.clone() })
}

fn seed_behavior_spec() -> NodeSpec {
    let behaviour = InputSpec::combo("seed_behavior", &["random", "fixed"]).choose("fixed");
    let inputs = vec![InputSpec::socket("samples", "LATENT"), behaviour];
    NodeSpec::new("LatentBatchSeedBehavior", "latent/advanced", inputs, &["LATENT"])
        .about("Says whether the latents of a batch get noise of their own or all the same.")
}

fn seed_behavior(inputs: &Inputs, _ctx: &Ctx<'_, SamplerState>) -> Result<Outputs, NodeError> {
    let latent = inputs.latent("samples")?;
    let batch = Planes::of(&latent.samples)?.batch;
    let batch_index = match inputs.text("seed_behavior")? {
        "random" => None,
        "fixed" => {
            let first = latent.batch_index.as_ref().and_then(|index| index.first().copied()).unwrap_or(0);
            Some(vec![first; batch])
        }
        other => {
            return Err(NodeError::invalid(format!(
                "unknown seed behaviour `{other}`; expected `random` or `fixed`"
            )));
        }
    };
    Ok(Outputs::one(Data::Latent(Latent { batch_index, ..latent.clone() })))
}

#[cfg(test)]
mod tests {
    use super::repeated_index;

    #[test]
    fn repetitions_get_places_of_their_own() {
        assert_eq!(repeated_index(&[2, 3], 3), [2, 3, 4, 5, 6, 7]);
        assert_eq!(repeated_index(&[0, 0], 2), [0, 0, 1, 1]);
    }
}
