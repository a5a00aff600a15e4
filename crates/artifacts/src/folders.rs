//! The folders that people see: `input`, `output` and `temp`.

use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

/// One of ComfyUI's folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Folder {
    Input,
    Output,
    Temp,
}

impl Folder {
    pub const ALL: [Folder; 3] = [Folder::Input, Folder::Output, Folder::Temp];

    pub fn as_str(self) -> &'static str {
        match self {
            Folder::Input => "input",
            Folder::Output => "output",
            Folder::Temp => "temp",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|f| f.as_str() == name)
    }
}

/// A file of a folder, as ComfyUI's API names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedFile {
    pub filename: String,
    pub subfolder: String,
    #[serde(rename = "type")]
    pub folder: Folder,
}

/// Where the folders are on disk.
#[derive(Debug, Clone)]
pub struct Folders {
    input: PathBuf,
    output: PathBuf,
    temp: PathBuf,
}

/// Why a name does not lead to a file.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("`{0}` leads out of its folder")]
    Outside(String),
    #[error("`{0}` is not a file name")]
    BadName(String),
    #[error("there is no file `{0}`")]
    NotFound(String),
    #[error("`{name}` cannot be read or written")]
    Io { name: String, source: std::io::Error },
}

impl Folders {
    /// Uses three folders, which are made if they are missing.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn open(input: &Path, output: &Path, temp: &Path) -> Result<Self, FolderError> {
        for path in [input, output, temp] {
            std::fs::create_dir_all(path)
                .map_err(|source| FolderError::Io { name: path.display().to_string(), source })?;
        }
        Ok(Self { input: input.into(), output: output.into(), temp: temp.into() })
    }

    pub fn root(&self, folder: Folder) -> &Path {
        match folder {
            Folder::Input => &self.input,
            Folder::Output => &self.output,
            Folder::Temp => &self.temp,
        }
    }

    /// Finds the folder on disk of a subfolder.
    ///
    /// # Errors
    /// When the subfolder is absolute, climbs with `..` or holds a NUL.
    pub fn directory(&self, folder: Folder, subfolder: &str) -> Result<PathBuf, FolderError> {
        let mut path = self.root(folder).to_path_buf();
        for component in Path::new(subfolder).components() {
            match component {
                Component::Normal(part) if !subfolder.contains('\0') => path.push(part),
                Component::CurDir => {}
                _ => return Err(FolderError::Outside(subfolder.into())),
            }
        }
        Ok(path)
    }

    /// Finds the path on disk of a file, which need not exist.
    ///
    /// # Errors
    /// As [`Folders::directory`], and when the file name is not a plain name.
    pub fn path(&self, file: &NamedFile) -> Result<PathBuf, FolderError> {
        let name = Path::new(&file.filename);
        let plain = name.components().count() == 1
            && matches!(name.components().next(), Some(Component::Normal(_)))
            && !file.filename.contains(['\0', '\\', '/']);
        if !plain {
            return Err(FolderError::BadName(file.filename.clone()));
        }
        Ok(self.directory(file.folder, &file.subfolder)?.join(name))
    }

    /// Whether the file is there.
    pub fn exists(&self, file: &NamedFile) -> bool {
        self.path(file).is_ok_and(|path| path.is_file())
    }

    /// Reads a file whole.
    ///
    /// # Errors
    /// When the name is bad, the file is missing, leads outside through a link, or cannot be read.
    pub fn read(&self, file: &NamedFile) -> Result<Vec<u8>, FolderError> {
        let path = self.path(file)?;
        let io = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::NotFound => FolderError::NotFound(file.filename.clone()),
            _ => FolderError::Io { name: file.filename.clone(), source },
        };
        let real = path.canonicalize().map_err(io)?;
        let root = self.root(file.folder).canonicalize().map_err(io)?;
        if !real.starts_with(root) {
            return Err(FolderError::Outside(file.filename.clone()));
        }
        std::fs::read(real).map_err(io)
    }

    /// Lists the files of a folder with a fingerprint that changes when the file does, sorted by name, `/` between
    /// the parts. Files of subfolders are included when `recurse` is set.
    pub fn list(&self, folder: Folder, recurse: bool) -> Vec<(String, String)> {
        let mut found = Vec::new();
        list_into(self.root(folder), "", recurse, &mut found);
        found.sort();
        found
    }
}

/// Reads how a person names an input file: `cat.png`, `sub/cat.png` or `cat.png [output]`.
///
/// # Source
/// The annotations that ComfyUI's `/view` and image loaders accept.
pub fn parse_annotated(name: &str) -> NamedFile {
    let (path, folder) = Folder::ALL
        .into_iter()
        .find_map(|f| name.strip_suffix(&format!(" [{}]", f.as_str())).map(|path| (path, f)))
        .unwrap_or((name, Folder::Input));
    let (subfolder, filename) = path.rsplit_once('/').unwrap_or(("", path));
    NamedFile { filename: filename.into(), subfolder: subfolder.into(), folder }
}

/// A text that changes whenever a file is replaced or edited: its length and modification time.
pub fn fingerprint(metadata: &std::fs::Metadata) -> String {
    let modified =
        metadata.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    format!("{}-{}", metadata.len(), modified.as_nanos())
}

fn list_into(root: &Path, prefix: &str, recurse: bool, found: &mut Vec<(String, String)>) {
    let Ok(entries) = std::fs::read_dir(root.join(prefix)) else { return };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Ok(metadata) = std::fs::metadata(entry.path()) else { continue };
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
        if name.starts_with('.') {
            continue;
        }
        if metadata.is_file() {
            found.push((path, fingerprint(&metadata)));
        } else if recurse && metadata.is_dir() && !entry.file_type().is_ok_and(|t| t.is_symlink()) {
            list_into(root, &path, recurse, found);
        }
    }
}

/// Writes a file so that it is either absent or whole, and on disk when this returns. Refuses to replace a file.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let directory = path.parent().ok_or(std::io::ErrorKind::InvalidInput)?;
    std::fs::create_dir_all(directory)?;
    let temporary = tempname(path);
    let result = write_synced(&temporary, bytes).and_then(|()| std::fs::hard_link(&temporary, path));
    // The temporary name goes whether or not the link was made.
    let removed = std::fs::remove_file(&temporary);
    result?;
    removed?;
    std::fs::File::open(directory)?.sync_all()
}

/// Gives a written file a name that nobody has yet; the old name goes.
pub(crate) fn move_new(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::File::open(from)?.sync_all()?;
    std::fs::hard_link(from, to)?;
    std::fs::remove_file(from)?;
    let directory = to.parent().ok_or(std::io::ErrorKind::InvalidInput)?;
    std::fs::File::open(directory)?.sync_all()
}

/// Writes a file so that readers see the old or the new content, never a mixture.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let directory = path.parent().ok_or(std::io::ErrorKind::InvalidInput)?;
    std::fs::create_dir_all(directory)?;
    let temporary = tempname(path);
    write_synced(&temporary, bytes)?;
    std::fs::rename(&temporary, path)?;
    std::fs::File::open(directory)?.sync_all()
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = std::fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

pub(crate) fn tempname(path: &Path) -> PathBuf {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unique = NEXT.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".{name}.{}-{unique}.part", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_folder() {
        let dir = tempfile::tempdir().unwrap();
        let folders =
            Folders::open(&dir.path().join("i"), &dir.path().join("o"), &dir.path().join("t")).unwrap();
        let file = |subfolder: &str, filename: &str| NamedFile {
            filename: filename.into(),
            subfolder: subfolder.into(),
            folder: Folder::Output,
        };
        for (subfolder, filename) in [
            ("..", "x"),
            ("a/../../b", "x"),
            ("/etc", "passwd"),
            ("", "../x"),
            ("", "a/b"),
            ("", ".."),
            ("", ""),
            ("", "a\\b"),
            ("", "a\0b"),
            ("a\0", "b"),
        ] {
            assert!(folders.path(&file(subfolder, filename)).is_err(), "{subfolder:?} {filename:?}");
        }
        assert_eq!(folders.path(&file("./a", "x.png")).unwrap(), dir.path().join("o/a/x.png"));

        std::fs::write(dir.path().join("secret"), "s").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), dir.path().join("o/link.png")).unwrap();
        assert!(matches!(folders.read(&file("", "link.png")), Err(FolderError::Outside(_))));
    }

    #[test]
    fn annotated_names() {
        for (text, filename, subfolder, folder) in [
            ("cat.png", "cat.png", "", Folder::Input),
            ("a/b/cat.png [output]", "cat.png", "a/b", Folder::Output),
            ("cat [x].png", "cat [x].png", "", Folder::Input),
        ] {
            let want = NamedFile { filename: filename.into(), subfolder: subfolder.into(), folder };
            assert_eq!(parse_annotated(text), want);
        }
    }
}
