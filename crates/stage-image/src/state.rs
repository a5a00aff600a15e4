//! What the image nodes share.

use std::hash::{BuildHasher as _, RandomState};

use comfy_artifacts::{Folder, Saves};
use comfy_graph::ComboOption;
use comfy_imaging::Limits;
use comfy_stage::StageState;

/// Names of files that the loader reads end in one of these.
const EXTENSIONS: [&str; 6] = [".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp"];

/// The pictures of the output folder, newest first, as `name [output]`.
pub(crate) const OUTPUT_PICTURES: &str = "output_pictures";

/// The files of saved latents in the input folder.
pub(crate) const LATENTS: &str = "latents";

/// The folders, the limits, and the name under which this process shows pictures.
#[derive(Debug)]
pub struct ImageState {
    pub(crate) saves: Saves,
    pub(crate) limits: Limits,
    pub(crate) temp_prefix: String,
}

impl ImageState {
    pub fn new(saves: Saves, limits: Limits) -> Self {
        Self { saves, limits, temp_prefix: format!("ComfyUI_temp_{}", random_letters()) }
    }
}

impl StageState for ImageState {
    fn name(&self) -> &str {
        "image"
    }

    fn fingerprint(&self) -> String {
        concat!("comfy-stage-image ", env!("CARGO_PKG_VERSION")).to_owned()
    }

    fn options(&self, folder: &str) -> Option<Vec<ComboOption>> {
        if folder == OUTPUT_PICTURES {
            return Some(self.output_pictures());
        }
        if folder == LATENTS {
            return Some(self.files(Folder::Input, &[".latent"]));
        }
        Some(self.files(Folder::parse(folder)?, &EXTENSIONS))
    }
}

impl ImageState {
    /// The files of a folder whose names end in one of `extensions`.
    fn files(&self, folder: Folder, extensions: &[&str]) -> Vec<ComboOption> {
        let is_wanted = |name: &str| extensions.iter().any(|end| name.to_ascii_lowercase().ends_with(end));
        let files = self.saves.folders().list(folder, false).into_iter().filter(|(name, _)| is_wanted(name));
        files.map(|(value, fingerprint)| ComboOption { value, fingerprint: Some(fingerprint) }).collect()
    }

    fn output_pictures(&self) -> Vec<ComboOption> {
        let mut pictures = self.files(Folder::Output, &EXTENSIONS);
        let root = self.saves.folders().root(Folder::Output);
        let modified = |name: &str| std::fs::metadata(root.join(name)).and_then(|file| file.modified()).ok();
        pictures.sort_by_cached_key(|picture| std::cmp::Reverse(modified(&picture.value)));
        pictures.iter_mut().for_each(|picture| picture.value += " [output]");
        pictures
    }
}

/// Returns five lower-case letters that differ from process to process.
fn random_letters() -> String {
    let mut number = RandomState::new().hash_one("temp prefix");
    (0..5)
        .map(|_| {
            let letter = b'a' + (number % 26) as u8;
            number /= 26;
            char::from(letter)
        })
        .collect()
}
