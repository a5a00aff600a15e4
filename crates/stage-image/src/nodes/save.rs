//! Saving and showing pictures as PNG files.

use comfy_artifacts::saves::Series;
use comfy_artifacts::{FilePrefix, Folder, NamedFile, SaveKey};
use comfy_graph::{InputSpec, NodeSpec};
use comfy_imaging::{encode_png, to_levels_truncating};
use comfy_stage::{Ctx, FnNode, Inputs, NodeError, Outputs};
use serde_json::json;

use crate::pictures::{Pictures, imaging_error};
use crate::state::ImageState;

pub(super) const NODES: &[super::ImageNode] = &[
    &FnNode { spec: save_image_spec, run: save_image },
    &FnNode { spec: preview_image_spec, run: preview_image },
    &FnNode { spec: mask_preview_spec, run: mask_preview },
];

/// What every node that writes pictures is told by the stack.
pub(super) fn with_workflow(mut inputs: Vec<InputSpec>) -> Vec<InputSpec> {
    inputs.push(InputSpec::hidden("prompt", "PROMPT"));
    inputs.push(InputSpec::hidden("extra_pnginfo", "EXTRA_PNGINFO"));
    inputs
}

fn save_image_spec() -> NodeSpec {
    let inputs = with_workflow(vec![
        InputSpec::socket("images", "IMAGE").tooltip("Pictures that are written, one file each."),
        InputSpec::text("filename_prefix", "ComfyUI").tooltip(
            "Beginning of the file names. May hold subfolders, %date:yyyy-MM-dd%, %width% or fields of \
             other nodes such as %KSampler.seed%.",
        ),
    ]);
    NodeSpec::new("SaveImage", "image", inputs, &[])
        .titled("Save Image")
        .about("Writes the pictures as PNG files into the output folder, with the workflow inside.")
        .ending()
}

fn save_image(inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let images = Pictures::image(inputs, "images")?;
    let prefix = inputs.text("filename_prefix")?;
    save(&images, &Target { folder: Folder::Output, prefix, compress_level: 4, part: "" }, ctx)
}

fn preview_image_spec() -> NodeSpec {
    NodeSpec::new("PreviewImage", "image", with_workflow(vec![InputSpec::socket("images", "IMAGE")]), &[])
        .titled("Preview Image")
        .about("Shows the pictures. The files go to the folder for temporary ones.")
        .ending()
}

fn preview_image(inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let prefix = &ctx.state.temp_prefix;
    let target = Target { folder: Folder::Temp, prefix, compress_level: 1, part: "" };
    save(&Pictures::image(inputs, "images")?, &target, ctx)
}

fn mask_preview_spec() -> NodeSpec {
    NodeSpec::new("MaskPreview", "mask", with_workflow(vec![InputSpec::socket("mask", "MASK")]), &[])
        .about("Shows masks as gray pictures. The files go to the folder for temporary ones.")
        .ending()
}

fn mask_preview(inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let target = Target { folder: Folder::Temp, prefix: &ctx.state.temp_prefix, compress_level: 4, part: "" };
    save(&super::mask::as_image(&Pictures::mask(inputs, "mask")?)?, &target, ctx)
}

/// Where and how pictures are written.
pub(super) struct Target<'a> {
    pub(super) folder: Folder,
    pub(super) prefix: &'a str,
    pub(super) compress_level: u8,
    /// Tells apart what one node saves in several places.
    pub(super) part: &'a str,
}

/// Writes every picture of a batch and says so to the UI. Running it again for the same job adds no files.
pub(super) fn save(
    images: &Pictures<'_>,
    target: &Target<'_>,
    ctx: &Ctx<'_, ImageState>,
) -> Result<Outputs, NodeError> {
    let texts = workflow_texts(ctx)?;
    let texts: Vec<_> = texts.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let total = images.pictures().len() as u64;
    let mut files = Vec::with_capacity(images.pictures().len());
    for (samples, done) in images.pictures().zip(1..) {
        ctx.check_cancelled()?;
        let levels = to_levels_truncating(samples);
        files.push(encode_png(images.view(&levels)?, &texts, target.compress_level).map_err(imaging_error)?);
        if total > 1 {
            ctx.progress(done, total);
        }
    }
    let prefix = FilePrefix::new(target.prefix, (images.width, images.height), &chrono::Local::now());
    let named = write_files(
        &files,
        &prefix,
        &Place { folder: target.folder, suffix: "_.png", part: target.part },
        ctx,
    )?;
    Ok(Outputs::ui(json!({ "images": named })))
}

/// Where files go and how their names end, such as in `_.png`.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) folder: Folder,
    pub(super) suffix: &'a str,
    /// Tells apart what one node saves in several places.
    pub(super) part: &'a str,
}

/// Writes files under numbered names.
pub(super) fn write_files(
    files: &[Vec<u8>],
    prefix: &FilePrefix,
    place: &Place<'_>,
    ctx: &Ctx<'_, ImageState>,
) -> Result<Vec<NamedFile>, NodeError> {
    let Place { folder, suffix, part } = *place;
    let mut key = ctx.save_key();
    key.node += part;
    let save = |key: &SaveKey, prefix: &str, files: &[Vec<u8>]| {
        ctx.state.saves.save(key, &Series { folder, prefix, suffix }, files)
    };
    if !prefix.is_per_picture() {
        return Ok(save(&key, &prefix.of_picture(0), files)?);
    }
    // Each picture has a name of its own, so each is a series of one.
    let mut named = Vec::with_capacity(files.len());
    for (index, file) in files.iter().enumerate() {
        let key = SaveKey { job: key.job.clone(), node: format!("{}#{index}", key.node) };
        named.extend(save(&key, &prefix.of_picture(index), std::slice::from_ref(file))?);
    }
    Ok(named)
}

/// Collects what is stored in a file besides its content.
pub(super) fn workflow_texts(ctx: &Ctx<'_, ImageState>) -> Result<Vec<(String, String)>, NodeError> {
    comfy_artifacts::workflow_texts(ctx.prompt_json, ctx.extra_pnginfo_json)
        .map_err(|error| NodeError::invalid(error.to_string()))
}
