//! Writes a reproducible random checkpoint: `random-checkpoint KIND OUT`.

use std::path::PathBuf;

use comfy_testkit::random_checkpoint::{CONTROL_FILES, LAYOUTS};

fn main() -> anyhow::Result<()> {
    let names = LAYOUTS.map(|layout| layout.name).into_iter().chain(CONTROL_FILES.map(|file| file.name));
    let kinds = names.collect::<Vec<_>>().join("|");
    let mut arguments = std::env::args().skip(1);
    let (Some(kind), Some(out), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: random-checkpoint {kinds} OUT");
    };
    if let Some(file) = CONTROL_FILES.iter().find(|file| file.name == kind) {
        return Ok(file.write(&PathBuf::from(out))?);
    }
    let Some(layout) = LAYOUTS.iter().find(|layout| layout.name == kind) else {
        anyhow::bail!("unknown kind `{kind}`, expected one of {kinds}");
    };
    layout.write(&PathBuf::from(out))?;
    Ok(())
}
