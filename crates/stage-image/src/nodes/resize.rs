//! `ResizeImageMaskNode`: one node for every way to choose a size, for pictures and masks.

use comfy_graph::{DynamicOption, InputSpec, NodeSpec, OutputSpec};
use comfy_imaging::{Crop, ResizeMethod, scaled_size};
use comfy_stage::{Ctx, Data, FnNode, Inputs, NodeError, Outputs};

use crate::pictures::{Pictures, Size, Window, imaging_error};
use crate::state::ImageState;

use super::MAX_SIDE_PX;

pub(super) const NODES: &[super::ImageNode] = &[&FnNode { spec, run }];

/// The two things that the node resizes, and that `match size` may look at.
const IMAGE_OR_MASK: &str = "IMAGE,MASK";

/// Ties the output to the type of the input.
const SAME_TYPE: &str = "input_type";

/// Ways to choose a size, in ComfyUI's order.
const DIMENSIONS: &str = "scale dimensions";
const MULTIPLIER: &str = "scale by multiplier";
const LONGER: &str = "scale longer dimension";
const SHORTER: &str = "scale shorter dimension";
const WIDTH: &str = "scale width";
const HEIGHT: &str = "scale height";
const TOTAL_PIXELS: &str = "scale total pixels";
const MATCH: &str = "match size";
const MULTIPLE: &str = "scale to multiple";

fn crop() -> InputSpec {
    InputSpec::combo("crop", &Crop::ALL.map(Crop::name))
        .choose("center")
        .tooltip("What happens when the proportions differ: stretch, or cut the longer side at both ends.")
}

fn side(name: &str, least: i128, tooltip: &str) -> InputSpec {
    InputSpec::int(name, 512, (least, MAX_SIDE_PX), 1).tooltip(tooltip)
}

fn options() -> Vec<DynamicOption> {
    let zero = "In pixels; 0 keeps the proportions.";
    let other_follows = "In pixels; the other side keeps the proportions.";
    let multiplier = InputSpec::float("multiplier", 1.0, (0.01, 8.0), 0.01, None)
        .tooltip("What both sides are multiplied by.");
    let megapixels = InputSpec::float("megapixels", 1.0, (0.01, 16.0), 0.01, None)
        .tooltip("How many pixels the result has, in units of 1024 x 1024.");
    let multiple =
        |default, tooltip| InputSpec::int("multiple", default, (1, MAX_SIDE_PX), 1).tooltip(tooltip);
    vec![
        DynamicOption::new(DIMENSIONS, vec![side("width", 0, zero), side("height", 0, zero), crop()]),
        DynamicOption::new(MULTIPLIER, vec![multiplier]),
        DynamicOption::new(LONGER, vec![side("longer_size", 0, other_follows)]),
        DynamicOption::new(SHORTER, vec![side("shorter_size", 0, other_follows)]),
        DynamicOption::new(WIDTH, vec![side("width", 0, other_follows)]),
        DynamicOption::new(HEIGHT, vec![side("height", 0, other_follows)]),
        DynamicOption::new(
            TOTAL_PIXELS,
            vec![megapixels, multiple(1, "Both sides are rounded to a multiple of this.")],
        ),
        DynamicOption::new(
            MATCH,
            vec![InputSpec::socket("match", IMAGE_OR_MASK).tooltip("Gives its size to the result."), crop()],
        ),
        DynamicOption::new(
            MULTIPLE,
            vec![multiple(8, "Both sides shrink to a multiple of this; what then sticks out is cut.")],
        ),
    ]
}

fn spec() -> NodeSpec {
    let inputs = vec![
        InputSpec::socket("input", IMAGE_OR_MASK).matching(SAME_TYPE),
        InputSpec::dynamic_combo("resize_type", options()).tooltip("How the new size is chosen."),
        InputSpec::combo("scale_method", &ResizeMethod::ALL.map(ResizeMethod::name)).choose("area").tooltip(
            "How samples are mixed: area suits shrinking, lanczos growing, nearest-exact pixel art.",
        ),
    ];
    let mut spec = NodeSpec::new("ResizeImageMaskNode", "image/transform", inputs, &[])
        .titled("Resize Image/Mask")
        .about("Resizes pictures or masks to a size, by a factor, to the size of others, or to a multiple.");
    spec.outputs = vec![OutputSpec::new("resized", IMAGE_OR_MASK).matching(SAME_TYPE)];
    spec
}

fn run(inputs: &Inputs, ctx: &Ctx<'_, ImageState>) -> Result<Outputs, NodeError> {
    let input = image_or_mask(inputs, "input")?;
    let order = order(inputs, input.size())?;
    let method: ResizeMethod = inputs.text("scale_method")?.parse().map_err(imaging_error)?;
    let resized = match order {
        None => input,
        Some(Order { size, crop, cut }) => {
            let resized = input.resized(ctx, size, method, crop)?;
            cut.map_or_else(|| Ok(resized.clone()), |size| centre(&resized, size))?
        }
    };
    match inputs.get("input") {
        Some(Data::Mask(_)) => resized.one_mask(),
        _ => resized.one_image(),
    }
}

fn image_or_mask<'a>(inputs: &'a Inputs, name: &str) -> Result<Pictures<'a>, NodeError> {
    match inputs.get(name) {
        Some(Data::Mask(_)) => Pictures::mask(inputs, name),
        Some(Data::Image(_)) | None => Pictures::image(inputs, name),
        Some(other) => {
            Err(NodeError::invalid(format!("input `{name}` must be IMAGE or MASK, got {}", other.kind())))
        }
    }
}

/// What is done to a picture.
#[derive(Debug, PartialEq)]
struct Order {
    size: Size,
    crop: Crop,
    /// The part in the middle that stays, if not all does.
    cut: Option<Size>,
}

impl Order {
    fn stretch(size: Size) -> Self {
        Self { size, crop: Crop::Disabled, cut: None }
    }
}

/// What the inputs ask for; `None` leaves everything as it is.
fn order(inputs: &Inputs, own: Size) -> Result<Option<Order>, NodeError> {
    let nested = |name: &str| format!("resize_type.{name}");
    let pixels = |name: &str| inputs.int_as::<usize>(&nested(name));
    let crop = || inputs.text(&nested("crop"))?.parse::<Crop>().map_err(imaging_error);
    let to_sides = |width, height, crop| {
        let size = scaled_size((own.width, own.height), width, height);
        size.map(|(width, height)| Order { size: Size { width, height }, crop, cut: None })
    };
    let order = match inputs.text("resize_type")? {
        DIMENSIONS => return Ok(to_sides(pixels("width")?, pixels("height")?, crop()?)),
        WIDTH => return Ok(to_sides(pixels("width")?, 0, Crop::Disabled)),
        HEIGHT => return Ok(to_sides(0, pixels("height")?, Crop::Disabled)),
        MULTIPLE => return Ok(covering(own, pixels("multiple")?)),
        MULTIPLIER => Order::stretch(scaled(own, inputs.float(&nested("multiplier"))?)),
        LONGER => Order::stretch(by_side(own, pixels("longer_size")?, own.width >= own.height)),
        SHORTER => Order::stretch(by_side(own, pixels("shorter_size")?, own.width <= own.height)),
        TOTAL_PIXELS => {
            let total = (inputs.float(&nested("megapixels"))? * 1024.0 * 1024.0).trunc();
            Order::stretch(with_area(own, total, pixels("multiple")?))
        }
        MATCH => {
            let size = image_or_mask(inputs, &nested("match"))?.size();
            Order { size, crop: crop()?, cut: None }
        }
        other => {
            let names: Vec<String> = options().iter().map(|option| format!("`{}`", option.key)).collect();
            let names = names.join(", ");
            return Err(NodeError::invalid(format!(
                "unknown resize type `{other}`, expected one of {names}"
            )));
        }
    };
    Ok(Some(order))
}

fn rounded(side: f64) -> usize {
    side.round_ties_even() as usize
}

fn scaled(own: Size, factor: f64) -> Size {
    Size { width: rounded(own.width as f64 * factor), height: rounded(own.height as f64 * factor) }
}

/// Gives one side a length; the other keeps the proportions.
fn by_side(own: Size, length: usize, is_width: bool) -> Size {
    let follow = |other: usize, side: usize| rounded(other as f64 / side as f64 * length as f64);
    if is_width {
        Size { width: length, height: follow(own.height, own.width) }
    } else {
        Size { width: follow(own.width, own.height), height: length }
    }
}

/// About so many pixels in the same proportions, with sides that are multiples of `multiple` and never empty.
fn with_area(own: Size, pixels: f64, multiple: usize) -> Size {
    let factor = (pixels / (own.width * own.height) as f64).sqrt();
    let side = |side: usize| rounded(side as f64 * factor / multiple as f64).max(1) * multiple;
    Size { width: side(own.width), height: side(own.height) }
}

/// The smallest size in the same proportions that covers the largest multiples of `multiple` in both sides, which are
/// then cut out of its middle. A picture that is smaller than `multiple` stays as it is.
fn covering(own: Size, multiple: usize) -> Option<Order> {
    let multiple = multiple.max(1);
    let target = Size { width: own.width / multiple * multiple, height: own.height / multiple * multiple };
    if target.width == 0 || target.height == 0 || target == own {
        return None;
    }
    // The larger of the two ratios, as a fraction so that no side is rounded beyond its exact value.
    let ratios = [(target.width, own.width), (target.height, own.height)];
    let (part, whole) = ratios.into_iter().max_by(|a, b| (a.0 * b.1).cmp(&(b.0 * a.1)))?;
    let scaled = |side: usize| (side * part).div_ceil(whole);
    let size = Size { width: scaled(own.width), height: scaled(own.height) };
    Some(Order { size, crop: Crop::Disabled, cut: Some(target) })
}

/// Cuts the middle out of pictures that are at least that large.
fn centre(pictures: &Pictures<'_>, size: Size) -> Result<Pictures<'static>, NodeError> {
    let x = (pictures.width - size.width) / 2;
    let y = (pictures.height - size.height) / 2;
    Ok(pictures.cut(Window { x, y, width: size.width, height: size.height }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_multiple_is_covered_and_cut() {
        let size = |width, height| Size { width, height };
        for (own, multiple, expected) in [
            (size(64, 32), 8, None),
            (size(7, 100), 8, None),
            (size(13, 9), 1, None),
            (size(70, 33), 8, Some((size(68, 32), size(64, 32)))),
            (size(33, 70), 8, Some((size(32, 68), size(32, 64)))),
            (size(65, 65), 64, Some((size(64, 64), size(64, 64)))),
        ] {
            let expected = expected.map(|(size, cut)| Order { size, crop: Crop::Disabled, cut: Some(cut) });
            assert_eq!(covering(own, multiple), expected, "{own:?} {multiple}");
        }
    }
}
