//! `SaveLatent` and `LoadLatent`: here and not with the other latent nodes, because this stage has the folders.
//!
//! # Source
//! The file format of ComfyUI: safetensors with `latent_tensor`, an empty `latent_format_version_0`, and the workflow
//! as metadata. Older files lack the second tensor and are scaled by the factor of SD1.

use std::collections::HashMap;

use comfy_artifacts::folders::parse_annotated;
use comfy_artifacts::{FilePrefix, Folder, HostTensor};
use comfy_graph::{InputSpec, NodeSpec};
use comfy_stage::{Ctx, Data, FnNode, Inputs, Latent, NodeError, Outputs};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::json;

use crate::state::{ImageState, LATENTS};

use super::save::{Place, with_workflow, workflow_texts, write_files};

pub(super) const NODES: &[super::ImageNode] =
    &[&FnNode { spec: save_spec, run: save }, &FnNode { spec: load_spec, run: load }];

const SAMPLES: &str = "latent_tensor";
const VERSION: &str = "latent_format_version_0";
/// What older files were multiplied by.
const OLD_SCALE: f32 = 0.18215;

fn save_spec() -> NodeSpec {
    let inputs =
        vec![InputSpec::socket("samples", "LATENT"), InputSpec::text("filename_prefix", "latents/ComfyUI")];
    NodeSpec::new("SaveLatent", "_for_testing", with_workflow(inputs), &[])
        .about("Writes a latent into the output folder, with the workflow inside.")
        .ending()
}

fn save(inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let samples = &inputs.latent("samples")?.samples;
    let broken = |error: safetensors::SafeTensorError| NodeError::internal(error.to_string());
    let bytes: Vec<u8> = samples.data().iter().flat_map(|sample| sample.to_le_bytes()).collect();
    let views = [
        (SAMPLES, TensorView::new(Dtype::F32, samples.shape().to_vec(), &bytes).map_err(broken)?),
        (VERSION, TensorView::new(Dtype::F32, vec![0], &[]).map_err(broken)?),
    ];
    let metadata: HashMap<String, String> = workflow_texts(ctx)?.into_iter().collect();
    let file = safetensors::serialize(views, Some(metadata)).map_err(broken)?;
    let prefix = FilePrefix::new(inputs.text("filename_prefix")?, (0, 0), &chrono::Local::now());
    let place = Place { folder: Folder::Output, suffix: "_.latent", part: "" };
    let named = write_files(&[file], &prefix, &place, ctx)?;
    Ok(Outputs::ui(json!({ "latents": named })))
}

fn load_spec() -> NodeSpec {
    NodeSpec::new("LoadLatent", "_for_testing", vec![InputSpec::file("latent", LATENTS)], &["LATENT"])
        .about("Reads a latent from the input folder.")
}

fn load(inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let name = inputs.text("latent")?;
    let wrong = |reason: String| NodeError::invalid(format!("`{name}` is not a latent: {reason}"));
    let bytes = ctx.state.saves.folders().read(&parse_annotated(name))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| wrong(error.to_string()))?;
    let samples = file.tensor(SAMPLES).map_err(|error| wrong(error.to_string()))?;
    if samples.dtype() != Dtype::F32 {
        return Err(wrong(format!("its numbers are {:?}, expected F32", samples.dtype())));
    }
    let factor = if file.tensor(VERSION).is_ok() { 1.0 } else { 1.0 / OLD_SCALE };
    let number = |bytes: &[u8; 4]| f32::from_le_bytes(*bytes) * factor;
    let data = samples.data().as_chunks::<4>().0.iter().map(number).collect();
    Ok(Outputs::one(Data::Latent(Latent::new(HostTensor::new(samples.shape().to_vec(), data)?))))
}
