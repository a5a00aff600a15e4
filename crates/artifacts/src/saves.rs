//! Saving numbered files exactly once, whatever crashes in between.
//!
//! A node that saves may be run again after a crash. Its second run must find the files of the first instead of
//! adding more. So the chosen names are written down, durably, before the files are; a later attempt for the same
//! job and node adopts them.

use crate::folders::{Folder, FolderError, Folders, NamedFile, move_new, replace, write_new};
use crate::scratch::{Scratch, remove_left_over};
use comfy_graph::Digest;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

/// Who saves: one node of one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaveKey {
    pub job: String,
    pub node: String,
}

/// Saves numbered files and remembers who saved what.
#[derive(Debug)]
pub struct Saves {
    folders: Folders,
    manifests: PathBuf,
    // Choosing the next number is a read followed by a write.
    choosing: Mutex<()>,
}

/// Where it is written down, below the other notes, which files are being written.
const SCRATCH_NOTES: &str = "scratch";

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    files: Vec<NamedFile>,
    digests: Vec<Digest>,
    done: bool,
}

impl Saves {
    /// Keeps its notes under `<artifacts root>/saves`. Notes older than a week are removed: no job runs that long. So is
    /// what a killed process left half written.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(folders: Folders, artifacts_root: &Path) -> Result<Self, FolderError> {
        let manifests = artifacts_root.join("saves");
        std::fs::create_dir_all(&manifests).map_err(|source| io("saves", source))?;
        remove_older_than(&manifests, Duration::from_secs(7 * 24 * 3600));
        remove_left_over(&manifests.join(SCRATCH_NOTES))?;
        Ok(Self { folders, manifests, choosing: Mutex::new(()) })
    }

    pub fn folders(&self) -> &Folders {
        &self.folders
    }

    /// Saves files as `<prefix>_<number><suffix>`, numbered from one above the highest number in the folder, and
    /// returns their names. Saving the same content for the same key again changes nothing and returns the same
    /// names.
    ///
    /// # Errors
    /// When the prefix leads out of the folder or the disk fails.
    pub fn save(
        &self,
        key: &SaveKey,
        series: &Series<'_>,
        contents: &[Vec<u8>],
    ) -> Result<Vec<NamedFile>, FolderError> {
        let note = self.note(key);
        let digests: Vec<Digest> = contents.iter().map(|c| Digest::of(c)).collect();
        let _guard = self.choosing.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let earlier = std::fs::read(&note).ok().and_then(|b| serde_json::from_slice::<Manifest>(&b).ok());
        let mut manifest = match earlier {
            Some(manifest) if manifest.digests == digests => manifest,
            _ => Manifest { files: self.choose(series, contents.len(), 0)?, digests, done: false },
        };
        if manifest.done && manifest.files.iter().all(|f| self.folders.exists(f)) {
            return Ok(manifest.files);
        }
        let mut beyond = 0;
        loop {
            write_note(&note, &manifest)?;
            if self.write_all(&manifest.files, contents)? {
                break;
            }
            // Somebody else took a name after it was chosen.
            beyond += 1;
            manifest.files = self.choose(series, contents.len(), beyond)?;
        }
        manifest.done = true;
        write_note(&note, &manifest)?;
        Ok(manifest.files)
    }

    /// A new file, for content too large for memory; written, it goes to [`Saves::save_file`].
    ///
    /// # Errors
    /// When the prefix leads out of the folder or the disk fails.
    pub fn scratch(&self, series: &Series<'_>) -> Result<Scratch, FolderError> {
        let subfolder = series.prefix.rsplit_once('/').map_or("", |(subfolder, _)| subfolder);
        let directory = self.folders.directory(series.folder, subfolder)?;
        Scratch::create(&self.manifests.join(SCRATCH_NOTES), &directory)
            .map_err(|source| io(subfolder, source))
    }

    /// As [`Saves::save`] for one file that has been written already.
    ///
    /// # Errors
    /// When the prefix leads out of the folder or the disk fails.
    pub fn save_file(
        &self,
        key: &SaveKey,
        series: &Series<'_>,
        scratch: Scratch,
    ) -> Result<NamedFile, FolderError> {
        let digest_of = |path: &Path| {
            std::fs::File::open(path).and_then(Digest::of_reader).map_err(|source| io(series.prefix, source))
        };
        let (note, digest) = (self.note(key), digest_of(scratch.path())?);
        let _guard = self.choosing.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let earlier = std::fs::read(&note).ok().and_then(|b| serde_json::from_slice::<Manifest>(&b).ok());
        let digests = vec![digest];
        let mut manifest = match earlier {
            Some(manifest) if manifest.digests == digests && manifest.files.len() == 1 => manifest,
            _ => Manifest { files: self.choose(series, 1, 0)?, digests, done: false },
        };
        for beyond in 1.. {
            write_note(&note, &manifest)?;
            let path = self.folders.path(&manifest.files[0])?;
            match move_new(scratch.path(), &path) {
                Ok(()) => break,
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    if digest_of(&path)? == manifest.digests[0] {
                        break;
                    }
                    // Somebody else took a name after it was chosen.
                    manifest.files = self.choose(series, 1, beyond)?;
                }
                Err(source) => return Err(io(&manifest.files[0].filename, source)),
            }
        }
        manifest.done = true;
        write_note(&note, &manifest)?;
        Ok(manifest.files.remove(0))
    }

    /// Where it is written down what a node of a job saves.
    fn note(&self, key: &SaveKey) -> PathBuf {
        let digest = Digest::of(format!("{}\0{}", key.job, key.node).as_bytes());
        self.manifests.join(format!("{digest}.json"))
    }

    fn choose(&self, series: &Series<'_>, count: usize, beyond: u64) -> Result<Vec<NamedFile>, FolderError> {
        let (subfolder, stem) = series.prefix.rsplit_once('/').unwrap_or(("", series.prefix));
        let directory = self.folders.directory(series.folder, subfolder)?;
        let first = highest_number(&directory, stem) + 1 + beyond;
        (first..)
            .take(count)
            .map(|number| {
                let filename = format!("{stem}_{number:05}{}", series.suffix);
                let file = NamedFile { filename, subfolder: subfolder.into(), folder: series.folder };
                self.folders.path(&file).map(|_| file)
            })
            .collect()
    }

    /// Writes the files; `false` when a name is taken by other content.
    fn write_all(&self, files: &[NamedFile], contents: &[Vec<u8>]) -> Result<bool, FolderError> {
        for (file, content) in files.iter().zip(contents) {
            let path = self.folders.path(file)?;
            match write_new(&path, content) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    let there = std::fs::read(&path).map_err(|source| io(&file.filename, source))?;
                    if there != *content {
                        return Ok(false);
                    }
                }
                Err(source) => return Err(io(&file.filename, source)),
            }
        }
        Ok(true)
    }
}

/// Where numbered files go: `prefix` may hold subfolders, `suffix` is what follows the number (`_.png`).
#[derive(Debug, Clone, Copy)]
pub struct Series<'a> {
    pub folder: Folder,
    pub prefix: &'a str,
    pub suffix: &'a str,
}

fn io(name: &str, source: std::io::Error) -> FolderError {
    FolderError::Io { name: name.into(), source }
}

fn write_note(path: &Path, manifest: &Manifest) -> Result<(), FolderError> {
    let bytes = serde_json::to_vec(manifest).expect("names and digests are plain JSON");
    replace(path, &bytes).map_err(|source| io("save note", source))
}

/// Finds the highest number of `<stem>_<number>_...` in a folder.
///
/// # Source
/// ComfyUI numbers by the digits between the prefix and the next underscore and ignores letter case.
fn highest_number(directory: &Path, stem: &str) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let wanted = format!("{}_", stem.to_lowercase());
    let number = |name: String| -> Option<u64> {
        let lower = name.to_lowercase();
        lower.strip_prefix(&wanted)?.split(['_', '.']).next()?.parse().ok()
    };
    entries.flatten().filter_map(|e| e.file_name().into_string().ok().and_then(number)).max().unwrap_or(0)
}

fn remove_older_than(directory: &Path, age: Duration) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    let limit = SystemTime::now() - age;
    for entry in entries.flatten() {
        if entry.metadata().and_then(|m| m.modified()).is_ok_and(|t| t < limit) {
            // Leaving an old note behind does no harm.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saves(dir: &Path) -> Saves {
        let folders = Folders::open(&dir.join("input"), &dir.join("output"), &dir.join("temp")).unwrap();
        Saves::open(folders, &dir.join("artifacts")).unwrap()
    }

    fn series(prefix: &str) -> Series<'_> {
        Series { folder: Folder::Output, prefix, suffix: "_.png" }
    }

    fn key(job: &str) -> SaveKey {
        SaveKey { job: job.into(), node: "9".into() }
    }

    fn names(files: &[NamedFile]) -> Vec<&str> {
        files.iter().map(|f| f.filename.as_str()).collect()
    }

    #[test]
    fn numbers_go_on_and_a_repeat_adds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let saves = saves(dir.path());
        let two = [b"a".to_vec(), b"b".to_vec()];
        let first = saves.save(&key("1"), &series("ComfyUI"), &two).unwrap();
        assert_eq!(names(&first), ["ComfyUI_00001_.png", "ComfyUI_00002_.png"]);
        assert_eq!(saves.save(&key("1"), &series("ComfyUI"), &two).unwrap(), first);
        let second = saves.save(&key("2"), &series("ComfyUI"), &two[..1]).unwrap();
        assert_eq!(names(&second), ["ComfyUI_00003_.png"]);
        let sub = saves.save(&key("3"), &series("a/b/x"), &two[..1]).unwrap();
        assert_eq!((names(&sub)[0], sub[0].subfolder.as_str()), ("x_00001_.png", "a/b"));
        assert!(saves.save(&key("4"), &series("../x"), &two[..1]).is_err());
    }

    #[test]
    fn a_written_file_is_saved_once() {
        let dir = tempfile::tempdir().unwrap();
        let saves = saves(dir.path());
        let save = |job: &str, content: &[u8]| {
            let series = Series { suffix: "_.safetensors", ..series("models/x") };
            let scratch = saves.scratch(&series).unwrap();
            std::fs::write(scratch.path(), content).unwrap();
            saves.save_file(&key(job), &series, scratch).unwrap().filename
        };
        assert_eq!(save("1", b"a"), "x_00001_.safetensors");
        assert_eq!(save("1", b"a"), "x_00001_.safetensors");
        assert_eq!(save("2", b"b"), "x_00002_.safetensors");
        let folder = dir.path().join("output/models");
        assert_eq!(std::fs::read(folder.join("x_00002_.safetensors")).unwrap(), b"b");
        // Nothing is left of what was on its way.
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), 2);
        let outside = Series { folder: Folder::Output, prefix: "../x", suffix: "_.safetensors" };
        assert!(saves.scratch(&outside).is_err());
    }

    #[test]
    fn an_interrupted_save_is_finished_under_the_same_names() {
        let dir = tempfile::tempdir().unwrap();
        let contents = [b"a".to_vec(), b"b".to_vec()];
        let first = saves(dir.path()).save(&key("1"), &series("x"), &contents).unwrap();
        // As after a crash between the first and the second file: the note is there, not done, one file is missing.
        std::fs::remove_file(dir.path().join("output/x_00002_.png")).unwrap();
        let again = saves(dir.path()).save(&key("1"), &series("x"), &contents).unwrap();
        assert_eq!(first, again);
        assert_eq!(std::fs::read_dir(dir.path().join("output")).unwrap().count(), 2);
    }
}
