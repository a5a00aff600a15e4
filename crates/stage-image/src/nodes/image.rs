//! Category `image`: load, save, preview, invert.

use comfy_artifacts::folders::parse_annotated;
use comfy_artifacts::saves::Series;
use comfy_artifacts::{Folder, NamedFile, SaveKey};
use comfy_graph::spec::Widget;
use comfy_graph::{InputSpec, NodeSpec, OutputSpec};
use comfy_imaging::{decode, encode_png, invert, to_levels_truncating};
use comfy_stage::{Ctx, Data, Inputs, Node, NodeError, Outputs};
use serde_json::{Value, json};

use crate::file_prefix::FilePrefix;
use crate::pictures::{Batch, imaging_error, tensor};
use crate::python_json;
use crate::state::ImageState;

pub(super) const NODES: &[super::ImageNode] = &[&LoadImage, &SaveImage, &PreviewImage, &ImageInvert];

/// Side of the empty mask that stands for "no alpha channel".
const EMPTY_MASK_SIDE: usize = 64;

struct LoadImage;

impl Node<ImageState> for LoadImage {
    fn spec(&self) -> NodeSpec {
        let mut image = InputSpec::file("image", "input");
        if let Some(Widget::Combo { upload, .. }) = &mut image.widget {
            *upload = Some("image".into());
        }
        NodeSpec {
            class: "LoadImage".into(),
            display_name: "Load Image".into(),
            category: "image".into(),
            version: 1,
            inputs: vec![image],
            outputs: vec![OutputSpec::of("IMAGE"), OutputSpec::of("MASK")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
        let bytes = ctx.state.saves.folders().read(&parse_annotated(inputs.text("image")?))?;
        let picture = decode(&bytes, &ctx.state.limits).map_err(imaging_error)?;
        let (batch, height, width) = (picture.frames.len(), picture.height, picture.width);
        let has_alpha = picture.frames.iter().all(|frame| frame.alpha.is_some());
        let mut colours = Vec::with_capacity(batch * height * width * 3);
        let mut mask = Vec::new();
        for frame in picture.frames {
            colours.extend(frame.rgb);
            mask.extend(frame.alpha.into_iter().flatten().map(|alpha| 1.0 - alpha));
        }
        let mask_shape = if has_alpha { [height, width] } else { [EMPTY_MASK_SIDE; 2] };
        if !has_alpha {
            mask = vec![0.0; batch * EMPTY_MASK_SIDE * EMPTY_MASK_SIDE];
        }
        Ok(Outputs::many(vec![
            Data::Image(tensor(vec![batch, height, width, 3], colours)?),
            Data::Mask(tensor(vec![batch, mask_shape[0], mask_shape[1]], mask)?),
        ]))
    }
}

struct SaveImage;

impl Node<ImageState> for SaveImage {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "SaveImage".into(),
            display_name: "Save Image".into(),
            description: "Writes the pictures as PNG files into the output folder, with the workflow inside.".into(),
            category: "image".into(),
            version: 1,
            inputs: vec![
                InputSpec::socket("images", "IMAGE").tooltip("Pictures that are written, one file each."),
                InputSpec::text("filename_prefix", "ComfyUI").tooltip(
                    "Beginning of the file names. May hold subfolders, %date:yyyy-MM-dd%, %width% or values of other \
                     nodes such as %Empty Latent Image.width%.",
                ),
                InputSpec::hidden("prompt", "PROMPT"),
                InputSpec::hidden("extra_pnginfo", "EXTRA_PNGINFO"),
            ],
            output_node: true,
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
        let images = Batch::new(inputs.image("images")?)?;
        let prefix = inputs.text("filename_prefix")?;
        save(images, &Target { folder: Folder::Output, prefix, compress_level: 4 }, ctx)
    }
}

struct PreviewImage;

impl Node<ImageState> for PreviewImage {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "PreviewImage".into(),
            display_name: "Preview Image".into(),
            description: "Shows the pictures. The files go to the folder for temporary ones.".into(),
            category: "image".into(),
            version: 1,
            inputs: vec![
                InputSpec::socket("images", "IMAGE"),
                InputSpec::hidden("prompt", "PROMPT"),
                InputSpec::hidden("extra_pnginfo", "EXTRA_PNGINFO"),
            ],
            output_node: true,
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
        let images = Batch::new(inputs.image("images")?)?;
        let prefix = &ctx.state.temp_prefix;
        save(images, &Target { folder: Folder::Temp, prefix, compress_level: 1 }, ctx)
    }
}

/// Where and how pictures are written.
struct Target<'a> {
    folder: Folder,
    prefix: &'a str,
    compress_level: u8,
}

/// Writes every picture of a batch and says so to the UI. Running it again for the same job adds no files.
fn save(images: Batch<'_>, target: &Target<'_>, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
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
    let named = write(&files, &prefix, target.folder, ctx)?;
    Ok(Outputs::ui(json!({ "images": named })))
}

fn write(
    files: &[Vec<u8>],
    prefix: &FilePrefix,
    folder: Folder,
    ctx: &Ctx<'_, ImageState>,
) -> Result<Vec<NamedFile>, NodeError> {
    let key = ctx.save_key();
    if !prefix.is_per_picture() {
        return Ok(ctx.state.saves.save(&key, &series(folder, &prefix.of_picture(0)), files)?);
    }
    // Each picture has a name of its own, so each is a series of one.
    let mut named = Vec::with_capacity(files.len());
    for (index, file) in files.iter().enumerate() {
        let key = SaveKey { job: key.job.clone(), node: format!("{}#{index}", key.node) };
        named.extend(ctx.state.saves.save(
            &key,
            &series(folder, &prefix.of_picture(index)),
            std::slice::from_ref(file),
        )?);
    }
    Ok(named)
}

fn series(folder: Folder, prefix: &str) -> Series<'_> {
    Series { folder, prefix, suffix: "_.png" }
}

/// Collects what is stored in a PNG: `prompt`, then every key that the page asked for, usually `workflow`.
fn workflow_texts(ctx: &Ctx<'_, ImageState>) -> Result<Vec<(String, String)>, NodeError> {
    let parse = |name: &str, text: &str| -> Result<Option<Value>, NodeError> {
        if text.is_empty() {
            return Ok(None);
        }
        serde_json::from_str(text)
            .map(Some)
            .map_err(|error| NodeError::invalid(format!("`{name}` is not JSON: {error}")))
    };
    let mut texts = Vec::new();
    if let Some(prompt) = parse("prompt", ctx.prompt_json)? {
        texts.push(("prompt".to_owned(), python_json::dumps(&prompt)));
    }
    match parse("extra_pnginfo", ctx.extra_pnginfo_json)? {
        None | Some(Value::Null) => {}
        Some(Value::Object(extra)) => {
            texts.extend(extra.iter().map(|(key, value)| (key.clone(), python_json::dumps(value))));
        }
        Some(_) => return Err(NodeError::invalid("`extra_pnginfo` must be a JSON object")),
    }
    Ok(texts)
}

struct ImageInvert;

impl Node<ImageState> for ImageInvert {
    fn spec(&self) -> NodeSpec {
        NodeSpec {
            class: "ImageInvert".into(),
            display_name: "Invert Image".into(),
            category: "image".into(),
            version: 1,
            inputs: vec![InputSpec::socket("image", "IMAGE")],
            outputs: vec![OutputSpec::of("IMAGE")],
            ..NodeSpec::default()
        }
    }

    fn run(&self, inputs: &Inputs, _ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
        let image = inputs.image("image")?;
        let mut samples = image.data().to_vec();
        invert(&mut samples);
        Ok(Outputs::one(Data::Image(tensor(image.shape().to_vec(), samples)?)))
    }
}
