//! The shipped policy, seen from a process that starts with it.

use std::process::Command;

use comfy_imaging::{
    Channels, ImagingError, Limits, PixelView, decode, encode_jpeg, encode_png, encode_webp, policy_is_strict,
};

const STRICT: &str = "policy: strict";

/// Says what the policy of this process is. `the_shipped_policy_is_strict` runs it again under the shipped file,
/// because ImageMagick reads policies once, when it starts.
#[test]
fn report() {
    match policy_is_strict() {
        Ok(()) => println!("{STRICT}"),
        Err(error @ ImagingError::PolicyTooOpen { .. }) => println!("policy: {error}"),
        Err(error) => panic!("the check itself failed: {error}"),
    }
    // The three formats work whatever the policy.
    let data: Vec<u8> = (0..64 * 3).collect();
    let view = PixelView::new(8, 8, Channels::Rgb, &data).unwrap();
    for file in [encode_png(view, &[], 4), encode_jpeg(view, 90), encode_webp(view, 90)] {
        decode(&file.unwrap(), &Limits::default()).unwrap();
    }
}

#[test]
fn the_shipped_policy_is_strict() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docker/imagemagick-policy.xml");
    std::fs::copy(shipped, folder.path().join("policy.xml")).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "policy::report", "--nocapture"])
        .env("MAGICK_CONFIGURE_PATH", folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains(STRICT), "{text}");
}
