//! Names of files that a person may upload: plain ones are in the list of their combo, others may be good as well.

/// The folders that a name may end with, as ComfyUI writes them.
const FOLDERS: [&str; 3] = [" [input]", " [output]", " [temp]"];

/// Takes away that a file is in the folder which is listed anyway.
pub(super) fn listed_name(name: &str) -> &str {
    name.strip_suffix(FOLDERS[0]).unwrap_or(name)
}

/// Whether a name leads to where the list does not look: into a subfolder, or to another folder.
///
/// Only the stage can tell if such a file is there. What climbs out of its folder is never good.
///
/// # Source
/// `sub/x.png` and `x.png [output]` are names that ComfyUI's image loaders take.
pub(super) fn leads_elsewhere(name: &str) -> bool {
    let path = FOLDERS.iter().find_map(|folder| name.strip_suffix(folder));
    let is_clean = |path: &str| {
        let is_plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\0', '\\']);
        path.split('/').all(is_plain)
    };
    match path {
        Some(path) => is_clean(path),
        None => name.contains('/') && is_clean(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_stay_inside_are_taken_on_trust() {
        for (name, expected) in [
            ("x.png", false),
            ("sub/x.png", true),
            ("sub/deep/x.png [temp]", true),
            ("x.png [output]", true),
            ("x.png [models]", false),
            ("../x.png", false),
            ("sub/../../x.png [output]", false),
            ("/etc/passwd", false),
            ("a\\b/x.png", false),
            ("sub//x.png", false),
            ("", false),
            (" [output]", false),
        ] {
            assert_eq!(leads_elsewhere(name), expected, "{name}");
        }
        assert_eq!(listed_name("x.png [input]"), "x.png");
    }
}
