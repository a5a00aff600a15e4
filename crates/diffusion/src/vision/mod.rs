//! Networks that look at pictures: CLIP's image encoder and the style adapter behind it.

mod clip;
mod config;
mod preprocess;
mod style;

pub use clip::{ClipVision, VisionOutput};
pub use config::{VisionConfig, VisionLayout};
pub use preprocess::{PictureCrop, preprocess};
pub use style::StyleModel;
