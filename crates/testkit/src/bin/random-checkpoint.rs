//! Writes a reproducible random checkpoint: `random-checkpoint tiny|sd15 OUT`.

use std::path::PathBuf;

use comfy_testkit::random_checkpoint::{write_sd15, write_tiny};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(size), Some(out), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: random-checkpoint tiny|sd15 OUT");
    };
    let out = PathBuf::from(out);
    match size.as_str() {
        "tiny" => write_tiny(&out)?,
        "sd15" => write_sd15(&out)?,
        other => anyhow::bail!("unknown size `{other}`, expected `tiny` or `sd15`"),
    }
    Ok(())
}
