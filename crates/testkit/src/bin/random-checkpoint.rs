//! Writes a reproducible random checkpoint: `random-checkpoint KIND OUT`.

use std::path::PathBuf;

use comfy_testkit::random_checkpoint::LAYOUTS;

fn main() -> anyhow::Result<()> {
    let kinds = LAYOUTS.map(|layout| layout.name).join("|");
    let mut arguments = std::env::args().skip(1);
    let (Some(kind), Some(out), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: random-checkpoint {kinds} OUT");
    };
    let Some(layout) = LAYOUTS.iter().find(|layout| layout.name == kind) else {
        anyhow::bail!("unknown kind `{kind}`, expected one of {kinds}");
    };
    layout.write(&PathBuf::from(out))?;
    Ok(())
}
