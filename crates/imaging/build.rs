//! Lets the binary and the tests find an ImageMagick outside the system's library folders.

fn main() {
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");
    let asked = std::process::Command::new("pkg-config").args(["--variable=libdir", "MagickWand"]).output();
    // Without pkg-config's answer the link step fails anyway, with magick_rust's own message.
    let Ok(answer) = asked else { return };
    let folder = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
    if answer.status.success() && !folder.is_empty() && !folder.starts_with("/usr/") {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{folder}");
    }
}
