//! The nodes of this stage, a file per category.

mod animation;
mod batch;
mod compare;
mod compositing;
mod image;
mod latent_files;
mod load;
mod logic;
mod mask;
mod mask_changes;
mod postprocessing;
mod preprocessors;
mod preview_any;
mod primitives;
mod rebatch;
mod regex;
mod resize;
mod resolution;
mod save;
mod save_advanced;
mod stitch;
mod strings;
mod transform;
mod upscaling;

use std::sync::LazyLock;

use comfy_stage::Node;

use crate::state::ImageState;

type ImageNode = &'static dyn Node<ImageState>;

/// The largest side that a person may ask for, in pixels.
const MAX_SIDE_PX: i128 = 16_384;

/// Returns every node of the stage.
pub fn all() -> &'static [ImageNode] {
    static ALL: LazyLock<Vec<ImageNode>> = LazyLock::new(|| {
        [
            load::NODES,
            save::NODES,
            save_advanced::NODES,
            animation::NODES,
            latent_files::NODES,
            image::NODES,
            batch::NODES,
            rebatch::NODES,
            upscaling::NODES,
            transform::NODES,
            resize::NODES,
            stitch::NODES,
            postprocessing::NODES,
            preprocessors::NODES,
            mask::NODES,
            mask_changes::NODES,
            compositing::NODES,
            primitives::NODES,
            strings::NODES,
            regex::NODES,
            resolution::NODES,
            preview_any::NODES,
            compare::NODES,
            logic::NODES,
        ]
        .concat()
    });
    &ALL
}
