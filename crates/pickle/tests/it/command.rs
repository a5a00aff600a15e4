//! The program that converts in a process of its own.

use crate::{archive, fixtures};
use std::path::Path;
use std::process::{Command, Output};

fn run(input: &Path, output: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pickle-convert")).arg(input).arg(output).args(more).output().unwrap()
}

#[test]
fn a_file_is_converted() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.safetensors");
    let done = run(&fixtures::folder().join("zip.pt"), &output, &["60"]);
    assert!(done.status.success(), "{done:?}");
    let bytes = std::fs::read(&output).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap().len();
    assert_eq!(String::from_utf8(done.stdout).unwrap(), format!("{tensors} tensors\n"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
}

#[test]
fn a_hostile_file_is_refused_in_one_line_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in.ckpt");
    std::fs::write(&input, archive::archive(b"\x80\x02cos\nsystem\nX\x0b\0\0\0touch ownedo.")).unwrap();
    let done = run(&input, &folder.path().join("out.safetensors"), &[]);
    assert_eq!(done.status.code(), Some(2), "{done:?}");
    let message = String::from_utf8(done.stderr).unwrap();
    assert!(message.contains("`os.system`") && message.trim_end().lines().count() == 1, "{message}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn wrong_use_is_explained() {
    let done = Command::new(env!("CARGO_BIN_EXE_pickle-convert")).output().unwrap();
    assert_eq!(done.status.code(), Some(3));
    assert!(String::from_utf8(done.stderr).unwrap().contains("usage"));
    let gone = run(Path::new("no/such/file.ckpt"), Path::new("out"), &[]);
    assert!(gone.status.code() == Some(3) && String::from_utf8(gone.stderr).unwrap().contains("cannot read"));
}

/// The limits bind: a file that may not grow over a few bytes cannot be written.
#[cfg(target_os = "linux")]
#[test]
fn limits_hold() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (fixtures::folder().join("zip.pt"), folder.path().join("out.safetensors"));
    let program = env!("CARGO_BIN_EXE_pickle-convert");
    // A lower limit that the caller set stays in force.
    let script = format!("ulimit -f 1; exec {program} {} {}", input.display(), output.display());
    let done = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(!done.status.success(), "{done:?}");
    assert!(!output.exists());
}
