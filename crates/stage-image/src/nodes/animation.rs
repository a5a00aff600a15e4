//! Category `image/animation`: saving a batch as one moving picture.

use comfy_artifacts::{FilePrefix, Folder};
use comfy_graph::{InputSpec, NodeSpec};
use comfy_imaging::{
    FrameDelay, ImagingError, PixelView, WebpOptions, encode_animated_png, encode_animated_webp,
    to_levels_truncating,
};
use comfy_stage::{Ctx, FnNode, Inputs, NodeError, Outputs};
use serde_json::json;

use crate::pictures::{Pictures, imaging_error};
use crate::state::ImageState;

use super::save::{Place, with_workflow, workflow_texts, write_files};

pub(super) const NODES: &[super::ImageNode] =
    &[&FnNode { spec: webp_spec, run: webp }, &FnNode { spec: png_spec, run: png }];

const CATEGORY: &str = "image/animation";

fn common_inputs() -> Vec<InputSpec> {
    vec![
        InputSpec::socket("images", "IMAGE"),
        InputSpec::text("filename_prefix", "ComfyUI")
            .tooltip("Beginning of the file name. May hold subfolders."),
        InputSpec::float("fps", 6.0, (0.01, 1000.0), 0.01, None).tooltip("Pictures a second."),
    ]
}

const METHODS: [(&str, u8); 3] = [("default", 4), ("fastest", 0), ("slowest", 6)];

fn webp_spec() -> NodeSpec {
    let own = vec![
        InputSpec::boolean("lossless", true).tooltip("Keeps every pixel as it is."),
        InputSpec::int("quality", 80, (0, 100), 1),
        InputSpec::combo("method", &METHODS.map(|(name, _)| name)).tooltip("Slower makes smaller files."),
    ];
    NodeSpec::new("SaveAnimatedWEBP", CATEGORY, with_workflow([common_inputs(), own].concat()), &[])
        .about("Writes a batch of pictures as one animated WebP into the output folder, with the workflow inside.")
        .ending()
}

fn webp(inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let name = inputs.text("method")?;
    let method = METHODS.into_iter().find(|(known, _)| *known == name).map(|(_, method)| method);
    let method = method.ok_or_else(|| {
        let known = METHODS.map(|(name, _)| name).join("`, `");
        NodeError::invalid(format!("unknown method `{name}`; expected one of `{known}`"))
    })?;
    // ImageMagick takes 0 for "not given", so the lowest quality is 1.
    let quality = inputs.int_as::<u8>("quality")?.max(1);
    let options = WebpOptions { lossless: inputs.boolean("lossless")?, quality, method };
    save(inputs, ctx, "_.webp", |frames, delay, texts| encode_animated_webp(frames, delay, texts, &options))
}

fn png_spec() -> NodeSpec {
    let level = InputSpec::int("compress_level", 4, (0, 9), 1);
    NodeSpec::new("SaveAnimatedPNG", CATEGORY, with_workflow([common_inputs(), vec![level]].concat()), &[])
        .about("Writes a batch of pictures as one animated PNG into the output folder, with the workflow inside.")
        .ending()
}

fn png(inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let level: u8 = inputs.int_as("compress_level")?;
    save(inputs, ctx, "_.png", |frames, delay, texts| encode_animated_png(frames, delay, texts, level))
}

type Frames<'a> = [PixelView<'a, u8>];

fn save(
    inputs: &Inputs,
    ctx: &Ctx<'_, ImageState>,
    suffix: &str,
    encode: impl Fn(&Frames<'_>, FrameDelay, &[(&str, &str)]) -> Result<Vec<u8>, ImagingError>,
) -> Result<Outputs, NodeError> {
    let images = Pictures::image(inputs, "images")?;
    let delay = FrameDelay::from_rate(inputs.float("fps")?).map_err(imaging_error)?;
    let texts = workflow_texts(ctx)?;
    let texts: Vec<_> = texts.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let levels: Vec<Vec<u8>> = images.pictures().map(to_levels_truncating).collect();
    let frames = levels.iter().map(|levels| images.view(levels)).collect::<Result<Vec<_>, _>>()?;
    ctx.check_cancelled()?;
    let file = encode(&frames, delay, &texts).map_err(imaging_error)?;
    let size = (images.width, images.height);
    let prefix = FilePrefix::new(inputs.text("filename_prefix")?, size, &chrono::Local::now());
    let named = write_files(&[file], &prefix, &Place { folder: Folder::Output, suffix, part: "" }, ctx)?;
    Ok(Outputs::ui(json!({ "images": named, "animated": [images.batch > 1 || suffix == "_.png"] })))
}
