//! Files on their way to their names, and what a process that was killed leaves of them.
//!
//! A scratch file lies beside where it will be, so that it can be renamed. It is locked as long as somebody writes it,
//! and a note says where it is: on the next start, files whose notes are there and whose locks are not are left over.

use crate::folders::{FolderError, replace, tempname};
use comfy_graph::Digest;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A file on its way to [`Saves::save_file`](crate::Saves::save_file); what is left of it goes with this value.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    note: PathBuf,
    // Holds the lock.
    _file: File,
}

impl Scratch {
    /// Makes the file, and the note in the folder of notes.
    pub(crate) fn create(notes: &Path, directory: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        // The note outlives the folder that the process was started in.
        let path = std::path::absolute(tempname(&directory.join("scratch")))?;
        let bytes = path.as_os_str().as_encoded_bytes();
        let note = notes.join(Digest::of(bytes).to_string());
        replace(&note, bytes)?;
        let file = File::create(&path)?;
        // The file is as good without, where the file system knows no locks.
        let _ = file.lock();
        Ok(Self { path, note, _file: file })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Usually the file has its new name by now and nothing is left.
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_file(&self.note);
    }
}

/// Removes the scratch files that nobody writes any more; another stage may be writing some.
pub(crate) fn remove_left_over(notes: &Path) -> Result<(), FolderError> {
    let failed = |source| FolderError::Io { name: "scratch".into(), source };
    std::fs::create_dir_all(notes).map_err(failed)?;
    for entry in std::fs::read_dir(notes).map_err(failed)?.flatten() {
        let Ok(place) = std::fs::read_to_string(entry.path()) else { continue };
        let path = Path::new(&place);
        // Whatever a note says, only what looks like a scratch file is removed.
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_scratch = name.starts_with(".scratch.") && name.ends_with(".part");
        // Where the file system knows no locks, what is left over stays.
        let locked = || File::open(path).is_ok_and(|file| file.try_lock().is_err());
        if is_scratch && !locked() {
            let _ = std::fs::remove_file(path);
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_is_written_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (notes, output) = (dir.path().join("notes"), dir.path().join("output"));
        remove_left_over(&notes).unwrap();
        let written = Scratch::create(&notes, &output).unwrap();
        std::fs::write(written.path(), b"half").unwrap();
        // A killed process removes nothing, and its locks go.
        let killed = Scratch::create(&notes, &output.join("models")).unwrap();
        std::fs::write(killed.path(), b"half").unwrap();
        let (left, note) = (killed.path().to_owned(), std::fs::read(&killed.note).unwrap());
        let note_path = killed.note.clone();
        drop(killed);
        assert!(!left.exists() && !note_path.exists());
        std::fs::write(&left, b"half").unwrap();
        std::fs::write(&note_path, note).unwrap();
        // A note that names something else removes nothing.
        let precious = dir.path().join("precious.png");
        std::fs::write(&precious, b"x").unwrap();
        std::fs::write(notes.join("forged"), precious.to_str().unwrap()).unwrap();

        remove_left_over(&notes).unwrap();
        assert!(!left.exists() && !note_path.exists());
        assert!(written.path().exists() && precious.exists());
        let path = written.path().to_owned();
        drop(written);
        assert!(!path.exists());
    }
}
