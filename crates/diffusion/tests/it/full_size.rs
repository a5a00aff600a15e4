//! The full-size SD1.5 layout; 2 GB of file and 6 GB of memory, so only on request.

use std::path::PathBuf;

use crate::models::{Parts, sha256};
use crate::random_checkpoint::{SD15, write_sd15};
use crate::reference::Reference;

/// Runs with `COMFY_TEST_FULL=1`; `COMFY_TEST_SD15` names the file, which is written if it is not there.
#[test]
fn sd15_agrees() {
    if std::env::var("COMFY_TEST_FULL").as_deref() != Ok("1") {
        println!("skipped: set COMFY_TEST_FULL=1 to run the full-size model");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = std::env::var_os("COMFY_TEST_SD15")
        .map_or_else(|| folder.path().join("sd15.safetensors"), PathBuf::from);
    if !path.exists() {
        write_sd15(&path).unwrap();
    }
    assert_eq!(sha256(&path), SD15.sha256);
    let started = std::time::Instant::now();
    let parts = Parts::load(&path);
    println!("loaded in {:?}", started.elapsed());
    let reference = Reference::load("sd15.safetensors");
    reference.check_text(&parts);
    reference.check_unet(&parts);
    reference.check_vae(&parts);
}
