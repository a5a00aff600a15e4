//! The nodes of this stage, a file per category.

mod image;
mod upscaling;

use std::sync::LazyLock;

use comfy_stage::Node;

use crate::state::ImageState;

type ImageNode = &'static dyn Node<ImageState>;

/// Returns every node of the stage.
pub fn all() -> &'static [ImageNode] {
    static ALL: LazyLock<Vec<ImageNode>> = LazyLock::new(|| [image::NODES, upscaling::NODES].concat());
    &ALL
}
