//! Pictures that people put beside their model files, to know them by.

use std::path::{Path, PathBuf};

/// What follows the name of a model, without its own ending, in the order of preference.
const ENDINGS: [&str; 8] =
    [".preview.png", ".preview.jpg", ".preview.jpeg", ".preview.webp", ".png", ".jpg", ".jpeg", ".webp"];

/// Larger files are no covers.
const MAX_BYTES: u64 = 16 << 20;

/// The picture beside a model file, if there is one.
pub(crate) fn beside(model: &Path) -> Option<PathBuf> {
    let stem = model.file_stem()?.to_str()?;
    let is_cover =
        |path: &PathBuf| path.metadata().is_ok_and(|about| about.is_file() && about.len() <= MAX_BYTES);
    ENDINGS.iter().map(|ending| model.with_file_name(format!("{stem}{ending}"))).find(is_cover)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_of_the_same_name_are_covers() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("red.v1.safetensors");
        let check = |expected: Option<&str>| {
            let found = beside(&model);
            assert_eq!(found.as_ref().and_then(|path| path.file_name()?.to_str()), expected);
        };
        let put = |name: &str| std::fs::write(folder.path().join(name), "x").unwrap();
        put("red.png");
        check(None);
        put("red.v1.webp");
        check(Some("red.v1.webp"));
        put("red.v1.preview.jpeg");
        check(Some("red.v1.preview.jpeg"));
        std::fs::create_dir(folder.path().join("red.v1.preview.png")).unwrap();
        check(Some("red.v1.preview.jpeg"));
    }

    #[test]
    fn what_is_too_large_is_no_cover() {
        let folder = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(folder.path().join("a.png")).unwrap();
        file.set_len(MAX_BYTES + 1).unwrap();
        assert_eq!(beside(&folder.path().join("a.ckpt")), None);
    }
}
