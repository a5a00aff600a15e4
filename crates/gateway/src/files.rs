//! Paths that a client may name: always inside their folder.
//!
//! A name is checked twice: as text (no `..`, no absolute path, no backslash) and on disk after links are followed.

use crate::error::ApiError;
use axum::http::StatusCode;
use std::path::{Component, Path, PathBuf};

/// One of ComfyUI's three picture folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, utoipa::ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum FolderKind {
    Input,
    Output,
    Temp,
}

impl FolderKind {
    pub const NAMES: &'static str = "`input`, `output`, `temp`";

    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "input" => Self::Input,
            "output" => Self::Output,
            "temp" => Self::Temp,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
            Self::Temp => "temp",
        }
    }
}

/// Where the picture folders are.
#[derive(Debug, Clone)]
pub struct Folders {
    pub input: PathBuf,
    pub output: PathBuf,
    pub temp: PathBuf,
}

impl Folders {
    pub fn root(&self, kind: FolderKind) -> &Path {
        match kind {
            FolderKind::Input => &self.input,
            FolderKind::Output => &self.output,
            FolderKind::Temp => &self.temp,
        }
    }
}

/// Why a name leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("`{0}` is not a usable name")]
    Invalid(String),
    #[error("`{0}` is outside its folder")]
    Outside(String),
    #[error("`{0}` does not exist")]
    Missing(String),
    #[error("`{path}` cannot be read: {reason}")]
    Io { path: String, reason: String },
}

impl From<PathError> for ApiError {
    fn from(error: PathError) -> Self {
        let message = error.to_string();
        match error {
            PathError::Invalid(_) => ApiError::bad_request(message),
            PathError::Outside(_) => ApiError::new(StatusCode::FORBIDDEN, "forbidden", message),
            PathError::Missing(_) => ApiError::not_found(message),
            PathError::Io { .. } => ApiError::internal(message),
        }
    }
}

/// Checks a relative path as text. An empty one names the folder itself.
pub fn relative(text: &str) -> Result<PathBuf, PathError> {
    if text.contains(['\0', '\\']) || text.len() > 1024 || text.chars().any(char::is_control) {
        return Err(PathError::Invalid(text.escape_debug().to_string()));
    }
    let mut path = PathBuf::new();
    for component in Path::new(text).components() {
        match component {
            // A colon would be a drive or an alternate stream on some systems.
            Component::Normal(part) if !part.to_string_lossy().contains(':') => path.push(part),
            Component::Normal(_) => return Err(PathError::Invalid(text.into())),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(PathError::Outside(text.into()));
            }
        }
    }
    Ok(path)
}

/// Checks the name of a file: one plain component.
pub fn file_name(text: &str) -> Result<&str, PathError> {
    let plain = relative(text).ok().filter(|path| path.components().count() == 1 && !text.contains('/'));
    match plain {
        Some(_) if text.len() <= 240 => Ok(text),
        _ => Err(PathError::Invalid(text.escape_debug().to_string())),
    }
}

/// Finds something that exists below a root.
///
/// # Errors
/// `Outside` when links lead out of the root, `Missing` when nothing is there.
pub fn existing(root: &Path, relative: &Path) -> Result<PathBuf, PathError> {
    let name = || relative.display().to_string();
    let real = |path: &Path| {
        path.canonicalize().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => PathError::Missing(name()),
            std::io::ErrorKind::InvalidFilename => PathError::Invalid(name()),
            _ => PathError::Io { path: name(), reason: error.to_string() },
        })
    };
    let real_root = real(root)?;
    let real_path = real(&root.join(relative))?;
    if real_path.starts_with(&real_root) { Ok(real_path) } else { Err(PathError::Outside(name())) }
}

/// Finds something that exists below a root and is reached without following a link: the files of a person are not
/// places that lead elsewhere, not even to another place below the root.
///
/// # Errors
/// `Outside` when there is a link on the way, `Missing` when nothing is there.
pub fn without_links(root: &Path, relative: &Path) -> Result<PathBuf, PathError> {
    let found = existing(root, relative)?;
    let mut straight = existing(root, Path::new(""))?;
    straight.extend(relative.components());
    if found == straight { Ok(found) } else { Err(PathError::Outside(relative.display().to_string())) }
}

/// Finds where something new may be written below a root; makes the root and the folders in between.
///
/// # Errors
/// `Outside` when links lead out of the root.
pub fn for_writing(root: &Path, relative: &Path) -> Result<PathBuf, PathError> {
    let name = || relative.display().to_string();
    let io = |error: std::io::Error| PathError::Io { path: name(), reason: error.to_string() };
    let file = relative.file_name().ok_or_else(|| PathError::Invalid(name()))?;
    std::fs::create_dir_all(root).map_err(io)?;
    // Folders are made one by one, so that a link is seen before anything is made behind it.
    let mut parent = PathBuf::new();
    for part in relative.parent().into_iter().flat_map(Path::components) {
        parent.push(part);
        match existing(root, &parent) {
            Ok(path) if path.is_dir() => {}
            Ok(_) => return Err(PathError::Invalid(name())),
            Err(PathError::Missing(_)) => std::fs::create_dir(root.join(&parent)).map_err(io)?,
            Err(error) => return Err(error),
        }
    }
    let target = existing(root, &parent)?.join(file);
    match existing(root, relative) {
        Ok(_) | Err(PathError::Missing(_)) => Ok(target),
        Err(error) => Err(error),
    }
}

/// Writes a file so that a reader sees the old content or the new one, never a half.
pub fn write_atomically(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let partial = path.with_file_name(format!(".{name}.{}.partial", uuid::Uuid::new_v4().simple()));
    let written = std::fs::write(&partial, content).and_then(|()| std::fs::rename(&partial, path));
    if written.is_err() {
        // Nothing more can be done about a partial file that cannot be removed either.
        let _ = std::fs::remove_file(&partial);
    }
    written
}

/// Runs file work on a thread that may block.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => {
            tracing::error!(%error, "file work panicked");
            Err(ApiError::internal("file work failed"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_stay_inside() {
        for (text, path) in [("", ""), ("a/b.png", "a/b.png"), ("./a//b", "a/b"), ("a..b", "a..b")] {
            assert_eq!(relative(text), Ok(PathBuf::from(path)), "{text}");
        }
        for text in ["..", "../a", "a/../b", "/etc/passwd", "//x"] {
            assert!(matches!(relative(text), Err(PathError::Outside(_))), "{text}");
        }
        for text in ["a\0b", "..\\x", "c:", "a\nb"] {
            assert!(matches!(relative(text), Err(PathError::Invalid(_))), "{text:?}");
        }
    }

    #[test]
    fn file_names_are_one_component() {
        assert_eq!(file_name("x (1).png"), Ok("x (1).png"));
        for text in ["", ".", "..", "a/b", "/a", "a/", "a\\b", "\0"] {
            assert!(file_name(text).is_err(), "{text:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_out_of_the_folder_are_refused() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "s").unwrap();
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), root.path().join("link")).unwrap();
        let secret = Path::new("link/secret");
        assert!(matches!(existing(root.path(), secret), Err(PathError::Outside(_))));
        assert!(matches!(for_writing(root.path(), Path::new("link/new")), Err(PathError::Outside(_))));
        assert!(matches!(for_writing(root.path(), Path::new("link/a/b")), Err(PathError::Outside(_))));
        assert!(!outside.path().join("a").exists());
        assert!(for_writing(root.path(), Path::new("a/b/c")).is_ok());
        std::fs::write(root.path().join("a/here"), "h").unwrap();
        std::os::unix::fs::symlink(root.path().join("a"), root.path().join("inside")).unwrap();
        assert!(existing(root.path(), Path::new("inside/here")).is_ok());
        let inside = without_links(root.path(), Path::new("inside/here"));
        assert!(matches!(inside, Err(PathError::Outside(_))), "{inside:?}");
        assert!(without_links(root.path(), Path::new("a/here")).is_ok());
        let nothing = without_links(root.path(), Path::new("a/gone"));
        assert!(matches!(nothing, Err(PathError::Missing(_))), "{nothing:?}");
    }
}
