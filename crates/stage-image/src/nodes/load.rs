//! Loading pictures from the folders of people.

use comfy_artifacts::folders::parse_annotated;
use comfy_graph::spec::Widget;
use comfy_graph::{InputSpec, NodeSpec};
use comfy_imaging::{DecodedImage, decode};
use comfy_stage::{Ctx, FnNode, Inputs, NodeError, Outputs};

use crate::pictures::{Pictures, Size, imaging_error};
use crate::state::{ImageState, OUTPUT_PICTURES};

pub(super) const NODES: &[super::ImageNode] = &[
    &FnNode { spec: load_image_spec, run: load_image },
    &FnNode { spec: load_image_output_spec, run: load_image },
    &FnNode { spec: load_image_mask_spec, run: load_image_mask },
    &FnNode { spec: webcam_capture_spec, run: webcam_capture },
];

/// Side of the empty mask that stands for "no alpha channel".
const EMPTY_MASK: Size = Size { width: 64, height: 64 };

/// The name of a picture in a folder, with a button to upload another.
fn picture_file(folder: &str) -> InputSpec {
    let mut image = InputSpec::file("image", folder);
    if let Some(Widget::Combo { upload, .. }) = &mut image.widget {
        *upload = Some("image".into());
    }
    image
}

fn load_image_spec() -> NodeSpec {
    NodeSpec::new("LoadImage", "image", vec![picture_file("input")], &["IMAGE", "MASK"])
        .titled("Load Image")
        .about("Reads a picture. The mask is white where the picture is transparent.")
}

fn load_image_output_spec() -> NodeSpec {
    let inputs = vec![picture_file(OUTPUT_PICTURES)];
    let spec = NodeSpec::new("LoadImageOutput", "image", inputs, &["IMAGE", "MASK"]);
    NodeSpec { experimental: true, ..spec }
        .titled("Load Image (from Outputs)")
        .about("Reads a picture that an earlier run saved, the newest first in the list.")
}

fn load_image(inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let picture = read(inputs.text("image")?, ctx)?;
    let size = Size { width: picture.width, height: picture.height };
    let batch = picture.frames.len();
    let has_alpha = picture.frames.iter().all(|frame| frame.alpha.is_some());
    let mut colours = Vec::with_capacity(batch * size.width * size.height * 3);
    let mut mask = Vec::new();
    for frame in picture.frames {
        colours.extend(frame.rgb);
        mask.extend(frame.alpha.into_iter().flatten().map(|alpha| 1.0 - alpha));
    }
    let mask = if has_alpha {
        Pictures::new(batch, size, 1, mask)
    } else {
        Pictures::full(batch, EMPTY_MASK, 1, 0.0)?
    };
    Ok(Outputs::many(vec![Pictures::new(batch, size, 3, colours).into_image()?, mask.into_mask()?]))
}

fn read(name: &str, ctx: &Ctx<'_, ImageState>) -> Result<DecodedImage, NodeError> {
    let bytes = ctx.state.saves.folders().read(&parse_annotated(name))?;
    decode(&bytes, &ctx.state.limits).map_err(imaging_error)
}

fn load_image_mask_spec() -> NodeSpec {
    let inputs = vec![picture_file("input"), InputSpec::combo("channel", &["alpha", "red", "green", "blue"])];
    NodeSpec::new("LoadImageMask", "mask", inputs, &["MASK"])
        .titled("Load Image (as Mask)")
        .about("Reads one channel of a picture as a mask. Alpha is turned round: transparent is white.")
}

fn load_image_mask(inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let channel = inputs.text("channel")?;
    let picture = read(inputs.text("image")?, ctx)?;
    let size = Size { width: picture.width, height: picture.height };
    let Some(frame) = picture.frames.into_iter().next() else {
        return Err(NodeError::internal("a decoded picture has no frame"));
    };
    let colour = |index: usize| frame.rgb.iter().skip(index).step_by(3).copied().collect::<Vec<f32>>();
    let samples = match channel {
        "red" => colour(0),
        "green" => colour(1),
        "blue" => colour(2),
        "alpha" => match &frame.alpha {
            Some(alpha) => alpha.iter().map(|alpha| 1.0 - alpha).collect(),
            None => vec![0.0; size.width * size.height],
        },
        other => {
            return Err(NodeError::invalid(format!(
                "unknown channel `{other}`; expected `alpha`, `red`, `green` or `blue`"
            )));
        }
    };
    Pictures::new(1, size, 1, samples).one_mask()
}

fn webcam_capture_spec() -> NodeSpec {
    let mut image = InputSpec::text("image", "");
    image.socket = "WEBCAM".into();
    let inputs = vec![
        image,
        InputSpec::int("width", 0, (0, super::MAX_SIDE_PX), 1),
        InputSpec::int("height", 0, (0, super::MAX_SIDE_PX), 1),
        InputSpec::boolean("capture_on_queue", true),
    ];
    NodeSpec::new("WebcamCapture", "image", inputs, &["IMAGE"])
        .titled("Webcam Capture")
        .about("Reads the picture that the page took with the camera and uploaded.")
}

/// Width and height are for the page, which takes the picture.
fn webcam_capture(inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let mut outputs = load_image(inputs, ctx)?;
    outputs.slots.truncate(1);
    Ok(outputs)
}
